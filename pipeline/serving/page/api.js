/** The server's API: see docs/serving.md. */

const PATIENCE = 15_000; // ms for an answer

/**
 * A request without an answer of use. `text` is for people; `wait` is the number of seconds after which to try again, null
 * if the same request would fail again.
 */
export class Trouble extends Error {
  constructor(text, wait, away = false) {
    super(text);
    [this.text, this.wait, this.away] = [text, wait, away];
  }
}

/** The answer to a drawing: {model, ...result}, with the probability of `word` if one is claimed. */
export async function predict(drawing, { word, top, signal }) {
  const body = JSON.stringify({ drawing, top, ...(word ? { word } : {}) });
  const headers = { "Content-Type": "application/json" };
  const { model, results } = await asked("predict", { method: "POST", headers, body, signal });
  return { model, ...results[0] };
}

export const model = () => asked("model");
export const words = async () => (await asked("words")).words;
export const ready = () => asked("readyz");

async function asked(path, { signal, ...request } = {}) {
  const limits = [AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])];
  let answer;
  try {
    answer = await fetch(path, { ...request, signal: AbortSignal.any(limits), credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Trouble("The server does not answer.", 2, true);
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  throw troubleOf(answer, body?.error);
}

function troubleOf(answer, error) {
  const wait = Math.min(Math.max(Number(answer.headers.get("Retry-After")) || 1, 1), 60);
  if (answer.status === 429) return new Trouble("Too many drawings in a short time.", wait);
  if (answer.status === 503) return new Trouble(sentence(error?.reason ?? "the server is not ready yet"), wait);
  if (answer.status >= 500) return new Trouble(`The server failed (${answer.status}).`, 5);
  const said = [error?.reason, error?.remedy].filter(Boolean).map(sentence).join(" ");
  return new Trouble(`The server refuses this drawing. ${said || `It says ${answer.status}.`}`, null);
}

function sentence(text) {
  const whole = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
