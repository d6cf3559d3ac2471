/** Shows a drawing again as it was drawn, in time. */

const PAUSE = 600; // ms that a longer rest of the pen is shortened to
const END = 500; // ms that the whole drawing stays

/** Args: the Board to show it on, and what is called when it starts (true) and ends (false). */
export class Replay {
  #frame = 0;
  running = false;

  constructor(board, told) {
    [this.board, this.told] = [board, told];
  }

  /** Start with strokes {x, y, t}; people who asked for less motion see whole strokes one after the other. */
  start(strokes) {
    this.stop();
    const played = shortened(strokes);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const end = played.at(-1).t.at(-1) + END;
    const begin = performance.now();
    const step = () => {
      const now = performance.now() - begin;
      this.board.show(until(played, now, still));
      if (now < end) this.#frame = requestAnimationFrame(step);
      else this.stop();
    };
    this.#mark(true);
    step();
  }

  stop() {
    if (!this.running) return;
    cancelAnimationFrame(this.#frame);
    this.board.show(null);
    this.#mark(false);
  }

  #mark(running) {
    this.running = running;
    this.told(running);
  }
}

/** Strokes from ms 0 on, without long rests. */
function shortened(strokes) {
  let [before, clock] = [null, 0];
  return strokes.map(({ x, y, t }) => ({
    x, y,
    t: t.map((time) => {
      clock += before === null ? 0 : Math.min(Math.max(time - before, 0), PAUSE);
      before = time;
      return clock;
    }),
  }));
}

/** The part of strokes that is drawn at a time; whole strokes only if `still`. */
function until(strokes, now, still) {
  const begun = strokes.filter(({ t }) => t[0] <= now);
  if (still) return begun;
  return begun.map(({ x, y, t }) => {
    const behind = t.findIndex((time) => time > now);
    if (behind < 0) return { x, y };
    const share = (now - t[behind - 1]) / (t[behind] - t[behind - 1]);
    const tip = (axis) => axis[behind - 1] + share * (axis[behind] - axis[behind - 1]);
    return { x: [...x.slice(0, behind), tip(x)], y: [...y.slice(0, behind), tip(y)] };
  });
}
