/** The sketchpad: connects the canvas, the server and what is shown. */

import * as api from "./api.js";
import { Asking } from "./asking.js";
import { Board } from "./board.js";
import { Game } from "./game.js";
import { Panels, many } from "./panels.js";
import { Replay } from "./replay.js";
import { Sketch, UnreadableDrawing, parsed } from "./strokes.js";

const LARGEST_FILE = 4e6; // bytes
const part = (id) => document.getElementById(id);
const clicked = (id, does) => part(id).addEventListener("click", does);

const sketch = new Sketch();
const asking = new Asking(sketch);
const panels = new Panels();
const board = new Board(part("canvas"), sketch, (text) => (part("pen").textContent = text));
const replay = new Replay(board, (running) => {
  part("replay").textContent = running ? "Stop" : "Replay";
});
const game = new Game(sketch, board, asking, tell);
let troubled = false; // whether the status line shows trouble with the server
let model = null; // its hash

/** Tell people in the status line. */
function tell(text, trouble = false) {
  troubled = trouble;
  part("status").classList.toggle("trouble", trouble);
  if (part("status").textContent !== text) part("status").textContent = text;
}

function tellTrouble({ text, wait }) {
  const next = wait === null ? "" : ` Your drawing is kept; next try in ${many(Math.ceil(wait), "second")}.`;
  tell(text + next, true);
}

/** Learn the model and its words; tries until the server is ready. */
async function connect() {
  for (let tries = 0; ; tries++) {
    try {
      await api.ready();
      const [found, words] = await Promise.all([api.model(), api.words()]);
      model = found.hash;
      panels.describe(found, words);
      game.words = words;
      if (troubled) tell("");
      return;
    } catch (trouble) {
      if (trouble.text === undefined) throw trouble;
      if (sketch.empty || !troubled) tell(trouble.text, true);
      const wait = trouble.away ? Math.min(2 ** tries, 10) : Math.min(trouble.wait ?? 5, 5);
      await new Promise((done) => setTimeout(done, wait * 1000));
    }
  }
}

function controls() {
  const { empty, canUndo, canRedo } = sketch;
  part("undo").disabled = !canUndo || board.locked;
  part("redo").disabled = !canRedo || board.locked;
  part("clear").disabled = empty || board.locked;
  part("replay").disabled = part("copy").disabled = empty || game.running;
  part("load").disabled = game.running;
}

/** Put a drawing's text on the canvas; throws UnreadableDrawing. */
function load(text) {
  replay.stop();
  sketch.load(parsed(text), board.side);
  const [points, strokes] = [sketch.strokes.reduce((sum, { x }) => sum + x.length, 0), sketch.strokes.length];
  tell(`Loaded: ${many(points, "point")} in ${many(strokes, "stroke")}.`);
}

async function copy() {
  await asking.settled(5000);
  const given = asking.answer?.simplified;
  if (!given) return tell("Nothing is copied: the server has not answered for this drawing.");
  const text = JSON.stringify(given);
  try {
    await navigator.clipboard.writeText(text);
    tell("Copied as Kaggle's JSON, simplified as the networks see it.");
  } catch {
    open(text); // no clipboard without https or loopback
    part("fault").textContent = "The browser gives no access to the clipboard here; copy the text yourself.";
    part("text").select();
  }
}

function open(text) {
  part("text").value = text;
  part("file").value = "";
  part("fault").textContent = "";
  part("json").showModal();
  part("text").focus();
}

async function take() {
  const file = part("file").files[0];
  try {
    if (file && file.size > LARGEST_FILE) throw new UnreadableDrawing(`${file.name} is larger than 4 MB.`);
    load(part("text").value.trim() || !file ? part("text").value : await file.text());
    part("json").close();
    part("canvas").focus({ preventScroll: true });
  } catch (error) {
    if (!(error instanceof UnreadableDrawing)) throw error;
    part("fault").textContent = error.message;
  }
}

function keyed(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || typing(event.target)) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  if (board.drawing || board.locked) return;
  if (key === "y" || event.shiftKey) sketch.redo();
  else sketch.undo();
}

function pasted(event) {
  if (typing(event.target) || game.running || document.querySelector("dialog[open]")) return;
  try {
    load(event.clipboardData.getData("text/plain"));
  } catch (error) {
    if (!(error instanceof UnreadableDrawing)) throw error;
    tell(error.message);
  }
}

const typing = (target) => target instanceof Element && target.closest("textarea, input, select") !== null;

/** The theme of the page, and a button for the other one; forgotten with the page. */
function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const show = () => {
    part("theme").textContent = chosen() === "dark" ? "Light" : "Dark";
    part("theme").setAttribute("aria-label", `Use the ${chosen() === "dark" ? "light" : "dark"} theme`);
    board.redraw();
    panels.redraw();
  };
  clicked("theme", () => {
    document.documentElement.dataset.theme = chosen() === "dark" ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  show();
}

clicked("undo", () => sketch.undo());
clicked("redo", () => sketch.redo());
clicked("clear", () => sketch.clear());
clicked("replay", () => (replay.running ? replay.stop() : replay.start(sketch.strokes)));
clicked("copy", copy);
clicked("load", () => open(""));
clicked("take", take);
part("word").addEventListener("change", () => (asking.word = part("word").value));
document.addEventListener("keydown", keyed);
document.addEventListener("paste", pasted);
board.onstart = () => replay.stop();
game.onchange = () => {
  replay.stop();
  controls();
};
sketch.addEventListener("change", () => {
  replay.stop();
  if (!troubled && !game.running) tell("");
  controls();
});
asking.addEventListener("empty", () => {
  if (troubled) tell("");
  panels.empty();
});
asking.addEventListener("asked", () => panels.wait());
asking.addEventListener("trouble", ({ detail }) => {
  panels.stale();
  tellTrouble(detail);
});
asking.addEventListener("answer", ({ detail }) => {
  if (troubled) tell("");
  panels.show(detail);
  if (model !== null && detail.model?.hash !== model) connect();
});
controls();
theme();
connect();
