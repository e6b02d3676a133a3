import ast
import contextlib
import importlib.metadata
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from data_modules import SyntheticSeries
from data_modules.errors import UserError
from lightning_modules.baselines import BASELINES
from lightning_modules.saving import save_model
from pipelines import packaging, tracking
from pipelines.classifying import classify_texts
from pipelines.forecasting import Request, forecast_requests
from pipelines.predict import main as predict_main
from pipelines.task import find_task


def requests_of(data, lengths, part="test"):
    """Returns requests with the last steps of the histories of windows, in original units."""
    values = data.spec.to_raw(data.parts[part].values)
    window, names = data.spec.window, data.spec.channels
    known = [names[i] for i in data.spec.known_channels]
    requests = []
    for row, length in enumerate(lengths):
        history = values[row, window - length : window]
        future = values[row, window:]
        requests.append(
            Request(
                history={name: history[:, i].tolist() for i, name in enumerate(names)},
                known_future={name: future[:, names.index(name)].tolist() for name in known}
                or None,
            )
        )
    return requests


def log_run(store, model, small, tmp_path):
    run_id = tracking.start_run(store, "forecasting/sines", "gru-s0", {"kind": "trial"})
    with tracking.running(store, run_id):
        tracking.log_metrics(store, run_id, {"test_mse": 0.25})
    folder = small.saved(model, tmp_path / "saved")
    return run_id, packaging.log_served_model(store, run_id, folder, "gru: 20/20")


def test_forecasts_are_those_of_the_model_in_original_units(small):
    data = small.sines(scaling="standard")
    model = small.gru(data)
    answers = forecast_requests(model, requests_of(data, [12, 12, 12]))
    history, _, _ = data.spec.split(data.parts["test"].values[:3])
    low, point, high = (data.spec.to_original(each.double()) for each in model.interval(history))
    for row, answer in enumerate(answers):
        for field, expected in (("low", low), ("forecast", point), ("high", high)):
            np.testing.assert_allclose(answer[field]["y"], expected[row, :, 0], rtol=1e-5)
        assert answer["coverage"] == 0.9
    # Scaled and original units must differ for this to tell anything.
    assert abs(data.spec.scale[0] - 1) > 0.1


def test_histories_of_unequal_length_are_answered_as_if_alone_and_in_order(small):
    data = small.sines()
    model = small.gru(data)
    requests = requests_of(data, [12, 5, 12, 1, 5])
    together = forecast_requests(model, requests)
    for request, answer in zip(requests, together, strict=True):
        alone = forecast_requests(model, [request])[0]
        np.testing.assert_allclose(answer["forecast"]["y"], alone["forecast"]["y"], rtol=1e-5)
    assert forecast_requests(model, []) == []


def test_of_a_long_history_the_window_counts(small):
    data = small.sines()
    model = small.gru(data)
    request = requests_of(data, [12])[0]
    longer = Request(history={"y": [9.0, -9.0, *request.history["y"]], "unused": [1.0]})
    assert forecast_requests(model, [longer]) == forecast_requests(model, [request])


def test_without_calibration_there_is_no_interval(small):
    data = small.sines()
    naive = BASELINES["naive"](data.spec.to_dict()).fit(data)
    for model in (small.gru(data, calibrated=False), naive):
        answer = forecast_requests(model, requests_of(data, [12]))[0]
        assert list(answer) == ["forecast"]
    naive.calibrate(data.loader("calibration"))
    answer = forecast_requests(naive, requests_of(data, [12]))[0]
    assert answer["low"]["y"][0] < answer["forecast"]["y"][0] < answer["high"]["y"][0]
    # Calibrated on whole windows: of a shorter history the coverage is not known.
    short = forecast_requests(model, requests_of(data, [data.spec.window - 1]))[0]
    assert set(short) == {"forecast"}
    # A calibration part too small for the coverage gives infinite margins: no interval either.
    model = small.gru(data)
    model.conformal_margin = torch.full_like(model.conformal_margin, math.inf)
    assert "low" not in forecast_requests(model, requests_of(data, [12]))[0]


def test_known_future_is_used_and_asked_for(small):
    data = SyntheticSeries("narx", sizes=[80, 60, 40], window=10, horizon=3)
    data.setup()
    model = small.gru(data)
    known = [data.spec.channels[i] for i in data.spec.known_channels]
    request = requests_of(data, [10])[0]
    history, future, _ = data.spec.split(data.parts["test"].values[:1])
    with torch.no_grad():
        expected = data.spec.to_original(model.forecast(history, future).double())
    answer = forecast_requests(model, [request])[0]
    np.testing.assert_allclose(list(answer["forecast"].values()), expected[0].T, rtol=1e-5)
    with pytest.raises(UserError, match=f"known_future lacks the column '{known[0]}'"):
        forecast_requests(model, [Request(history=request.history)])
    short = Request(history=request.history, known_future={known[0]: [0.1]})
    with pytest.raises(UserError, match="known_future has 1 steps and the model forecasts 3"):
        forecast_requests(model, [short])


def test_baselines_state_their_own_minimum(small):
    data = small.sines()
    model = BASELINES["linear"](data.spec.to_dict()).fit(data)
    assert model.minimum_history > 1
    with pytest.raises(UserError, match="has 1 steps and the model needs at least"):
        forecast_requests(model, [Request(history={"y": [0.1]})])


BAD = {
    "no column": ([{"history": {"x": [1.0]}}], "history lacks the column 'y'"),
    "empty": ([{"history": {"y": []}}], "has 0 steps and the model needs at least 1"),
    "not finite": ([{"history": {"y": [0.1, math.nan]}}], "value 2 of column 'y' is nan"),
    "too large": ([{"history": {"y": [1e300]}}], "column 'y' holds 1e\\+300"),
    "text": ([{"history": {"y": ["0.1"]}}], "Input should be a valid number"),
    "null": ([{"history": {"y": [None]}}], "Input should be a valid number"),
    "misspelt": ([{"histroy": {"y": [1.0]}}], "(?s)history.*Field required"),
    "no list": ({"history": {"y": [1.0]}}, "Expected list"),
    "second": ([{"history": {"y": [1.0]}}, {"history": {"y": []}}], "request 2 of 2: the history"),
    "future": (
        [{"history": {"y": [1.0]}, "known_future": {"u": [1.0]}}],
        "no column of this model is known in advance",
    ),
}


def test_logged_model(store, small, tmp_path, monkeypatch):
    data = small.sines()
    model = small.gru(data)
    path = list(sys.path)
    run_id, model_id = log_run(store, model, small, tmp_path)
    assert sys.path == path
    assert store.get_run(run_id).info.status == "FINISHED"
    logged = store.get_logged_model(model_id)
    assert logged.experiment_id == store.get_run(run_id).info.experiment_id
    assert packaging.logged_served_model(store, run_id) == model_id

    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}"))
    suffixes = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".ckpt", ".pyc"}
    assert {file.name for file in (folder / "code").iterdir()} == set(packaging.PACKAGES)
    assert {file.suffix for file in (folder / "code").rglob("*") if file.is_file()} == {".py"}
    pinned = (folder / "requirements.txt").read_text().split()
    torch_version = importlib.metadata.version("torch").partition("+")[0]
    assert f"torch=={torch_version}" in pinned

    loaded = mlflow.pyfunc.load_model(f"models:/{model_id}")
    signature = loaded.metadata.signature
    assert "history" in str(signature.inputs) and "forecast" in str(signature.outputs)
    example = json.loads((folder / "input_example.json").read_text())
    assert len({len(request["history"]["y"]) for request in example}) == 2
    assert len(loaded.predict(example)) == 2
    for payload, message in BAD.values():
        with pytest.raises(MlflowException, match=message) as caught:
            loaded.predict(payload)
        assert caught.value.get_http_status_code() == 400

    # A fresh process, in another folder, with no data at hand and a checkout out of sight.
    requests = requests_of(data, [12, 5, 3])
    payload = [request.model_dump(exclude_none=True) for request in requests]
    code = (
        "import json, sys, mlflow\n"
        f"model = mlflow.pyfunc.load_model('models:/{model_id}')\n"
        "import lightning_modules\n"
        "print(lightning_modules.__file__)\n"
        f"print(json.dumps(model.predict(json.loads({json.dumps(payload)!r}))))"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    place, answers = done.stdout.splitlines()
    assert Path(place).parent.parent.name == "code"
    for answer, expected in zip(
        json.loads(answers), forecast_requests(model, requests), strict=True
    ):
        assert answer.keys() == expected.keys()
        for field in answer.keys() - {"coverage"}:
            np.testing.assert_allclose(answer[field]["y"], expected[field]["y"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["series", "texts"])
def test_requirements_cover_what_the_served_code_imports(kind, small, text):
    model = small.gru(small.sines()) if kind == "series" else text.lstm(text.tweets())
    serving = find_task(model.task).serving(model)
    code = (
        f"import sys, {serving.served.__module__}\n"
        "print([m.__file__ for n, m in sys.modules.items()"
        f" if n.split('.')[0] in {packaging.PACKAGES}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    imported = set()
    for file in ast.literal_eval(done.stdout):
        for node in ast.parse(Path(file).read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - set(packaging.PACKAGES)
    assert "torch" in foreign
    # A name to import and the name of its distribution may differ.
    installed = importlib.metadata.packages_distributions()
    required = {*packaging.REQUIREMENTS, *serving.requirements}
    assert not [name for name in foreign if not required & set(installed[name])]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(port: int, payload: object) -> tuple[int, dict]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        data=json.dumps(payload).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def stop(server: subprocess.Popen) -> None:
    """Ends a server and the processes that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=20)
            return


@contextlib.contextmanager
def served(model: str, tmp_path: Path):
    """Serves a registered model as ``make serve`` does; gives the port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            # MLflow starts uvicorn by name: it must be found beside this Python.
            env=os.environ
            | {"OMP_NUM_THREADS": "1"}
            | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 90
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, (tmp_path / "server.log").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                    time.sleep(0.3)
            yield port
        finally:
            stop(server)


@pytest.mark.slow
def test_server_predict_and_process_agree(store, small, tmp_path):
    data = small.sines()
    model = small.gru(data)
    run_id, model_id = log_run(store, model, small, tmp_path)
    store.create_registered_model("sines")
    version = store.create_model_version("sines", f"models:/{model_id}", run_id, model_id=model_id)
    store.set_registered_model_alias("sines", "champion", version.version)
    requests = requests_of(data, [12, 5])
    expected = forecast_requests(model, requests)

    pd.DataFrame(requests[0].history).to_csv(tmp_path / "history.csv", index=False)
    predict_main(
        ["--model", "models:/sines@champion", "--input", str(tmp_path / "history.csv")]
        + ["--output", str(tmp_path / "forecast.csv")]
    )
    frame = pd.read_csv(tmp_path / "forecast.csv")
    np.testing.assert_allclose(frame["y"], expected[0]["forecast"]["y"], rtol=1e-9)
    np.testing.assert_allclose(frame["y_low"], expected[0]["low"]["y"], rtol=1e-9)

    with served("models:/sines@champion", tmp_path) as port:
        payload = [request.model_dump(exclude_none=True) for request in requests]
        status, answer = post(port, {"inputs": payload})
        assert status == 200
        for got, wanted in zip(answer["predictions"], expected, strict=True):
            assert got.keys() == wanted.keys()
            for field in got.keys() - {"coverage"}:
                np.testing.assert_allclose(got[field]["y"], wanted[field]["y"], rtol=1e-6)
        for name, (wrong, _) in BAD.items():
            status, answer = post(port, {"inputs": wrong})
            assert status == 400, name
            assert answer["error_code"] == "INVALID_PARAMETER_VALUE", name


# Texts --------------------------------------------------------------------------------------------

TEXTS = ["not bad at all :)", "", "😀", "これは", "so " * 3000]


@pytest.fixture
def served_classifier(store, text, tmp_path):
    """Returns a classifier, registered as the champion of "tweets"."""
    model = text.lstm(text.tweets())
    run_id = tracking.start_run(store, "classification/tweets", "lstm-s0", {"kind": "trial"})
    with tracking.running(store, run_id):
        tracking.log_metrics(store, run_id, {"test_error_rate": 0.25})
    save_model(model, dict(model.hparams), tmp_path / "saved")
    model_id = packaging.log_served_model(store, run_id, tmp_path / "saved", "lstm")
    store.create_registered_model("tweets")
    version = store.create_model_version("tweets", f"models:/{model_id}", run_id, model_id=model_id)
    store.set_registered_model_alias("tweets", "champion", version.version)
    return model


def test_a_registered_classifier_takes_raw_texts(served_classifier):
    loaded = mlflow.pyfunc.load_model("models:/tweets@champion")
    pd.testing.assert_frame_equal(
        loaded.predict(pd.DataFrame({"text": TEXTS})), classify_texts(served_classifier, TEXTS)
    )
    names = loaded.metadata.signature.outputs.input_names()
    assert names == ["label", "confidence", "p_negative", "p_positive"]
    with pytest.raises(MlflowException, match="text"):
        loaded.predict(pd.DataFrame({"tweet": ["fine"]}))
    with pytest.raises(MlflowException, match="text 2 of 2 is (None|nan): give a text"):
        loaded.predict(pd.DataFrame({"text": ["fine", None]}))


@pytest.mark.slow
def test_a_server_of_texts_answers_as_a_fresh_process_does(served_classifier, tmp_path):
    expected = classify_texts(served_classifier, TEXTS)
    with served("models:/tweets@champion", tmp_path) as port:
        records = [{"text": each} for each in TEXTS]
        status, answer = post(port, {"dataframe_records": records})
        assert status == 200
        got = pd.DataFrame(answer["predictions"])
        assert list(got["label"]) == list(expected["label"])
        np.testing.assert_allclose(got["p_positive"], expected["p_positive"], rtol=1e-6)
        for wrong in ({"dataframe_records": [{"tweet": "fine"}]}, {"inputs": 3}):
            assert post(port, wrong)[0] == 400
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import mlflow, pandas, lightning_modules\n"
        "model = mlflow.pyfunc.load_model('models:/tweets@champion')\n"
        f"frame = model.predict(pandas.DataFrame({{'text': {TEXTS!r}}}))\n"
        "print(lightning_modules.__file__)\nprint(frame.to_json(orient='records'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=os.environ | {"OMP_NUM_THREADS": "1", "UNROLL_CACHE": str(elsewhere)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers = pd.DataFrame(json.loads(done.stdout.splitlines()[-1]))
    np.testing.assert_allclose(answers["p_positive"], expected["p_positive"], rtol=1e-6)
