"""Answers are MLflow's own, byte for byte; what is wrong with a request is said."""

import json
import math

import mlflow
import pytest
from mlflow.pyfunc import scoring_server

from data_modules.errors import UserError
from lightning_modules.saving import save_model
from pipelines.reloading import load_scored
from pipelines.scoring import LONGEST_REASON, Refusal, ScoredModel


@pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer column")
def test_answers_are_those_of_mlflow(served_task, crowned, ask):
    model, payloads = served_task
    crowned(model, "any")
    ours = load_scored("models:/any/1")
    loaded = mlflow.pyfunc.load_model("models:/any@champion")
    assert ours.metadata.signature == loaded.metadata.signature
    theirs = scoring_server.init(loaded)
    for body, kind in payloads:
        expected = ask(theirs, "POST", "/invocations", content=body, headers={"Content-Type": kind})
        assert expected.status_code == 200, expected.text
        assert ours.score(body, kind) == expected.content


@pytest.fixture
def forecaster(small, tmp_path):
    return ScoredModel(small.saved(small.gru(small.sines()), tmp_path / "model"), "gru")


@pytest.fixture
def classifier(text, tmp_path):
    model = text.lstm(text.tweets())
    save_model(model, dict(model.hparams), tmp_path / "model")
    return ScoredModel(tmp_path / "model", "lstm")


def refused(model, body, kind="application/json"):
    """Returns the refusal that a body meets; it must never be our mistake."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    with pytest.raises(Refusal) as caught:
        model.score(body, kind)
    assert 400 <= caught.value.status < 500
    assert len(caught.value.message) <= LONGEST_REASON + 2
    return caught.value


HISTORY = {"history": {"y": [0.5] * 12}}


@pytest.mark.parametrize("kind", ["forecaster", "classifier"])
def test_the_example_is_answered(kind, request):
    model = request.getfixturevalue(kind)
    assert len(json.loads(model.score(model.example.encode(), "application/json"))) == 1


def test_the_example_is_short(forecaster):
    ((_, rows),) = json.loads(forecaster.example).items()
    assert len(rows) == 1
    assert all(len(str(value)) <= 10 for value in rows[0]["history"]["y"])


def test_so_many_at_once_are_refused(forecaster, monkeypatch):
    monkeypatch.setattr("pipelines.scoring.MOST_ROWS", 3)
    body = json.dumps({"inputs": [HISTORY] * 3}).encode()
    assert len(json.loads(forecaster.score(body, "application/json"))["predictions"]) == 3
    refusal = refused(forecaster, {"inputs": [HISTORY] * 4})
    assert refusal.status == 400 and "these are 4 at once: send 3 at most" in refusal.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "the body is no JSON: .* send a JSON object"),
        ("", "the body is no JSON"),
        (b"\xff\xfe\x00", "the body is no JSON"),
        ("[1]", "the body is a JSON list: send a JSON object"),
        ("3", "the body is a JSON int"),
        ("[" * 100_000, "nested too deeply"),
        ('{"inputs": ' + "9" * 5000 + "}", "the body is no JSON: .*digits"),
        ({}, "must be a dictionary with 'inputs' key"),
        ({"instances": [HISTORY]}, "must be a dictionary with 'inputs' key"),
        ({"inputs": 3}, "inputs: Input should be a valid list"),
        ({"inputs": None}, "inputs: Input should be a valid list"),
        ({"inputs": [HISTORY, {"histroy": {}}]}, "inputs.1.history: Field required"),
        ({"inputs": [{"history": [1.0]}]}, "inputs.0.history: Input should be a valid dict"),
        ({"inputs": [{"history": {"y": [[1.0]]}}]}, r"inputs.0.history.y.0: .*valid number"),
        ({"inputs": [{"history": {"y": ["a"] * 10**5}}]}, r"history.y.0: .*valid number"),
        ({"inputs": [{"history": {"y": [None]}}]}, r"history.y.0: .*valid number"),
        ({"inputs": [{"history": {"y": [0.1, math.nan]}}]}, "value 2 of column 'y' is nan"),
        ({"inputs": [{"history": {"y": [math.inf]}}]}, "value 1 of column 'y' is inf"),
        ('{"inputs": [{"history": {"y": [1e999]}}]}', "value 1 of column 'y' is inf"),
        ({"inputs": [{"history": {"x": [0.1]}}]}, "history lacks the column 'y'"),
        ({"inputs": [HISTORY, {"history": {"y": []}}]}, "request 2 of 2: the history has 0 steps"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "inputs: Input should be a valid list"),
    ],
)
def test_a_wrong_request_for_a_forecast(forecaster, body, message):
    refusal = refused(forecaster, body)
    assert refusal.status == 400
    with pytest.raises(Refusal, match=f"(?s){message}"):
        raise refusal


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ({"dataframe_records": [{"tweet": "a"}]}, None, r"missing inputs \['text'\].*'tweet'"),
        ({"dataframe_records": [{"text": None}]}, None, "the text is None: give a text"),
        ({"dataframe_records": [{"text": math.nan}]}, None, "the text is nan: give a text"),
        ({"dataframe_records": [{"text": 3}]}, None, "the text is 3: give a text"),
        ({"dataframe_records": [{"text": "a" * 10**6}]}, None, "1,000,000 characters"),
        ({"dataframe_records": 3}, None, "must be a list of records"),
        ({"dataframe_split": {"columns": ["text"], "data": 3}}, None, "not a valid dataframe"),
        ({"inputs": ["a"], "instances": ["b"]}, None, "exactly one of the input fields"),
        ("tweet\nfine\n", "text/csv", r"missing inputs \['text'\]"),
        ('text\n"fine', "text/csv", "EOF inside string"),
        (b"\xff\xfe", "text/csv", "UTF-8"),
        ("no parquet", "application/vnd.apache.parquet", "Parquet"),
    ],
)
def test_a_wrong_request_for_labels(classifier, body, kind, message):
    refusal = refused(classifier, body, kind or "application/json")
    assert refusal.status == 400
    with pytest.raises(Refusal, match=f"(?s){message}"):
        raise refusal
    assert "IMPORTANT" not in refusal.message


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/json; charset=latin-1", "application/json; a=b"]
)
def test_other_contents_are_refused(forecaster, kind):
    assert refused(forecaster, {"inputs": [HISTORY]}, kind).status == 415


def test_a_mistake_of_ours_is_no_refusal(forecaster, monkeypatch):
    monkeypatch.setattr("pipelines.serving.forecast_requests", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        forecaster.score(json.dumps({"inputs": [HISTORY]}).encode(), "application/json")
    with pytest.raises(UserError, match="gru does not answer its own example"):
        forecaster.check()


def test_what_is_not_served_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing cannot be served: .*holds no saved model"):
        ScoredModel(tmp_path, "nothing")
