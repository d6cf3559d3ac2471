"""The OpenAPI document of the service, its examples, and a page of it that loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.serving.limits import MOST_BYTES, MOST_DRAWINGS, MOST_POINTS, MOST_STROKES

PATHS = ("/predict", "/words", "/model", "/healthz", "/readyz", "/metrics")
ABOUT = (
    "Names what drawings show. A drawing is a list of strokes: Kaggle's simplified JSON, [[x...], [y...]] of integers "
    "0..255, or raw points with times in milliseconds, [[x...], [y...], [t...]], which are simplified as training data "
    "is."
)
HOUSE = [[[40, 40, 200, 200, 40], [120, 240, 240, 120, 120]], [[30, 120, 210], [125, 30, 125]]]
RAW = [[[310.5, 311, 402.25, 471], [98, 152.5, 160, 99], [0, 84, 171, 260]]]

Drawing = list[list[list[float]]]


class Ask(BaseModel):
    """A request: `drawing` or `drawings`, not both."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"oneOf": [{"required": ["drawing"]}, {"required": ["drawings"]}]}
    )
    drawing: list[list[list[float]]] = Field(
        default=..., min_length=1, max_length=MOST_STROKES, description=f"Strokes; at most {MOST_POINTS:,} points."
    )
    drawings: list[list[list[list[float]]]] = Field(
        default=..., min_length=1, max_length=MOST_DRAWINGS, description="Several drawings."
    )
    word: str = Field(default="", max_length=100, description="The word that the drawings are said to show.")
    top: int = Field(default=3, ge=1, le=10, description="Guesses per drawing.")


class Pair(BaseModel):
    """A word and its probability."""

    word: str
    probability: float


class Identity(BaseModel):
    """The model's name, and the SHA-256 of the manifest of its pack."""

    name: str
    hash: str


class Result(BaseModel):
    """The answer for one drawing.

    Attributes:
        guesses: best first.
        unsure: the best guess has a probability below 0.7; such guesses are wrong about as often as right.
        learners: the three best guesses of each base learner.
        claim: the probability of the word that was claimed.
        familiar: whether the drawing is like any of the training data; null if the pack cannot tell.
        simplified: the drawing that the networks saw.
        points: of that drawing.
        strokes: of that drawing.
    """

    guesses: list[Pair]
    unsure: bool
    learners: dict[str, list[Pair]]
    claim: Pair | None
    familiar: bool | None
    simplified: list[list[list[int]]]
    points: int
    strokes: int


class Answer(BaseModel):
    """A result per drawing, in order."""

    model: Identity
    results: list[Result]


class Fault(BaseModel):
    """Why a request is refused: the part at fault, the reason, what to send instead."""

    field: str
    reason: str
    remedy: str


class Refusal(BaseModel):
    """A refused request."""

    error: Fault


class KnownWords(BaseModel):
    """The words that the model knows."""

    words: list[str]


class About(Identity):
    """The model: the run that it is of, and the scores that it had."""

    profile: str
    commit: str
    weights: str
    timed: bool
    words: int
    learners: list[str]
    scores: dict[str, Any]


class Alive(BaseModel):
    """The process answers."""

    alive: bool


class Ready(BaseModel):
    """Whether drawings are answered, and what the server does until then."""

    ready: bool
    state: str


def _request_schema() -> dict[str, Any]:
    schema = Ask.model_json_schema()
    schema.pop("required", None)
    stroke = {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "array", "minItems": 1}}
    stroke["items"]["items"] = {"type": "number"}  # type: ignore[index]
    schema["properties"]["drawing"]["items"] = stroke
    schema["properties"]["drawings"]["items"] = {"type": "array", "minItems": 1, "items": stroke}
    return schema


EXAMPLES = {
    "simplified": {"summary": "Kaggle's simplified JSON", "value": {"drawing": HOUSE}},
    "raw": {"summary": "raw points with times", "value": {"drawing": RAW}},
    "several": {"summary": "several drawings, five guesses each", "value": {"drawings": [HOUSE, HOUSE], "top": 5}},
    "claim": {"summary": "is it a house?", "value": {"drawing": HOUSE, "word": "house"}},
}
REFUSALS = {
    400: "The body is not JSON.",
    408: "The body came too slowly.",
    413: f"The body is larger than {MOST_BYTES:,} bytes.",
    415: "The body is not declared as JSON.",
    421: "The server is called by a name that is not its own.",
    422: "The JSON is not a request: the field and the reason are named.",
    429: "The client sends too much; Retry-After has the seconds.",
    431: "The headers are too large.",
    503: "The server is not ready, or more drawings wait than it can answer soon; Retry-After has the seconds.",
}

ANY = (421, 431)  # of any request


def _responses(model: type[BaseModel], *statuses: int) -> dict[str, Any]:
    refusals = {status: {"model": Refusal, "description": REFUSALS[status]} for status in (*statuses, *ANY)}
    return {"response_model": None, "responses": {200: {"model": model}, **refusals}}


PREDICT: dict[str, Any] = {
    **_responses(Answer, 400, 408, 413, 415, 422, 429, 503),
    "summary": "Name what drawings show",
    "description": "The most probable words of each drawing, and those of each learner.",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _request_schema(), "examples": EXAMPLES}},
        }
    },
}
WORDS: dict[str, Any] = {**_responses(KnownWords, 503), "summary": "The words that the model knows"}
MODEL: dict[str, Any] = {**_responses(About, 503), "summary": "The model and its scores"}
HEALTH: dict[str, Any] = {**_responses(Alive), "summary": "Whether the process answers"}
READY: dict[str, Any] = {
    "response_model": None,
    "summary": "Whether drawings are answered",
    "responses": {
        200: {"model": Ready},
        503: {"model": Ready, "description": "Not yet."},
        **{status: {"model": Refusal, "description": REFUSALS[status]} for status in ANY},
    },
}
METRICS: dict[str, Any] = {
    "response_model": None,
    "summary": "Metrics for Prometheus",
    "responses": {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text format."},
        **{status: {"model": Refusal, "description": REFUSALS[status]} for status in ANY},
    },
}
STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem; }
h2 { border-top: 1px solid; font-family: monospace; margin-top: 2.5rem; padding-top: 1rem; }
pre { border: 1px solid; border-radius: 4px; overflow-x: auto; padding: .75rem; }
th, td { padding: .15rem .75rem .15rem 0; text-align: left; vertical-align: top; }
"""


def page_of(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML, with a curl command per example; no script, nothing from another host."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Sketchstack: the API</title>',
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs.css"></head>',
        "<body><main>",
        f"<h1>{html.escape(document['info']['title'])}: the API</h1>",
        f"<p>{html.escape(document['info']['description'])}</p>",
        '<p>The same as an OpenAPI document: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation)
    return "\n".join([*parts, "</main></body></html>"])


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    """The section of one method of one path."""
    parts = [f"<h2>{method.upper()} {html.escape(path)}</h2>", f"<p>{html.escape(operation['summary'])}.</p>"]
    if "description" in operation:
        parts.append(f"<p>{html.escape(operation['description'])}</p>")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for example in content["examples"].values():
            sent = f"curl --json '{json.dumps(example['value'])}' http://127.0.0.1:8000{path}"
            parts += [f"<h3>{html.escape(example['summary'])}</h3>", _scrolled(sent)]
        parts += ["<h3>schema</h3>", _scrolled(json.dumps(content["schema"], indent=1))]
    rows = [
        f"<tr><th>{status}</th><td>{html.escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    ]
    return [*parts, "<h3>answers</h3>", "<table>", *rows, "</table>"]


def _scrolled(text: str) -> str:
    """Text that is scrolled sideways where it is wide, by keyboard too."""
    return f'<pre tabindex="0">{html.escape(text)}</pre>'
