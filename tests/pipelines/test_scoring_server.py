"""MLflow's endpoints, and limits that hold: sizes, crowds, mistakes."""

import asyncio
import json
import threading
from types import SimpleNamespace

import httpx
import mlflow
import pytest

from pipelines import scoring_server
from pipelines.reloading import Reloader
from pipelines.scoring import ScoredModel
from pipelines.scoring_server import ScoringServer

HEADERS = {"Content-Type": "application/json"}


def serving(model, size=1000, waiting=2):
    return ScoringServer(Reloader("folder", model, 60), size, waiting).app()


class Slow:
    """A model that answers when it is let."""

    name = "models:/slow one/1"

    def __init__(self):
        self.go, self.asked = threading.Event(), 0

    def score(self, body, content_type):
        self.asked += 1
        assert self.go.wait(20)
        return b'{"predictions": []}'


@pytest.fixture
def app(small, tmp_path):
    folder = small.saved(small.gru(small.sines()), tmp_path / "model")
    return serving(ScoredModel(folder, "models:/sines/3"), 10_000)


def problem(reply):
    """Returns what an error says, in MLflow's form."""
    assert reply.headers["content-type"] == "application/json"
    found = reply.json()
    assert set(found) == {"error_code", "message"}
    assert "Traceback" not in reply.text
    return found


def test_the_endpoints_are_those_of_mlflow(app, ask):
    theirs = mlflow.pyfunc.scoring_server.init(
        SimpleNamespace(metadata=SimpleNamespace(get_input_schema=lambda: None))
    )
    for path in ("/ping", "/health", "/version"):
        ours, expected = (ask(each, "GET", path) for each in (app, theirs))
        assert (ours.status_code, ours.content) == (200, expected.content)
        assert ours.headers["content-type"] == expected.headers["content-type"]
    missing = ask(app, "GET", "/nothing")
    assert missing.status_code == 404
    assert problem(missing)["error_code"] == "ENDPOINT_NOT_FOUND"
    wrong = ask(app, "GET", "/invocations")
    assert wrong.status_code == 405 and "POST" in problem(wrong)["message"]


def test_a_reply_tells_its_model(app, ask):
    payload = {"inputs": [{"history": {"y": [0.5] * 12}}]}
    reply = ask(app, "POST", "/invocations", json=payload)
    assert reply.status_code == 200
    assert reply.headers["x-unroll-model"] == "models:/sines/3"
    refused = ask(app, "POST", "/invocations", json={"inputs": 3})
    assert refused.status_code == 400 and "inputs: " in problem(refused)["message"]
    assert refused.headers["x-unroll-model"] == "models:/sines/3"
    other = ask(app, "POST", "/invocations", content="x", headers={"Content-Type": "text/plain"})
    assert other.status_code == 415 and "text/plain" in problem(other)["message"]
    # One without any.
    assert ask(app, "POST", "/invocations", content=b"x").status_code == 415


async def pieces(size, number, sent):
    for _ in range(number):
        sent.append(size)
        yield b"a" * size
        await asyncio.sleep(0)


def test_a_body_that_is_too_large_is_refused(ask, monkeypatch):
    monkeypatch.setattr(scoring_server, "_PATIENCE", 0.2)
    model = Slow()
    model.go.set()
    app = serving(model, size=1000)
    assert ask(app, "POST", "/invocations", content=b"a" * 1000).status_code == 200
    # Said beforehand, and, with chunks, found out.
    for content in (b"a" * 1001, pieces(100, 11, [])):
        reply = ask(app, "POST", "/invocations", content=content)
        assert reply.status_code == 413
        assert "1,000 bytes" in problem(reply)["message"]
        assert reply.headers["connection"] == "close"
    sent = []
    assert ask(app, "POST", "/invocations", content=pieces(100, 10**9, sent)).status_code == 413
    assert sum(sent) < 10**8, "an endless body is not read to its end"
    assert model.asked == 1


def test_a_crowd_is_sent_away_and_ping_is_answered_meanwhile():
    model = Slow()
    app = serving(model, waiting=2)

    async def crowd():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [asyncio.create_task(client.post("/invocations", content=b"")) for _ in "123"]
            while model.asked < 1:
                await asyncio.sleep(0.01)
            late = await client.post("/invocations", content=b"")
            assert (await client.get("/ping")).status_code == 200
            model.go.set()
            answered = await asyncio.gather(*asked)
            again = await client.post("/invocations", content=b"")
            return late, [*answered, again]

    late, answered = asyncio.run(crowd())
    assert late.status_code == 503
    assert late.headers["retry-after"] == "1"
    assert problem(late)["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert [each.status_code for each in answered] == [200] * 4
    assert answered[0].headers["x-unroll-model"] == "models:/slow%20one/1"


def test_bodies_on_their_way_count_among_the_waiting(monkeypatch):
    monkeypatch.setattr(scoring_server, "_PATIENCE", 0.1)
    model = Slow()
    model.go.set()
    app = serving(model, waiting=1)

    async def crowd():
        transport = httpx.ASGITransport(app)
        come = asyncio.Event()

        async def slow_body():
            yield b"a"
            await come.wait()

        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            held = [
                asyncio.create_task(client.post("/invocations", content=slow_body())) for _ in "12"
            ]
            await asyncio.sleep(0.2)
            late = await client.post("/invocations", content=b"")
            come.set()
            return late, await asyncio.gather(*held)

    late, held = asyncio.run(crowd())
    assert late.status_code == 503 and model.asked == 2
    assert [each.status_code for each in held] == [200, 200]


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(scoring_server, "_PATIENCE", 0.1)
    monkeypatch.setattr(scoring_server, "_BODY_PATIENCE", 0.1)
    app = serving(Slow())

    async def never():
        yield b"a"
        await asyncio.sleep(3600)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.wait_for(client.post("/invocations", content=never()), 20)

    reply = asyncio.run(ask())
    assert reply.status_code == 408 and "send it again" in problem(reply)["message"]


def test_a_mistake_of_ours_is_in_the_log_and_not_in_the_reply(app, ask, monkeypatch, caplog):
    monkeypatch.setattr("pipelines.serving.forecast_requests", lambda *_: 1 / 0)
    body = json.dumps({"inputs": [{"history": {"y": [0.5] * 12}}]})
    reply = ask(app, "POST", "/invocations", content=body, headers=HEADERS)
    assert reply.status_code == 500
    assert problem(reply)["error_code"] == "INTERNAL_ERROR"
    assert "division" not in reply.text
    assert "ZeroDivisionError" in caplog.text


def test_a_request_stays_with_its_model(ask):
    """The model is taken when the work begins, and its name with it."""
    first, second = Slow(), Slow()
    second.name = "models:/slow one/2"
    reloader = Reloader("folder", first, 60)
    app = ScoringServer(reloader, 1000, 2).app()

    async def swap():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            under_way = asyncio.create_task(client.post("/invocations", content=b""))
            while not first.asked:
                await asyncio.sleep(0.01)
            reloader.model = second
            first.go.set(), second.go.set()
            return await under_way, await client.post("/invocations", content=b"")

    names = [reply.headers["x-unroll-model"] for reply in asyncio.run(swap())]
    assert names == ["models:/slow%20one/1", "models:/slow%20one/2"]
