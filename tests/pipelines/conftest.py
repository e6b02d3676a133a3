import asyncio
import json
import shutil
from pathlib import Path

import httpx
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient

from data_modules import GappedSeries, Handwriting, SeriesDataModule, SyntheticSeries
from data_modules.handwriting.glyphs import CHARACTERS
from data_modules.tweets import Tweets
from lightning_modules.forecaster import Forecaster
from lightning_modules.handwriting_predictor import HandwritingPredictor
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from lightning_modules.imputer import Imputer
from lightning_modules.saving import save_model
from lightning_modules.sequence_classifier import SequenceClassifier
from pipelines import packaging, tracking
from pipelines.champions import crown


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A real sqlite store; making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.client(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path, monkeypatch) -> MlflowClient:
    """An empty tracking store and registry, in use by everything that asks for the usual one."""
    path = tmp_path / "mlruns" / "mlflow.db"
    path.parent.mkdir()
    shutil.copyfile(empty_database, path)
    uri = f"sqlite:///{path}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return tracking.client(uri)


def sines(**options) -> SyntheticSeries:
    """Returns small data, set up; scaled, so that tests tell original units from scaled ones."""
    options = {"sizes": [60, 80, 20], "window": 12, "horizon": 4, "scaling": "standard"} | options
    data = SyntheticSeries("sum_of_sines", **options)
    data.setup()
    return data


def gru(data: SeriesDataModule, seed: int = 0, calibrated: bool = True, **options) -> Forecaster:
    """Returns a small network with random weights, calibrated on the data."""
    torch.manual_seed(seed)
    architecture = {"class_path": "lightning_modules.architectures.GRU"}
    architecture |= {"init_args": {"hidden_size": 4, "num_layers": 1}}
    model = Forecaster(data.spec.to_dict(), architecture, **options).eval()
    if calibrated:
        model.calibrate(data.loader("calibration"))
    return model


def saved(model, folder: Path) -> Path:
    """Saves a model as the pipelines do; returns the folder."""
    arguments = model.hparams if isinstance(model, Forecaster) else {"spec": model.spec.to_dict()}
    save_model(model, dict(arguments), folder)
    return folder


@pytest.fixture
def small():
    """What tests build models and data with: test files cannot import one another."""
    from types import SimpleNamespace

    return SimpleNamespace(sines=sines, gru=gru, saved=saved)


def tweets(**options) -> Tweets:
    """Returns few tweets, set up."""
    data = Tweets(**({"sizes": [300, 80, 80], "embedding_size": 8} | options))
    data.setup()
    return data


def lstm(data: Tweets, seed: int = 0, **options) -> SequenceClassifier:
    """Returns a small classifier with random weights that are large enough to differ."""
    torch.manual_seed(seed)
    architecture = {"class_path": "lightning_modules.architectures.LSTM"}
    architecture |= {"init_args": {"hidden_size": 6, "num_layers": 1}}
    model = SequenceClassifier(data.spec.to_dict(), architecture, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def text():
    """What tests build classifiers and texts with."""
    from types import SimpleNamespace

    return SimpleNamespace(tweets=tweets, lstm=lstm)


def lines(**options) -> Handwriting:
    """Returns few lines of the synthetic pen, set up; their characters are all known."""
    given = {"lines": [20, 8, 8], "characters": [3, 6], "evaluation_batch_size": 3}
    data = Handwriting(**(given | {"alphabet": f" {CHARACTERS}"} | options))
    data.setup()
    return data


def predictor(data: Handwriting, seed: int = 0, architecture: str = "GRU") -> HandwritingPredictor:
    """Returns a small model of the pen with random weights that is given no text."""
    torch.manual_seed(seed)
    network = {"class_path": f"lightning_modules.architectures.{architecture}"}
    return HandwritingPredictor(data.spec.to_dict(), network, mixture_components=3).eval()


def synthesizer(data: Handwriting, seed: int = 0) -> HandwritingSynthesizer:
    """Returns a small model of the pen with random weights that writes."""
    torch.manual_seed(seed)
    return HandwritingSynthesizer(data.spec.to_dict(), 8, 2, 3).eval()


@pytest.fixture
def pen():
    """What tests build models of the pen and lines with."""
    from types import SimpleNamespace

    return SimpleNamespace(lines=lines, predictor=predictor, synthesizer=synthesizer)


@pytest.fixture
def crowned(store, tmp_path):
    """Returns a function: logs a model, registers it and makes it the champion; its version."""

    def register(model, name: str) -> str:
        run_id = tracking.start_run(store, "served", name, {"kind": "trial"})
        with tracking.running(store, run_id):
            save_model(model, dict(model.hparams), tmp_path / f"saved-{run_id}")
        folder = tmp_path / f"saved-{run_id}"
        model_id = packaging.log_served_model(store, run_id, folder, name)
        if not store.search_registered_models(f"name = '{name}'"):
            store.create_registered_model(name)
        source = f"models:/{model_id}"
        version = str(store.create_model_version(name, source, run_id, model_id=model_id).version)
        crown(store, name, version)
        return version

    return register


def imputer(seed: int = 0) -> Imputer:
    """Returns a small network with random weights that fills gaps, calibrated."""
    data = GappedSeries(window=12, longest=3, steps=600)
    data.setup()
    torch.manual_seed(seed)
    architecture = {"class_path": "lightning_modules.architectures.LSTM"}
    model = Imputer(data.spec.to_dict(), architecture | {"init_args": {"hidden_size": 4}})
    model.calibrate(data.loader("calibration"))
    return model.eval()


#: What MLflow's clients send to the models of each task: a body, and its content type.
HISTORIES = [{"history": {"y": [i / 7 for i in range(n)]}} for n in (12, 5, 30)]
HOLES = [
    {"columns": {"load": [None if i % 5 == 2 else 20 + i / 7 for i in range(n)]}}
    for n in (12, 5, 30)
]
TEXTS = ["not bad at all :)", "", '😀 so, so\n"good"', "これは"]
PAYLOADS = {
    "forecasts": [
        ({"inputs": HISTORIES}, None),
        ({"inputs": []}, None),
        ({"inputs": HISTORIES[:1], "params": {"unknown": 1}}, None),
    ],
    "gaps": [({"inputs": HOLES}, None), ({"inputs": []}, None)],
    "texts": [
        ({"inputs": TEXTS}, None),
        ({"inputs": {"text": TEXTS}}, None),
        ({"instances": TEXTS}, None),
        ({"instances": [{"text": each} for each in TEXTS]}, None),
        ({"dataframe_records": [{"text": each, "more": 1} for each in TEXTS]}, None),
        ({"dataframe_split": {"columns": ["text"], "data": [[each] for each in TEXTS]}}, None),
        ("text\nfine\nso bad\n", "text/csv"),
        ("text\nfine\n", "text/csv; charset=utf-8"),
        (pd.DataFrame({"text": TEXTS}).to_parquet(), "application/vnd.apache.parquet"),
    ],
    "pen": [
        ({"inputs": ["ab"]}, None),
        ({"instances": [{"text": "ab"}]}, None),
        ({"dataframe_records": [{"text": "ab"}], "params": {"seed": 3, "width": 1}}, None),
        ({"dataframe_split": {"columns": ["text"], "data": [["ab"]]}}, None),
        ("text\nab\n", "text/csv"),
    ],
    "scribbles": [
        ({"inputs": [0, 1]}, None),
        ({"inputs": {"seed": [0, 1]}}, None),
        ({"instances": [{"seed": 2}]}, None),
        ({"dataframe_records": [{"seed": 2}], "params": {"points": 20}}, None),
        ({"dataframe_split": {"columns": ["seed"], "data": [[5]]}}, None),
        ("seed\n7\n", "text/csv"),
    ],
}


@pytest.fixture(params=list(PAYLOADS))
def served_task(request, small, text, pen):
    """A small model of each task, and payloads for it, as bytes with their content types."""
    model = {
        "forecasts": lambda: small.gru(small.sines()),
        "gaps": imputer,
        "texts": lambda: text.lstm(text.tweets()),
        "pen": lambda: pen.synthesizer(pen.lines()),
        "scribbles": lambda: pen.predictor(pen.lines()),
    }[request.param]()
    payloads = [
        (json.dumps(body).encode(), "application/json")
        if kind is None
        else (body if isinstance(body, bytes) else body.encode(), kind)
        for body, kind in PAYLOADS[request.param]
    ]
    return model, payloads


@pytest.fixture
def ask():
    """Returns a function: a request to an ASGI application, and its reply."""

    def request(app, method: str, path: str, **options) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    return request
