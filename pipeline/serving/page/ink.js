/** Strokes as lines on a canvas; the pen is the canvas's `color`, and its `caret-color` the accent. */

import { fitted } from "./strokes.js";

/** The context of a canvas that is as fine as the screen, cleared; its unit is a CSS pixel. */
export function fresh(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineCap = context.lineJoin = "round";
  return context;
}

/** Draw strokes {x, y} with lines of a width in the context's unit. */
export function ink(context, strokes, width, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = width;
  for (const { x, y } of strokes) {
    context.beginPath();
    context.moveTo(x[0], y[0]);
    for (let at = 1; at < x.length; at++) context.lineTo(x[at], y[at]);
    if (x.every((value) => value === x[0]) && y.every((value) => value === y[0])) {
      context.arc(x[0], y[0], width / 2, 0, 2 * Math.PI);
      context.fill();
    } else {
      context.stroke();
    }
  }
}

/** Show a drawing's JSON in a small canvas, with its points if `corners`. */
export function picture(canvas, given, { corners = false } = {}) {
  const context = fresh(canvas);
  const side = canvas.getBoundingClientRect().width;
  if (!given?.length || !side) return;
  const { color, caretColor } = getComputedStyle(canvas);
  const strokes = fitted(given, side, 0.1);
  ink(context, strokes, 1.75, color);
  if (!corners) return;
  context.fillStyle = caretColor;
  for (const { x, y } of strokes) {
    for (let at = 0; at < x.length; at++) {
      context.beginPath();
      context.arc(x[at], y[at], 2.25, 0, 2 * Math.PI);
      context.fill();
    }
  }
}
