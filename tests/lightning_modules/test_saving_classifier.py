"""A classifier from its files alone, in a process that has never seen the model or the data."""

import json
import subprocess
import sys

import torch
from safetensors.torch import load_file

from lightning_modules.saving import load_model, save_model
from lightning_modules.sequence_classifier import SequenceClassifier

RELOAD = """
import json
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from lightning_modules.saving import load_model
from lightning_modules.sequence_classifier import SequenceClassifier

folder = Path(sys.argv[1])
torch.set_num_threads(1)
texts = json.loads((folder / "texts.json").read_text())
checkpoint = SequenceClassifier.load_from_checkpoint(folder / "model.ckpt", weights_only=True)
models = {"checkpoint": checkpoint, "files": load_model(folder)}
save_file({name: m.classify(texts) for name, m in models.items()}, folder / "outputs.safetensors")
"""
TEXTS = [["w2", "w3", "☃"], [], ["w11"] * 20]


def test_round_trip_is_exact(text_architecture, make_classifier, tmp_path):
    model = make_classifier(text_architecture, pooling="attention")
    save_model(model, dict(model.hparams), tmp_path)
    loaded = load_model(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded.classify(TEXTS), model.classify(TEXTS))
    assert loaded.spec == model.spec
    assert dict(loaded.hparams) == dict(model.hparams)


def test_files_and_checkpoint_classify_alike_in_a_fresh_process(
    make_classifier, make_text_spec, make_text_batch, make_trainer, loader, tmp_path
):
    spec = make_text_spec(classes=3, text_options={"lemmatizer": "lookup"})
    model = make_classifier(
        "GRU",
        spec=spec,
        bidirectional=True,
        head_sizes=[6],
        vectors="frozen",
        class_weights=[1.0, 2.0, 0.5],
    )
    batches = loader([make_text_batch(spec, [9, 3, 0, 5, 5], seed) for seed in range(3)])
    trainer = make_trainer(max_epochs=2)
    trainer.fit(model, batches, batches)
    model.calibrate(batches)
    assert model.temperature != 1
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    save_model(model, dict(model.hparams), tmp_path)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    subprocess.run([sys.executable, "-c", RELOAD, tmp_path], check=True, cwd=tmp_path, timeout=120)
    outputs = load_file(tmp_path / "outputs.safetensors")
    assert torch.equal(outputs["files"], model.classify(TEXTS))
    assert torch.equal(outputs["checkpoint"], model.classify(TEXTS))


def test_checkpoint_with_optimizer_state_loads_with_weights_only(
    make_classifier, make_text_batch, make_trainer, loader, tmp_path
):
    model = make_classifier(vectors="frozen_then_tuned", optimization={"schedule": "constant"})
    batches = loader([make_text_batch(model.spec, [4, 7])])
    trainer = make_trainer(max_epochs=1)
    trainer.fit(model, batches, batches)
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    loaded = SequenceClassifier.load_from_checkpoint(tmp_path / "whole.ckpt", weights_only=True)
    assert torch.equal(loaded.classify(TEXTS), model.classify(TEXTS))
    # And training goes on from it, into the epoch in which vectors train.
    before = loaded.embedding.table.weight.detach().clone()
    make_trainer(max_epochs=2).fit(
        loaded, batches, batches, ckpt_path=tmp_path / "whole.ckpt", weights_only=True
    )
    assert not torch.equal(loaded.embedding.table.weight, before)
