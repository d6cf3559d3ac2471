"""The service: its contract, refusals, headers and log; what waits is batched, and what is too much is refused."""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
import time

import numpy as np
import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.serving import batching, watch
from pipeline.serving import service as module
from pipeline.serving.batching import Batcher
from pipeline.serving.limits import MOST_BYTES, RefusedError
from pipeline.serving.model import UNSURE, Model
from pipeline.serving.service import Service, create_app
from pipeline.serving.watch import HEADERS, LOOPBACK_NAMES, start_log
from tests.serving.clients import TestClient
from tests.serving.test_drawn import LINE
from tests.serving.toy_pack import NAME, WORDS, write_toy_pack

CAT = [[[10, 200, 120], [20, 30, 240]], [[60, 60], [100, 180]]]
RAW = [[[10.5, 300, 120], [20, 30.25, 240], [0, 100, 250]], [[60, 60], [100, 180], [600, 700]]]
BASE = "http://localhost"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_toy_pack(tmp_path_factory.mktemp("pack") / "toy.zip")


@pytest.fixture(scope="module")
def model(pack):
    found = Model(pack, threads=1)
    found.warm_up()
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><title>Draw</title>")
    (folder / "icons").mkdir()
    (folder / "icons" / "pen.svg").write_text("<svg/>")
    (folder / "notes.py").write_text("secret")
    return folder


def client_of(model, page=module.PAGE, **options):
    service = Service(lambda tell: model, rate=options.pop("rate", 0))
    return TestClient(create_app(service, page=page, **options), BASE, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(model, page):
    with client_of(model, page) as found:
        wait_until_ready(found)
        yield found


def wait_until_ready(client):
    for _ in range(600):
        if client.get("/readyz").status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError("it was never ready")


def test_a_drawing_gets_guesses_of_the_ensemble_and_of_each_learner(client, model):
    answer = client.post("/predict", json={"drawing": CAT, "word": "ice cream"})
    assert answer.status_code == 200
    found = answer.json()
    assert found["model"] == {"name": NAME, "hash": model.ensemble.hash}
    (result,) = found["results"]
    request = model.asked(json.dumps({"drawing": CAT}).encode())
    expected = model.predict(request.drawings)[0].probabilities
    best = np.argsort(-expected)[:3]
    assert [each["word"] for each in result["guesses"]] == [WORDS[label] for label in best]
    np.testing.assert_allclose([each["probability"] for each in result["guesses"]], expected[best], atol=1e-6)
    assert result["learners"] == {NAME: result["guesses"]}
    assert result["simplified"] == CAT
    assert (result["points"], result["strokes"]) == (5, 2)
    assert result["claim"] == {"word": "ice_cream", "probability": pytest.approx(float(expected[2]), abs=1e-6)}
    assert result["familiar"] is None
    assert result["unsure"] == bool(expected.max() < UNSURE)


def test_raw_points_are_answered_as_their_simplified_drawing(client):
    raw = client.post("/predict", json={"drawing": RAW}).json()["results"][0]
    assert raw["simplified"] != RAW
    again = client.post("/predict", json={"drawing": raw["simplified"]}).json()["results"][0]
    assert again == raw


def test_many_drawings_are_answered_in_order(client):
    drawings = [CAT, [LINE], [[[0], [0]]], CAT]
    many = client.post("/predict", json={"drawings": drawings, "top": 5}).json()["results"]
    alone = [client.post("/predict", json={"drawing": each, "top": 5}).json()["results"][0] for each in drawings]
    assert many == alone
    assert len(many[0]["guesses"]) == len(WORDS)
    assert sum(each["probability"] for each in many[0]["guesses"]) == pytest.approx(1, abs=1e-4)
    assert many[0]["guesses"] != many[1]["guesses"]


def test_words_and_model(client, model):
    assert client.get("/words").json() == {"words": WORDS}
    about = client.get("/model").json()
    assert about["name"] == NAME
    assert about["hash"] == model.ensemble.hash
    assert {"profile", "commit", "scores", "learners", "timed", "weights"} <= set(about)


def refusal_of(answer):
    error = answer.json()["error"]
    assert set(error) == {"field", "reason", "remedy"}
    assert all(error.values())
    return error


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "field"),
    [
        ("POST", "/predict", {"json": {"drawing": []}}, 422, "drawing"),
        ("POST", "/predict", {"json": {"drawing": [LINE, [[0], [300]]]}}, 422, "drawing[1][1][0]"),
        ("POST", "/predict", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "body"),
        ("POST", "/predict", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
        ("POST", "/predict", {"data": {"drawing": "[]"}}, 415, "Content-Type"),
        ("POST", "/predict", {}, 415, "Content-Type"),
        ("POST", "/predict", {"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "Content-Type"),
        ("GET", "/predict", {}, 405, "path"),
        ("PUT", "/words", {}, 405, "path"),
        ("GET", "/nothing", {}, 404, "path"),
        ("GET", "/icons/../notes.py", {}, 404, "path"),
        ("GET", "/notes.py", {}, 404, "path"),
        ("GET", "/%2e%2e/service.py", {}, 404, "path"),
        ("GET", "//etc/passwd", {}, 404, "path"),
        ("OPTIONS", "/predict", {"headers": {"Origin": "http://evil.example"}}, 405, "path"),
    ],
)
def test_what_is_refused_names_field_reason_and_remedy(client, method, path, sent, status, field):
    answer = client.request(method, path, **sent)
    assert answer.status_code == status
    assert refusal_of(answer)["field"] == field
    assert_strict_headers(answer)


def assert_strict_headers(answer):
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "set-cookie" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_large_body_is_refused_while_it_comes(client):
    json_ = {"Content-Type": "application/json"}
    large = client.post("/predict", content=b" " * (MOST_BYTES + 1), headers=json_)
    claimed = client.post("/predict", content=b"{}", headers={**json_, "Content-Length": "1000000000000"})
    chunks = client.post("/predict", content=(b" " * 2**16 for _ in range(400)), headers=json_)
    for answer in (large, claimed, chunks):
        assert answer.status_code == 413
        assert refusal_of(answer)["field"] == "body"
        assert answer.headers["Connection"] == "close"


def test_a_slow_body_is_given_up(model, monkeypatch):
    monkeypatch.setattr(module, "BODY_SECONDS", 0.1)

    async def ask():
        service = Service(lambda tell: model)
        service._prepare()

        async def receive():
            await asyncio.sleep(60)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "headers": headers, "path": "/predict", "client": ("1.2.3.4", 5)}
        with pytest.raises(RefusedError) as refused:
            await service.answer(module.Request(scope, receive))
        return refused.value.status

    assert asyncio.run(ask()) == 408


@pytest.mark.parametrize("path", ["/", "/docs", "/docs.css", "/openapi.json", "/metrics", "/healthz", "/readyz"])
def test_every_answer_has_strict_headers(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert_strict_headers(answer)


def test_headers_that_come_at_once_are_not_too_large_either(client):
    answer = client.get("/healthz", headers={"X-Long": "a" * 70_000})
    assert answer.status_code == 431
    assert answer.json()["error"]["field"] == "headers"
    assert client.get("/healthz", headers={"X-Long": "a" * 60_000}).status_code == 200


def test_the_page_is_served_as_it_lies_there(client, page):
    for path in ("/", "/index.html"):
        answer = client.get(path)
        assert answer.content == (page / "index.html").read_bytes()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    icon = client.get("/icons/pen.svg")
    assert icon.headers["Content-Type"] == "image/svg+xml"
    assert client.get("/icons/pen.svg", headers={"If-None-Match": icon.headers["ETag"]}).status_code == 304
    assert client.head("/").status_code == 200


def test_the_docs_load_nothing_from_elsewhere_and_their_examples_work(client):
    html = client.get("/docs").text
    assert "<script" not in html
    assert re.findall(r"(?:src|href)=\"(?!/)", html) == []
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/words", "/model", "/healthz", "/readyz", "/metrics"}
    examples = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 4
    for example in examples.values():
        sent = {name: value for name, value in example["value"].items() if name != "word"}  # the toy knows no house
        assert client.post("/predict", json=sent).status_code == 200
    assert html.count("curl --json") == len(examples)


def test_metrics_count_requests_drawings_and_batches(model, page):
    with client_of(model, page) as client:
        wait_until_ready(client)
        client.post("/predict", json={"drawings": [CAT] * 5})
        client.post("/predict", json={"drawing": []})
        client.get("/a/path/of/a/stranger")
        text = client.get("/metrics").text
    for line in (
        'sketchstack_requests_total{path="/predict",status="200"} 1.0',
        'sketchstack_requests_total{path="/predict",status="422"} 1.0',
        'sketchstack_requests_total{path="other",status="404"} 1.0',
        "sketchstack_drawings_total 5.0",
        "sketchstack_batch_drawings_sum 5.0",
        "sketchstack_queue_drawings 0.0",
        "sketchstack_ready 1.0",
        'sketchstack_request_seconds_count{path="/predict"} 2.0',
    ):
        assert line in text
    assert "stranger" not in text


def test_the_log_has_a_line_a_request_and_no_drawing(client):
    lines = io.StringIO()
    start_log("json", lines)
    client.post("/predict", json={"drawings": [CAT, CAT]})
    client.get("/a%22b%0ac" + "x" * 500)
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert set(first) == {"time", "level", "method", "path", "status", "ms", "drawings"}
    assert (first["method"], first["path"], first["status"], first["drawings"]) == ("POST", "/predict", 200, 2)
    assert second["status"] == 404
    assert len(second["path"]) <= 2 * watch.LONGEST_PATH_SHOWN
    lines = io.StringIO()
    start_log("text", lines)
    client.get("/words")
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /words 200 [\d.]+ 0\n", lines.getvalue())


def test_an_error_of_the_server_tells_its_client_nothing(model, monkeypatch):
    lines = io.StringIO()
    start_log("json", lines)
    with client_of(model) as client:
        wait_until_ready(client)
        lines.truncate(0)
        lines.seek(0)
        monkeypatch.setattr(Model, "predict", lambda self, drawings: 1 // 0)
        answer = client.post("/predict", json={"drawing": CAT})
        assert answer.status_code == 500
        assert "ZeroDivision" not in answer.text
        assert_strict_headers(answer)
        monkeypatch.undo()
        assert client.post("/predict", json={"drawing": CAT}).status_code == 200
    assert "ZeroDivisionError" in lines.getvalue()


def test_it_answers_before_its_model_is_there():
    loaded = threading.Event()

    def load(tell):
        tell("loading the model")
        loaded.wait()
        raise SketchstackError("it was not there")

    service = Service(load)
    with TestClient(create_app(service), BASE) as client:
        while service.state == "starting":
            time.sleep(0.01)
        assert client.get("/healthz").json() == {"alive": True}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "state": "loading the model"})
        for answer in (client.get("/words"), client.get("/model"), client.post("/predict", json={"drawing": CAT})):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "2"
            assert "loading the model" in refusal_of(answer)["reason"]
        loaded.set()


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path):
    ended = threading.Event()
    service = Service(lambda tell: Model(tmp_path / "missing.zip"), failed=ended.set)
    with TestClient(create_app(service), BASE) as client:
        assert ended.wait(30)
        assert isinstance(service.error, SketchstackError)
        assert client.get("/readyz").json()["state"] == "failed"


def test_a_client_is_limited(model):
    with client_of(model, rate=1) as client:
        wait_until_ready(client)
        drawings = {"drawings": [[LINE]] * 64}
        statuses = [client.post("/predict", json=drawings).status_code for _ in range(4)]
        assert statuses[:3] == [200, 200, 200]
        answer = client.post("/predict", json=drawings)
        assert (statuses[3], answer.status_code) == (429, 429)
        assert int(answer.headers["Retry-After"]) > 30
        assert "drawings a second" in refusal_of(answer)["reason"]
        assert client.get("/words").status_code == 200


def test_only_its_own_names_reach_a_server_on_loopback(model):
    with client_of(model, hosts=LOOPBACK_NAMES) as client:
        wait_until_ready(client)
        for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
            assert client.get("/words", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil.example:80"):
            answer = client.get("/words", headers={"Host": host})
            assert answer.status_code == 421
            assert refusal_of(answer)["field"] == "Host"


def test_drawings_with_times_are_needed_where_the_model_was_trained_with_them(tmp_path):
    timed = Model(write_toy_pack(tmp_path / "timed.zip", timed=True), threads=1)
    with client_of(timed) as client:
        wait_until_ready(client)
        assert client.get("/model").json()["timed"] is True
        assert client.post("/predict", json={"drawing": RAW}).status_code == 200
        assert "no times" in refusal_of(client.post("/predict", json={"drawing": CAT}))["reason"]


def slowly(seconds):
    """A prediction that takes its time, and gives back what it gets."""

    def predict(items):
        time.sleep(seconds)
        return items

    return predict


def batched(predict, requests, sizes=None):
    """The results of requests that come at once, or their errors."""

    async def run():
        batcher = Batcher(predict, (sizes if sizes is not None else []).append)
        found = await asyncio.gather(*map(batcher.predict, requests), return_exceptions=True)
        after = await batcher.predict([0])
        await batcher.close()
        return found, after

    return asyncio.run(run())


def test_requests_that_wait_are_predicted_together_and_get_their_own():
    sizes: list[int] = []
    requests = [[number] * (number % 5 + 1) for number in range(60)]
    found, _ = batched(lambda items: [item * 10 for item in items], requests, sizes)
    assert found == [[number * 10] * (number % 5 + 1) for number in range(60)]
    assert sum(sizes) == sum(map(len, requests)) + 1
    assert len(sizes) < 10
    assert max(sizes) <= batching.LARGEST


def test_a_request_larger_than_a_batch_is_one():
    sizes: list[int] = []
    found, _ = batched(lambda items: items, [[1] * 100, [2]], sizes)
    assert found == [[1] * 100, [2]]
    assert sizes[0] == 100


def test_what_is_too_much_is_refused_at_once_and_it_recovers(monkeypatch):
    monkeypatch.setattr(batching, "QUEUE", 10)
    found, after = batched(slowly(0.05), [[number] for number in range(50)])
    refused = [each for each in found if isinstance(each, RefusedError)]
    assert len(refused) == 40
    assert all(each.status == 503 and each.headers == {"Retry-After": "1"} for each in refused)
    assert [each for each in found if not isinstance(each, RefusedError)] == [[number] for number in range(10)]
    assert after == [0]


def test_while_the_oldest_waits_too_long_nothing_is_taken(monkeypatch):
    monkeypatch.setattr(batching, "LONGEST_WAIT", 0.02)
    monkeypatch.setattr(batching, "LARGEST", 1)

    async def run():
        batcher: Batcher[int, int] = Batcher(slowly(0.2))
        first, second = asyncio.create_task(batcher.predict([1])), asyncio.create_task(batcher.predict([2]))
        await asyncio.sleep(0.1)
        with pytest.raises(RefusedError):
            await batcher.predict([3])
        assert [await first, await second] == [[1], [2]]
        assert await batcher.predict([4]) == [4]
        await batcher.close()

    asyncio.run(run())


def test_an_error_is_that_of_its_batch_alone():
    def predict(items):
        return [1 // item for item in items]

    async def run():
        batcher = Batcher(predict)
        with pytest.raises(ZeroDivisionError):
            await batcher.predict([0])
        assert await batcher.predict([1]) == [1]
        await batcher.close()

    asyncio.run(run())
