/** Asks the server about the drawing after each change: only the latest drawing counts. */

import { predict } from "./api.js";

const REST = 120; // ms without a change before a request
const TOP = 5; // guesses
const LONGEST_WAIT = 30; // s between two tries

/**
 * Events: "asked", "answer" (its `detail`), "empty" when there is nothing to ask about, "trouble" (a Trouble, `wait` in seconds).
 * `answer` is that of the drawing as it is; null while there is none.
 */
export class Asking extends EventTarget {
  #timer = 0;
  #request = null;
  #word = "";
  answer = null;
  pending = false;

  constructor(sketch) {
    super();
    this.sketch = sketch;
    sketch.addEventListener("change", () => this.ask());
  }

  /** The word that the drawing is claimed to be; empty for none. */
  set word(value) {
    this.#word = value;
    this.ask();
  }

  ask() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.answer = null;
    this.pending = !this.sketch.empty;
    if (this.pending) this.#timer = setTimeout(() => this.#send(0), REST);
    this.#tell(this.pending ? "asked" : "empty");
  }

  /** Resolves when there is an answer, or trouble, or after `most` ms. */
  settled(most) {
    if (!this.pending) return Promise.resolve();
    return new Promise((done) => {
      for (const name of ["answer", "trouble", "empty"]) this.addEventListener(name, done, { once: true });
      setTimeout(done, most);
    });
  }

  async #send(tries) {
    const request = (this.#request = new AbortController());
    try {
      const answer = await predict(this.sketch.json(), { word: this.#word, top: TOP, signal: request.signal });
      if (request.signal.aborted) return;
      [this.answer, this.pending] = [answer, false];
      this.#tell("answer", answer);
    } catch (trouble) {
      if (request.signal.aborted) return;
      if (trouble.wait === undefined) throw trouble;
      this.#again(trouble, tries);
    }
  }

  #again(trouble, tries) {
    const wait = trouble.wait === null ? null : Math.min(trouble.wait * (trouble.away ? 2 ** tries : 1), LONGEST_WAIT);
    this.pending = wait !== null;
    if (this.pending) this.#timer = setTimeout(() => this.#send(tries + 1), wait * 1000);
    this.#tell("trouble", { text: trouble.text, wait });
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
