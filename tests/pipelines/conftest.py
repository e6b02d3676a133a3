import shutil
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from data_modules import Handwriting, SeriesDataModule, SyntheticSeries
from data_modules.handwriting.glyphs import CHARACTERS
from data_modules.tweets import Tweets
from lightning_modules.forecaster import Forecaster
from lightning_modules.handwriting_predictor import HandwritingPredictor
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from lightning_modules.saving import save_model
from lightning_modules.sequence_classifier import SequenceClassifier
from pipelines import tracking


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
