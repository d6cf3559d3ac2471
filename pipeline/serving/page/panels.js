/** What the server said, beside the canvas. */

import { picture } from "./ink.js";

const ROWS = 5; // guesses shown
const CALM = 1200; // ms without another answer before the guess is announced
const NONE = "–"; // in place of a guess
const UNSURE = 0.5; // of the first guess, where the server does not say whether it is sure

const part = (id) => document.getElementById(id);

/** A word as people write it. */
export const spelled = (word) => word.replaceAll("_", " ");

/** A probability as people write it; it never says 100 % or 0 % of what is not certain. */
export function percent(probability) {
  if (probability > 0 && probability < 0.01) return "<1 %";
  return `${Math.min(Math.round(100 * probability), probability < 1 ? 99 : 100)} %`;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

/** A list entry with a drawing and lines of text. */
export function drawn(given, alt, lines) {
  const entry = element("li");
  const canvas = element("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", alt);
  entry.append(canvas, ...lines.map((line, at) => element("span", at ? "" : "name", line)));
  return { entry, show: () => picture(canvas, given) };
}

export class Panels {
  #timer = 0;
  #announced = "";
  #pictures = []; // functions that draw the small canvases again
  #learners = [];

  constructor() {
    part("guesses").replaceChildren(...Array.from({ length: ROWS }, guessRow));
    this.empty();
  }

  /** The model of the server, and its words. */
  describe(model, words) {
    this.#learners = learnersOf(model);
    part("model").textContent =
      `${many(words.length, "word")}, ${many(this.#learners.length, "learner")}: guessed after each stroke.`;
    part("learners").replaceChildren(...this.#learners.map(learnerRow));
    const chosen = part("word").value;
    part("word").replaceChildren(
      new Option("choose a word", ""), ...words.map((word) => new Option(spelled(word), word)),
    );
    if (words.includes(chosen)) part("word").value = chosen;
    part("words-title").textContent = `The ${words.length} words it knows`;
    part("words").replaceChildren(...words.map((word) => element("li", "", spelled(word))));
  }

  /** Nothing is drawn. */
  empty() {
    clearTimeout(this.#timer);
    this.#announced = "";
    part("announcer").textContent = "";
    this.#verdict("Nothing is drawn yet", NONE);
    this.#guesses([]);
    this.#rows({}, null);
    part("claimed").textContent = "";
    part("seen").hidden = part("nearest-part").hidden = true;
    this.#simplified(null);
  }

  /** A drawing waits for its first answer. */
  wait() {
    if (part("best").textContent === NONE) part("lead").textContent = "Looking";
  }

  /** The server did not answer for the drawing as it is. */
  stale() {
    part("lead").textContent = part("best").textContent === NONE ? "No answer" : "The last answer";
  }

  /** An answer of the server. */
  show(answer) {
    const [best] = answer.guesses;
    const unsure = answer.unsure ?? best.probability < UNSURE;
    this.#verdict(unsure ? "Not sure, perhaps" : "This is", spelled(best.word));
    this.#guesses(answer.guesses);
    this.#rows(answer.learners ?? {}, best.word);
    this.#claim(answer.claim, best);
    this.#simplified(answer);
    this.#seen(answer.familiar ?? null);
    this.#nearest(answer.nearest ?? answer.familiar?.nearest ?? null);
    this.#announce(`${unsure ? "Not sure, perhaps " : ""}${spelled(best.word)}, ${percent(best.probability)}`);
  }

  redraw() {
    for (const draw of this.#pictures) draw();
  }

  #verdict(lead, best) {
    part("lead").textContent = lead;
    part("best").textContent = best;
  }

  #guesses(guesses) {
    [...part("guesses").children].forEach((row, at) => {
      const [bar, word, number] = row.children;
      const { word: name, probability } = guesses[at] ?? { word: "", probability: 0 };
      bar.style.transform = `scaleX(${probability})`;
      word.textContent = spelled(name);
      number.textContent = name && percent(probability);
      row.ariaHidden = name ? null : "true";
    });
  }

  #rows(said, best) {
    const names = Object.keys(said);
    if (names.some((name) => !this.#learners.includes(name))) {
      this.#learners = names;
      part("learners").replaceChildren(...names.map(learnerRow));
    }
    [...part("learners").children].forEach((row, at) => {
      const [first, second] = said[this.#learners[at]] ?? [];
      const [, cell, also] = row.children;
      cell.classList.toggle("agrees", first?.word === best && best !== null);
      cell.replaceChildren(...(first ? [`${spelled(first.word)} `, element("span", "number", percent(first.probability))] : [NONE]));
      also.textContent = second ? `${spelled(second.word)} ${percent(second.probability)}` : "";
    });
  }

  #claim(claim, best) {
    const other = claim && claim.word !== best.word ? `. More likely: ${spelled(best.word)}, ${percent(best.probability)}` : "";
    part("claimed").textContent = claim ? `${spelled(claim.word)}: ${percent(claim.probability)}${other}` : "";
  }

  #simplified(answer) {
    const canvas = part("simplified");
    const draw = () => picture(canvas, answer?.simplified, { corners: true });
    this.#pictures = [draw];
    draw();
    const counted = answer && `${many(answer.points, "point")} in ${many(answer.strokes, "stroke")}`;
    canvas.setAttribute("aria-label", `The simplified drawing: ${counted ?? "none yet"}`);
    part("counts").textContent =
      `${counted ? `${counted}: the` : "The"} drawing is simplified as training data is, scaled to 255 pixels, corners kept.`;
  }

  /** `familiar`: null, or {like: whether it is like what was seen in training, text?: the same in words}. */
  #seen(familiar) {
    part("seen").hidden = familiar === null;
    if (familiar === null) return;
    const like = typeof familiar === "boolean" ? familiar : familiar.like;
    part("seen").textContent =
      familiar.text ?? (like ? "It is like drawings seen in training." : "It is unlike anything seen in training.");
  }

  /** `nearest`: null, or a list of {word, drawing, distance?}. */
  #nearest(nearest) {
    part("nearest-part").hidden = !nearest?.length;
    if (!nearest?.length) return;
    const entries = nearest.map(({ word, drawing }) => drawn(drawing, `A drawing of: ${spelled(word)}`, [spelled(word)]));
    part("nearest").replaceChildren(...entries.map(({ entry }) => entry));
    for (const { show } of entries) {
      this.#pictures.push(show);
      show();
    }
  }

  /** Tell a screen reader the first guess, once the pen rests and if it is another. */
  #announce(text) {
    clearTimeout(this.#timer);
    if (text === this.#announced) return;
    this.#timer = setTimeout(() => {
      this.#announced = part("announcer").textContent = text;
    }, CALM);
  }
}

function guessRow() {
  const row = element("li");
  const bar = element("span");
  bar.ariaHidden = "true";
  row.append(bar, element("span"), element("span", "number"));
  return row;
}

function learnerRow(name) {
  const row = element("tr");
  const header = element("th", "", name);
  header.scope = "row";
  row.append(header, element("td", "", NONE), element("td", "also"));
  return row;
}

function learnersOf({ learners = [] }) {
  return (Array.isArray(learners) ? learners : Object.keys(learners)).map((each) => each.name ?? each);
}

/** A number of things, in words. */
export function many(count, thing) {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}
