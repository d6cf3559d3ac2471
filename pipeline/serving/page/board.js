/** The canvas that people draw on: pointers, keys, and the picture of the drawing. */

import { fresh, ink } from "./ink.js";

const PEN_REST = 1000; // ms after a pen's event in which a touch is taken for the palm
const STEP = 1 / 40; // of the canvas, an arrow key
const FINE = 1 / 160; // the same with Shift
const LINE = 1 / 105; // width of the pen, of the canvas
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Args: the canvas, the Sketch that it adds strokes to, and what tells people where the keyboard's pen is. */
export class Board {
  #pointer = null; // {id, type} of the pointer that draws
  #stroke = null; // unfinished
  #penAt = -Infinity;
  #held = new Set();
  #cross = null; // the keyboard's pen {x, y}, shares of the canvas
  #keyboard = false; // whether the last input was a key
  #shown = null; // strokes shown in place of the drawing
  #frame = 0;
  #locked = false;
  onstart = () => {};

  constructor(canvas, sketch, tell) {
    [this.canvas, this.sketch, this.tell] = [canvas, sketch, tell];
    const on = (name, does) => canvas.addEventListener(name, does);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#cancel(event));
    on("contextmenu", (event) => event.preventDefault());
    on("keydown", (event) => this.#keydown(event));
    on("keyup", (event) => this.#held.delete(event.key));
    on("blur", () => this.#blur());
    on("focus", () => this.redraw());
    sketch.addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  /** Length of an edge in CSS pixels. */
  get side() { return this.canvas.getBoundingClientRect().width; }
  get drawing() { return this.#stroke !== null; }

  get locked() { return this.#locked; }

  /** While locked, nothing is drawn; an unfinished stroke is kept. */
  set locked(value) {
    if (value && this.drawing) this.#finish();
    this.#locked = value;
    this.canvas.classList.toggle("locked", value);
  }

  /** Show other strokes than the drawing's, on a canvas of as many pixels; null shows the drawing again. */
  show(strokes) {
    this.#shown = strokes;
    this.redraw();
  }

  redraw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const context = fresh(this.canvas);
    const { color, caretColor } = getComputedStyle(this.canvas);
    const side = this.side;
    const unit = this.#unit();
    const strokes = this.#shown ?? [...this.sketch.strokes, ...(this.#stroke ? [this.#stroke] : [])];
    context.save();
    context.scale(unit, unit);
    ink(context, strokes, (side * LINE) / unit, color);
    context.restore();
    document.getElementById("hint").hidden = strokes.length > 0;
    if (this.#keyboard && this.#cross && document.activeElement === this.canvas) {
      this.#drawPen(context, side, caretColor);
    }
  }

  #drawPen(context, side, colour) {
    const [x, y] = [this.#cross.x * side, this.#cross.y * side];
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, 8, 0, 2 * Math.PI);
    for (const [dx, dy] of Object.values(ARROWS)) {
      context.moveTo(x + 8 * dx, y + 8 * dy);
      context.lineTo(x + 14 * dx, y + 14 * dy);
    }
    context.stroke();
    if (this.drawing) {
      context.beginPath();
      context.arc(x, y, 4, 0, 2 * Math.PI);
      context.fill();
    }
  }

  /** CSS pixels of a pixel of the drawing: 1 unless the window was resized since its first stroke. */
  #unit() {
    return this.sketch.side ? this.side / this.sketch.side : 1;
  }

  #begin() {
    this.onstart();
    this.#stroke = { x: [], y: [], t: [] };
  }

  /** Add a point in CSS pixels of the canvas; a pen at rest adds none. */
  #point(x, y, stamp) {
    const [stroke, unit, edge] = [this.#stroke, this.#unit(), this.side];
    const [inX, inY] = [x, y].map((value) => Math.min(Math.max(value, 0), edge) / unit);
    if (stroke.x.at(-1) === inX && stroke.y.at(-1) === inY) return;
    stroke.x.push(inX);
    stroke.y.push(inY);
    stroke.t.push(this.sketch.time(stamp));
    this.redraw();
  }

  #finish() {
    const stroke = this.#stroke;
    [this.#stroke, this.#pointer] = [null, null];
    this.sketch.add(stroke, this.side);
  }

  #drop() {
    [this.#stroke, this.#pointer] = [null, null];
    this.sketch.dropped();
    this.redraw();
  }

  #down(event) {
    if (this.#locked || event.button !== 0) return;
    if (event.pointerType === "pen") this.#penAt = event.timeStamp;
    if (event.pointerType === "touch" && event.timeStamp - this.#penAt < PEN_REST) return;
    if (this.#pointer) {
      if (event.pointerType !== "pen" || this.#pointer.type !== "touch") return;
      this.#drop(); // the palm came first
    }
    if (this.drawing) this.#finish(); // of the keyboard
    this.#keyboard = false;
    this.#pointer = { id: event.pointerId, type: event.pointerType };
    this.canvas.setPointerCapture(event.pointerId);
    this.#begin();
    this.#take(event);
  }

  #move(event) {
    if (event.pointerType === "pen") this.#penAt = event.timeStamp;
    if (event.pointerId !== this.#pointer?.id) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const each of between.length ? between : [event]) this.#take(each);
  }

  #take(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    this.#point(event.clientX - left, event.clientY - top, event.timeStamp);
  }

  #up(event) {
    if (event.pointerId !== this.#pointer?.id) return;
    this.#take(event);
    this.#finish();
  }

  #cancel(event) {
    if (event.pointerId === this.#pointer?.id) this.#drop();
  }

  #keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = event.key in ARROWS;
    const lift = event.key === " " || event.key === "Enter";
    if (!arrow && !lift && event.key !== "Escape") return;
    if (event.key === "Escape" && !this.drawing) return;
    event.preventDefault();
    if (this.#locked || this.#pointer) return;
    this.#keyboard = true;
    this.#cross ??= { x: 0.5, y: 0.5 };
    if (arrow) {
      this.#held.add(event.key);
      this.#step(event.shiftKey ? FINE : STEP, event.timeStamp);
    } else if (this.drawing) {
      this.#finish();
    } else if (lift && !event.repeat) {
      this.#begin();
      this.#mark(event.timeStamp);
    }
    this.#say();
    this.redraw();
  }

  /** Move the keyboard's pen by the arrow keys that are held, two for a diagonal. */
  #step(by, stamp) {
    for (const key of this.#held) {
      this.#cross.x = Math.min(Math.max(this.#cross.x + by * ARROWS[key][0], 0), 1);
      this.#cross.y = Math.min(Math.max(this.#cross.y + by * ARROWS[key][1], 0), 1);
    }
    if (this.drawing) this.#mark(stamp);
  }

  #mark(stamp) {
    this.#point(this.#cross.x * this.side, this.#cross.y * this.side, stamp);
  }

  #say() {
    const [x, y] = [this.#cross.x, this.#cross.y].map((share) => Math.round(100 * share));
    this.tell(`Pen ${this.drawing ? "down" : "up"}, ${x} across, ${y} down`);
  }

  #blur() {
    this.#held.clear();
    if (this.drawing && !this.#pointer) this.#finish();
    this.redraw();
  }
}
