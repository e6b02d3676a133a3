import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_modules.baselines import BASELINES
from lightning_modules.forecaster import Forecaster
from lightning_modules.saving import load_model, save_model

# Runs in a process that has never seen the model or the data.
RELOAD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from lightning_modules.forecaster import Forecaster
from lightning_modules.saving import load_model

folder = Path(sys.argv[1])
torch.set_num_threads(1)
inputs = load_file(folder / "inputs.safetensors")
checkpoint = Forecaster.load_from_checkpoint(folder / "model.ckpt", weights_only=True)
for name, model in {"checkpoint": checkpoint.eval(), "files": load_model(folder)}.items():
    low, point, high = model.interval(inputs["history"], inputs["known"])
    outputs = {"low": low, "point": point.contiguous(), "high": high}
    save_file(outputs, folder / f"{name}_outputs.safetensors")
"""


def save(model, folder):
    save_model(model, dict(model.hparams), folder)


def test_round_trip_is_exact(architecture, make_forecaster, make_batch, tmp_path):
    model = make_forecaster(architecture).eval()
    save(model, tmp_path / "new" / "folder")
    loaded = load_model(tmp_path / "new" / "folder")
    assert not loaded.training
    history = make_batch(model.spec).values[:, :9]
    assert torch.equal(loaded.forecast(history), model.forecast(history))
    assert loaded.spec == model.spec
    assert dict(loaded.hparams) == dict(model.hparams)


def test_files_and_checkpoint_forecast_alike_in_a_fresh_process(
    make_spec, make_forecaster, make_batch, make_trainer, loader, tmp_path
):
    spec = make_spec(targets=2, known=1, location=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.5])
    model = make_forecaster("ConvGRU", spec=spec, loss="pinball", coverage=0.8)
    batches = loader([make_batch(spec, seed=seed) for seed in range(3)])
    trainer = make_trainer(max_epochs=1)
    trainer.fit(model, batches, batches)
    model.calibrate([make_batch(spec, size=20)])
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    save(model, tmp_path)
    history, known, _ = spec.split(make_batch(spec, seed=9).values)
    inputs = {"history": history.contiguous(), "known": known.contiguous()}
    save_file(inputs, tmp_path / "inputs.safetensors")
    subprocess.run([sys.executable, "-c", RELOAD, tmp_path], check=True, cwd=tmp_path, timeout=120)
    low, point, high = model.interval(history, known)
    assert torch.isfinite(high - low).all()
    for kind in ("checkpoint", "files"):
        outputs = load_file(tmp_path / f"{kind}_outputs.safetensors")
        for name, expected in {"low": low, "point": point, "high": high}.items():
            assert torch.equal(outputs[name], expected), (kind, name)


def test_checkpoint_with_optimizer_state_loads_with_weights_only(
    make_forecaster, make_batch, make_trainer, loader, tmp_path
):
    model = make_forecaster("LSTM")
    batches = loader([make_batch(model.spec)])
    trainer = make_trainer(max_epochs=1)
    trainer.fit(model, batches, batches)
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    loaded = Forecaster.load_from_checkpoint(tmp_path / "whole.ckpt", weights_only=True).eval()
    history = make_batch(model.spec, seed=3).values[:, :9]
    assert torch.equal(loaded.forecast(history), model.eval().forecast(history))


def test_baselines_are_saved_alike(make_spec, make_batch, tmp_path):
    spec = make_spec()
    model = BASELINES["naive"](spec.to_dict())
    model.fitted.fill_(True)
    save_model(model, {"spec": spec.to_dict()}, tmp_path)
    history = make_batch(spec).values[:, :9]
    assert torch.equal(load_model(tmp_path).forecast(history), model.forecast(history))


# Files that are broken or want something else -------------------------------------------------


@pytest.fixture
def folder(make_forecaster, tmp_path):
    save(make_forecaster("LSTM"), tmp_path)
    return tmp_path


def rewrite(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "class_path",
    [
        "os.system",
        "torch.nn.Identity",
        "lightning_modules_evil.Model",
        "lightning_modules.forecaster.MeanSquaredError",  # imported there, not ours
        "lightning_modules.forecaster.SeriesSpec",
        "lightning_modules.forecaster.LOSSES",
        "lightning_modules.saving.load_model",
        "lightning_modules.forecaster.Nothing",
        "lightning_modules.",
        7,
        None,
    ],
)
def test_a_file_may_name_models_of_ours_only(class_path, folder):
    rewrite(folder, class_path=class_path)
    with pytest.raises(ValueError, match="no model of Unroll's|class_path"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"{", b"", b"[1, 2]", b'{"init_args": {}}', b"\xff\xfe{"])
def test_broken_json_is_explained(content, folder):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match="holds no saved model"):
        load_model(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_explained(kept, folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="holds no saved model"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_explained(name, folder):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"holds no saved model.*{name}"):
        load_model(folder)


def test_files_that_do_not_fit_together_are_explained(folder):
    weights = load_file(folder / "weights.safetensors")
    removed = weights.pop("head.bias")
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(ValueError, match=r"do not fit together.*(?s:.*)head\.bias"):
        load_model(folder)
    save_file(weights | {"head.bias": removed[:-1]}, folder / "weights.safetensors")
    with pytest.raises(ValueError, match=r"do not fit together.*(?s:.*)head\.bias"):
        load_model(folder)
    rewrite(folder, init_args={"spec": {}, "colour": "red"})
    with pytest.raises(ValueError, match="do not fit together"):
        load_model(folder)
