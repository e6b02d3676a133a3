"""What comes from outside cannot run code here, and secrets stay where they are.

Archives, XML and numpy files are tested with their readers (``tests/data_modules``), the names in
a saved model with its loader (``tests/lightning_modules/test_saving.py``), and passwords with the
journal and the server. Served models are in ``test_serve.py``.
"""

import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from data_modules.errors import UserError
from pipelines import predict, train
from pipelines.experiment import build_data
from pipelines.fitting import fit


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (subprocess.check_call, (["touch", str(self.marker)],))


@pytest.fixture
def marker(tmp_path):
    """What must not be there afterwards; it would be, were the payload loaded carelessly."""
    path = tmp_path / "payload-has-run"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


def evil_checkpoint(path, marker):
    torch.save({"state_dict": {}, "payload": Payload(marker)}, path)
    return path


def test_a_checkpoint_to_start_from(tiny_config, tmp_path, marker):
    path = evil_checkpoint(tmp_path / "evil.ckpt", marker)
    config = tiny_config(f"--warm_start={path}")
    with pytest.raises(UserError, match="warm_start: .*evil.ckpt is not a checkpoint"):
        fit(config, build_data(config["data"]), tmp_path / "run")


class Stop(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 4:
            raise KeyError("stop")


@pytest.mark.parametrize("name", ["last.ckpt", "model.ckpt"])
def test_a_checkpoint_to_go_on_from(tiny_config, tmp_path, marker, name):
    config = tiny_config("--data.batch_size=1000", "--trainer.max_epochs=6")
    config["checkpoints"] = str(tmp_path / "kept")
    with pytest.raises(KeyError, match="stop"):
        fit(config, build_data(config["data"]), tmp_path / "one", callbacks=[Stop()])
    evil_checkpoint(tmp_path / "kept" / name, marker)
    if name == "model.ckpt":  # of a training that is said to be finished
        (tmp_path / "kept/training.json").write_text('{"metrics": {}}')
    with pytest.raises(UserError, match=f"checkpoints: .*{name} is not a checkpoint of ours"):
        fit(config, build_data(config["data"]), tmp_path / "two")


@pytest.mark.parametrize(
    "content",
    [
        "data: !!python/object/apply:subprocess.check_call [[touch, {marker}]]",
        "name: !!python/object/new:subprocess.Popen [[touch, {marker}]]",
        "data: {{class_path: subprocess.check_call, init_args: {{args: [touch, {marker}]}}}}",
        "model: {{class_path: subprocess.Popen, init_args: {{args: [touch, {marker}]}}}}",
        "architecture: {{class_path: os.system, init_args: {{command: touch {marker}}}}}",
        "trainer: {{strategy: {{class_path: os.system, init_args: {{command: touch {marker}}}}}}}",
    ],
)
def test_a_configuration(tiny_arguments, tmp_path, marker, content, capsys):
    path = tmp_path / "evil.yaml"
    path.write_text(content.format(marker=marker))
    with pytest.raises(SystemExit) as ended:
        train.main([*tiny_arguments, f"--config={path}"])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["loader", "class", "architecture"])
def test_a_model_version(store, small, tmp_path, marker, kind, capsys, monkeypatch):
    """Someone else can write to the registry: what is there is read, never run."""
    folder = small.saved(small.gru(small.sines()), tmp_path / "model")
    config = json.loads((folder / "model.json").read_text())
    if kind == "class":
        config |= {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(marker)]}}
    if kind == "architecture":
        evil = {"class_path": "evil.Model", "init_args": {}}
        config["init_args"]["architecture"] = evil
    (folder / "model.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Payload(marker)))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: evil\n    code: .\n"
        "    python_model: python_model.pkl\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    store.create_registered_model("evil")
    store.create_model_version("evil", folder.as_uri())
    (tmp_path / "history.csv").write_text("y\n" + "0.5\n" * 12)
    arguments = ["--model=models:/evil/1", f"--input={tmp_path / 'history.csv'}"]
    arguments.append(f"--output={tmp_path / 'forecast.csv'}")
    if kind == "loader":  # the weights and their JSON are sound, and all that is looked at
        predict.main(arguments)
        assert (tmp_path / "forecast.csv").exists()
        return
    with pytest.raises(SystemExit) as ended:
        predict.main(arguments)
    assert ended.value.code == 2
    assert "no model of Unroll's" in capsys.readouterr().err


def test_mlflow_is_started_without_pickles():
    """By ``make ui`` and the like, by the script of the server, and by our own pipelines."""
    root = Path(__file__).parents[2]
    name = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
    shown = subprocess.run(
        ["make", "--silent", "--eval", "shown: ; @env", "shown"],
        cwd=root,
        env={key: value for key, value in os.environ.items() if key != name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{name}=false" in shown.stdout.splitlines()
    assert f"{name}=false" in (root / "deploy" / "server.sh").read_text()
    assert os.environ[name] == "false"
