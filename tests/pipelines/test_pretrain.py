"""The models that come with Unroll: they load, read and write; and how they are made, in small."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_modules import Handwriting
from data_modules.handwriting.ink import offsets
from lightning_modules.handwriting_recognizer import character_error_rate
from lightning_modules.pretrained import FOLDER, PRETRAINED, load_pretrained
from lightning_modules.saving import WEIGHTS, load_model
from pipelines import pretrain
from pipelines.experiment import read_yaml


@pytest.fixture(scope="module")
def unseen():
    """Lines of writers and sentences that neither model has learned from."""
    data = Handwriting(lines=(60, 20, 60))
    data.setup()
    return data.parts["test"].inks


@pytest.mark.parametrize("name", PRETRAINED)
def test_they_are_small_and_half_precise(name):
    weights = FOLDER / name / WEIGHTS
    assert weights.stat().st_size <= 8 * 2**20
    assert {tensor.dtype for tensor in load_file(weights).values()} <= {torch.float16}
    assert {parameter.dtype for parameter in load_pretrained(name).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", PRETRAINED)
def test_they_are_what_their_configuration_makes(name):
    config = read_yaml(pretrain.CONFIGS / f"pretrained_{name}.yaml")
    model = load_pretrained(name)
    assert config["model"]["class_path"].endswith(type(model).__name__)
    for option, value in (config["model"].get("init_args") or {}).items():
        assert model.hparams[option] == value
    data = Handwriting(**config["data"]["init_args"] | {"lines": (200, 10, 10)}, alphabet=None)
    data.setup()
    assert set(data.spec.alphabet) <= set(model.spec.alphabet)


def test_the_recogniser_reads_unseen_hands(unseen):
    read = load_pretrained("recognizer").read([offsets(ink.points)[1:] for ink in unseen])
    assert character_error_rate(read, [ink.text for ink in unseen]) <= 0.02


def test_the_synthesiser_writes_legibly(unseen):
    """Sentences that are in neither training, once each, without a second attempt."""
    texts = [ink.text for ink in unseen]
    written = load_pretrained("synthesizer").write(texts, legibility=0.5)
    read = load_pretrained("recognizer").read([sample.offsets for sample in written])
    finished = [line if sample.finished else "" for line, sample in zip(read, written, strict=True)]
    # 2.4 % in the mean over many lines, with room for these few.
    assert character_error_rate(finished, texts) <= 0.05


def test_the_synthesiser_knows_how_to_begin():
    """Where cells began at zero, every fourth line began with another letter, or a stroke more."""
    data = Handwriting(lines=(60, 100, 10))
    data.setup()
    texts = [ink.text for ink in data.parts["validation"].inks]
    written = load_pretrained("synthesizer").write(texts, legibility=0.5)
    read = load_pretrained("recognizer").read([sample.offsets for sample in written])
    right = [found[:1] == text[:1] for found, text in zip(read, texts, strict=True)]
    assert np.mean(right) >= 0.9


@pytest.fixture
def in_small(tmp_path, monkeypatch):
    """The configurations with networks, lines and trainings that are small."""
    for path in pretrain.CONFIGS.glob("pretrained_*.yaml"):
        small = path.read_text()
        for long, short in (
            ("[40000, 500, 500]", "[100, 10, 10]"),
            ("[20000, 300, 300]", "[100, 10, 10]"),
            ("hidden_size: 256", "hidden_size: 8"),
        ):
            small = small.replace(long, short)
        for option, value in (("max_steps", 4), ("val_check_interval", 2)):
            small, found = re.subn(rf"{option}: \d+", f"{option}: {value}", small)
            assert found == 1
        (tmp_path / path.name).write_text(small)
    monkeypatch.setattr(pretrain, "CONFIGS", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_they_are_made_by_one_command(name, store, in_small, tmp_path):
    arguments = [f"--checkpoints={tmp_path / 'checkpoints'}", f"--to={tmp_path / 'made'}"]
    pretrain.main([*arguments, f"--only=[{name}]"])
    first = load_file(tmp_path / "made" / name / WEIGHTS)
    assert type(load_model(tmp_path / "made" / name)) is type(load_pretrained(name))
    # Given again, the finished training is found and not repeated.
    pretrain.main([*arguments, f"--only=[{name}]"])
    again = load_file(tmp_path / "made" / name / WEIGHTS)
    assert all(np.array_equal(first[key], again[key]) for key in first)
