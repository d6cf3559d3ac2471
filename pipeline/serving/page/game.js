/** The game: some words, twenty seconds each; a word counts once it is the first guess. */

import { drawn, many, spelled } from "./panels.js";

const ROUNDS = 6;
const SECONDS = 20;
const LATE = 5000; // ms that an answer to the last stroke may come after the end
const CALLS = [10, 5]; // seconds left that are announced

const part = (id) => document.getElementById(id);

/** Args: the Sketch, the Board, the Asking, and what tells people in the status line. */
export class Game {
  #words = [];
  #rounds = []; // {word, seconds or null, saw, drawing}
  #kept = null; // the drawing before the game
  #timer = 0;
  #began = 0;
  #called = 0;
  #open = false; // whether the clock runs
  #saw = null; // the first guess of this round's drawing
  running = false;
  onchange = () => {};

  constructor(sketch, board, asking, tell) {
    [this.sketch, this.board, this.asking, this.tell] = [sketch, board, asking, tell];
    part("play").addEventListener("click", () => this.start());
    part("again").addEventListener("click", () => this.#again());
    part("skip").addEventListener("click", () => (this.#open ? this.#end(null) : this.#next()));
    part("stop").addEventListener("click", () => this.#finish());
    asking.addEventListener("answer", ({ detail }) => this.#heard(detail));
  }

  /** The words to draw. */
  set words(words) {
    this.known = words;
  }

  start() {
    if (!this.known?.length) return this.tell("The words are not known yet: the server is not ready.");
    this.running = true;
    this.#kept = this.sketch.memory;
    this.#rounds = [];
    this.#words = shuffled(this.known).slice(0, ROUNDS);
    this.#controls();
    this.#next();
  }

  #next() {
    if (this.#rounds.length === this.#words.length) return this.#finish();
    const word = this.#words[this.#rounds.length];
    const number = `${this.#rounds.length + 1} of ${this.#words.length}`;
    part("prompt").replaceChildren(`Draw, ${number}`, strong(spelled(word)));
    part("paper").classList.remove("won");
    part("skip").textContent = "Skip";
    this.sketch.restore();
    this.board.locked = false;
    this.tell(`Draw: ${spelled(word)}. ${this.#score()}`);
    part("canvas").focus({ preventScroll: true });
    [this.#open, this.#began, this.#called, this.#saw] = [true, performance.now(), SECONDS, null];
    this.onchange();
    this.#tick();
    this.#timer = setInterval(() => this.#tick(), 100);
  }

  #tick() {
    const left = SECONDS - (performance.now() - this.#began) / 1000;
    part("clock").textContent = `${Math.max(Math.ceil(left), 0)} s`;
    part("left").style.transform = `scaleX(${Math.max(left / SECONDS, 0)})`;
    const call = CALLS.find((seconds) => left <= seconds && this.#called > seconds);
    if (call) {
      this.#called = call;
      this.tell(`${call} seconds left. ${this.#score()}`);
    }
    if (left <= 0) this.#timeUp();
  }

  async #timeUp() {
    clearInterval(this.#timer);
    this.board.locked = true;
    this.tell("Time is up.");
    const round = this.#rounds.length;
    await this.asking.settled(LATE);
    if (this.#open && round === this.#rounds.length) this.#end(null);
  }

  #heard({ guesses }) {
    this.#saw = guesses[0].word;
    if (!this.#open || this.#saw !== this.#words[this.#rounds.length]) return;
    this.#end(Math.min((performance.now() - this.#began) / 1000, SECONDS));
  }

  /** The end of a round: `seconds` it took, or null if the word was not guessed. */
  #end(seconds) {
    clearInterval(this.#timer);
    this.board.locked = true; // an unfinished stroke is part of the drawing
    this.#open = false;
    const word = this.#words[this.#rounds.length];
    this.#rounds.push({ word, seconds, saw: this.#saw, drawing: this.sketch.json() });
    part("paper").classList.toggle("won", seconds !== null);
    const result =
      seconds !== null ? `Yes: ${spelled(word)}, after ${seconds.toFixed(1)} s.` : `Not guessed: ${spelled(word)}.`;
    this.tell(`${result} ${this.#score()}`);
    part("skip").textContent = this.#rounds.length < this.#words.length ? "Next" : "Results";
    part("skip").focus({ preventScroll: true });
    this.onchange();
  }

  #score() {
    return `Score ${this.#rounds.filter(({ seconds }) => seconds !== null).length}.`;
  }

  #finish() {
    clearInterval(this.#timer);
    [this.running, this.#open] = [false, false];
    this.board.locked = false;
    part("paper").classList.remove("won");
    part("prompt").textContent = "Draw anything, or play: a word, twenty seconds.";
    part("left").style.transform = "";
    this.sketch.restore(this.#kept);
    this.tell("");
    this.#controls();
    if (this.#rounds.length) this.#show();
    else part("play").focus({ preventScroll: true });
  }

  #show() {
    const won = this.#rounds.filter(({ seconds }) => seconds !== null);
    const time = won.reduce((sum, { seconds }) => sum + seconds, 0);
    part("score").textContent =
      `${won.length} of ${many(this.#rounds.length, "word")} guessed` +
      (won.length ? `, in ${time.toFixed(1)} s together.` : ". Draw large, the outline first.");
    const entries = this.#rounds.map(({ word, seconds, saw, drawing }) => {
      const missed = saw && drawing.length ? `looked like: ${spelled(saw)}` : drawing.length ? "no answer" : "not drawn";
      const result = seconds !== null ? `${seconds.toFixed(1)} s` : missed;
      const made = drawn(drawing, `Your drawing of: ${spelled(word)}`, [spelled(word), result]);
      made.entry.classList.toggle("right", seconds !== null);
      return made;
    });
    part("rounds").replaceChildren(...entries.map(({ entry }) => entry));
    part("results").showModal();
    for (const { show } of entries) show();
  }

  #again() {
    part("results").close();
    this.start();
  }

  #controls() {
    part("play").hidden = this.running;
    for (const id of ["clock", "skip", "stop"]) part(id).hidden = !this.running;
    this.onchange();
  }
}

function strong(text) {
  const made = document.createElement("strong");
  made.textContent = text;
  return made;
}

/** A list in random order (Fisher and Yates). */
function shuffled(list) {
  const found = [...list];
  for (let at = found.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [found[at], found[other]] = [found[other], found[at]];
  }
  return found;
}
