import numpy as np
import pandas as pd
import pytest
import torch

from data_modules.errors import UserError
from lightning_modules.handwriting_recognizer import HandwritingRecognizer, edit_distances
from pipelines.recognition_task import RecognitionTask
from pipelines.results import Result

TASK = RecognitionTask()


@pytest.fixture
def data(pen):
    return pen.lines(writers="recognition")


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    return HandwritingRecognizer(data.spec.to_dict(), 6, 1, channels=4).eval()


class Reads:
    """Stands for a recogniser that reads what it is told."""

    def __init__(self, texts, spec):
        self.texts, self.spec = texts, spec

    def read(self, lines):
        return self.texts[: len(lines)]


def test_the_mean_over_lines_is_that_of_validation(data, model):
    """All mistakes over all characters, and all nats over those of lines that CTC can align."""
    for batch in data.loader("test"):
        model.validation_step(batch, 0)
    errors = TASK.evaluate(model, data, "test").errors
    assert errors["character_error_rate"].shape == (8, 1)
    expected = float(model.error_rate.compute())
    assert errors["character_error_rate"].mean() == pytest.approx(expected)
    assert errors["nats_per_character"].mean() == pytest.approx(float(model.nats.compute()))


def test_lines_that_cannot_be_aligned_are_left_out(data, model):
    model.strides, before = [2, 8], TASK.evaluate(model, data, "test").errors
    model.convolutions[1].stride = (8,)
    for batch in data.loader("test"):
        model.validation_step(batch, 0)
    assert float(model.unalignable.compute()) > 0
    found = TASK.evaluate(model, data, "test").errors["nats_per_character"]
    assert np.isfinite(found).all()
    assert found.mean() == pytest.approx(float(model.nats.compute()))
    assert not np.allclose(found, before["nats_per_character"])


def test_worst_mistakes(data):
    texts = [ink.text for ink in data.parts["test"].inks]
    read = ["", texts[1] + "x", *texts[2:]]
    result = Result(
        name="mine",
        kind="network",
        errors={"character_error_rate": edit_distances(read, texts)[None, :, None] / 3},
        validation=np.zeros(1),
        parameters=1,
        train_seconds=1.0,
        inference_us_per_step=1.0,
    )
    order = result.errors["character_error_rate"][0].mean(1).argsort()[::-1]
    told = Reads([read[i] for i in order], data.spec)
    examples = TASK.examples(data, result, 0, "character_error_rate", lambda: told)
    assert list(examples["misread"]) == sorted([len(texts[0]), 1], reverse=True)
    (table,) = TASK.tables(examples).values()
    assert texts[0] in set(table["text"])
    assert TASK.tables(pd.DataFrame()) == {}


def test_on_other_data(data, model, pen):
    few = pen.lines(alphabet=None)
    texts = [ink.text for ink in few.parts["validation"].inks]
    told = Reads(["", *texts[1:]], data.spec)
    found = TASK.validation_error(told, few, "character_error_rate")
    assert found == pytest.approx(len(texts[0]) / sum(map(len, texts)))
    with pytest.raises(UserError, match="does not know the characters"):
        TASK.validation_error(Reads(texts, few.spec), data, "character_error_rate")


def test_reads_a_file(data, model, tmp_path):
    from types import SimpleNamespace

    with pytest.raises(UserError, match="--input"):
        TASK.predict(model, SimpleNamespace(input=None, output=None))
    file = tmp_path / "mine.jsonl"
    file.write_text('{"text": "?", "strokes": [[[0, 0], [3, 9], [6, 0], [9, 9], [12, 1]]]}\n')
    (line,) = TASK.predict(model, SimpleNamespace(input=str(file), output=None))
    assert line.startswith("mine-1: ")
    # What it says need not be known, and a line that is no line is not passed over in silence.
    flat = '{"text": "", "strokes": [[[0, 0], [3, 0]]]}\n'
    file.write_text(file.read_text().replace('"?"', '""') + flat)
    left_out, line = TASK.predict(model, SimpleNamespace(input=str(file), output=None))
    assert (left_out, line[:8]) == ("left out: 1 with no height at all", "mine-1: ")
    output = str(tmp_path / "read.csv")
    assert TASK.predict(model, SimpleNamespace(input=str(file), output=output))[1].endswith(output)
    assert list(pd.read_csv(output, keep_default_na=False)["name"]) == ["mine-1"]
    with pytest.raises(UserError, match="not served"):
        TASK.serving(model)
    assert TASK.inference_us_per_step(model, data) > 0
