/** Drawings: strokes of points with times, their JSON, and a drawing in the making with undo and redo. */

const PAUSE = 400; // ms between strokes that have no times of their own
const SPEED = 0.4; // pixels of 255 a millisecond, of strokes without times

/** A drawing whose text cannot be read; its message is for people. */
export class UnreadableDrawing extends Error {}

/**
 * A drawing in the making. A stroke is {x, y, t}: arrays of numbers of equal length, in pixels of a canvas of `side`
 * pixels and in ms since the drawing began. A change is told by the event "change"; `given` is the JSON of a drawing that
 * was loaded and not altered since, or null.
 */
export class Sketch extends EventTarget {
  #past = [];
  #future = [];
  #clock = null; // the time stamp of ms 0
  #now = { strokes: [], side: 0, given: null };

  get strokes() { return this.#now.strokes; }
  get side() { return this.#now.side; }
  get given() { return this.#now.given; }
  get empty() { return this.strokes.length === 0; }
  get canUndo() { return this.#past.length > 0; }
  get canRedo() { return this.#future.length > 0; }

  /** The time of a point in whole ms, for the time stamp of its event. */
  time(stamp) {
    if (this.empty && this.#clock === null) this.#clock = stamp;
    if (this.#clock === null) this.#clock = stamp - PAUSE - this.strokes.at(-1).t.at(-1);
    return Math.round(stamp - this.#clock);
  }

  /** Forget the time of a stroke that was not finished, if it was the first. */
  dropped() {
    if (this.empty) this.#clock = null;
  }

  /** Add a finished stroke, drawn on a canvas of `side` pixels unless there are strokes already. */
  add(stroke, side) {
    this.#put({ strokes: [...this.strokes, stroke], side: this.empty ? side : this.side, given: null });
  }

  clear() {
    if (this.empty) return;
    this.#clock = null;
    this.#put({ strokes: [], side: 0, given: null });
  }

  /** Take a drawing of `parsed`, fitted to a canvas of `side` pixels. */
  load(given, side) {
    this.#clock = null;
    this.#put({ strokes: fitted(given, side), side, given });
  }

  /** What `restore` takes: the drawing with its undo and redo. */
  get memory() {
    return { now: this.#now, past: this.#past, future: this.#future };
  }

  /** Go back to a `memory`, or to an empty drawing. */
  restore({ now = { strokes: [], side: 0, given: null }, past = [], future = [] } = {}) {
    [this.#now, this.#past, this.#future, this.#clock] = [now, past, future, null];
    this.#changed();
  }

  undo() { this.#step(this.#past, this.#future); }
  redo() { this.#step(this.#future, this.#past); }

  /** The drawing as the server takes it: raw strokes [[x…], [y…], [t…]], or the JSON that was loaded. */
  json() {
    return this.given ?? this.strokes.map(({ x, y, t }) => [x, y, t]);
  }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.#now);
    this.#now = from.pop();
    this.#clock = this.empty || this.given ? null : this.#clock;
    this.#changed();
  }

  #put(now) {
    this.#past.push(this.#now);
    this.#future = [];
    this.#now = now;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The strokes of a drawing's JSON in a square of `side` pixels: centred, and with times if it has none. */
export function fitted(given, side, margin = 0.08) {
  const [xs, ys] = [0, 1].map((axis) => given.flatMap((stroke) => stroke[axis]));
  const [left, right, top, bottom] = [least(xs), most(xs), least(ys), most(ys)];
  const scale = ((1 - 2 * margin) * side) / (Math.max(right - left, bottom - top) || 1);
  const [atX, atY] = [(side - (right - left) * scale) / 2, (side - (bottom - top) * scale) / 2];
  const strokes = given.map(([x, y, t]) => ({
    x: x.map((value) => (value - left) * scale + atX),
    y: y.map((value) => (value - top) * scale + atY),
    t: t && t.map(Number),
  }));
  return strokes.every(({ t }) => t) ? strokes : timed(strokes, (SPEED * side) / 255);
}

/** Strokes with the times of a pen of steady speed, in pixels a millisecond. */
function timed(strokes, speed) {
  let clock = 0;
  return strokes.map(({ x, y }) => {
    const t = x.map((_, at) => {
      if (at) clock += Math.hypot(x[at] - x[at - 1], y[at] - y[at - 1]) / speed;
      return Math.round(clock);
    });
    clock += PAUSE;
    return { x, y, t };
  });
}

/**
 * The drawing of a text: Kaggle's JSON, Google's raw JSON, a row of ndjson, or of Kaggle's CSV; of many rows the first.
 * Throws UnreadableDrawing.
 */
export function parsed(text) {
  if (!text.trim()) throw new UnreadableDrawing("There is no text. Paste the JSON of a drawing.");
  const drawing = found(text);
  if (drawing === undefined) {
    throw new UnreadableDrawing("This is no drawing: it needs a list of strokes, such as [[[0, 255], [0, 255]]].");
  }
  const fault = faultOf(drawing);
  if (fault) throw new UnreadableDrawing(`${fault} A stroke is [[x…], [y…]], or [[x…], [y…], [t…]] with times.`);
  return drawing;
}

function found(text) {
  const line = text.split("\n").find((each) => /\[\s*\[\s*\[/.test(each)) ?? "";
  const list = line.match(/\[\s*\[\s*\[.*\]/)?.[0];
  return [text, line, list].map(decoded).find(Array.isArray);
}

function decoded(text) {
  try {
    let value = JSON.parse(text);
    if (value !== null && typeof value === "object" && "drawing" in value) value = value.drawing;
    return typeof value === "string" ? JSON.parse(value) : value;
  } catch {
    return undefined;
  }
}

function faultOf(drawing) {
  if (!drawing.length) return "The drawing has no strokes.";
  const axes = drawing[0]?.length;
  for (const [number, stroke] of drawing.entries()) {
    const name = `Stroke ${number + 1}`;
    if (!Array.isArray(stroke) || !stroke.every(Array.isArray)) return `${name} is not a list of lists.`;
    if (![2, 3].includes(stroke.length) || stroke.length !== axes) return `${name} has ${stroke.length} lists.`;
    if (!stroke[0].length) return `${name} has no points.`;
    if (stroke.some((axis) => axis.length !== stroke[0].length)) return `${name} has lists of unequal length.`;
    if (!stroke.flat().every(Number.isFinite)) return `${name} has a value that is not a number.`;
  }
  return null;
}

function least(values) { return values.reduce((a, b) => Math.min(a, b)); }
function most(values) { return values.reduce((a, b) => Math.max(a, b)); }
