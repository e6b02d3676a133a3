import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from mlflow.exceptions import MlflowException

from data_modules import Handwriting
from data_modules.errors import UserError
from data_modules.handwriting.ink import from_offsets, offsets
from data_modules.handwriting.parts import normalise
from lightning_modules.saving import save_model
from pipelines import handwriting_task, predict
from pipelines.figures import figures
from pipelines.handwriting_errors import STRETCHES, foreseen, line_errors, points_by_stretch
from pipelines.handwriting_figures import ink_density
from pipelines.handwriting_task import HandwritingTask
from pipelines.leaderboard import leaderboard
from pipelines.results import Protocol, Result
from pipelines.scribbling import scribble
from pipelines.serving_handwriting import ServedHandwriting, answer, example_input
from pipelines.task import evaluate_tests
from pipelines.writing.page import straightened

TASK = HandwritingTask()


@pytest.fixture
def data(pen):
    return pen.lines()


@pytest.fixture(params=["predictor", "synthesizer", "independent", "last_offset"])
def any_model(request, pen, data):
    if request.param in TASK.baselines:
        TASK.check_baseline(request.param, data)
        return TASK.fit_baseline(request.param, data, {})
    return getattr(pen, request.param)(data)


def test_every_line_is_judged_by_itself(any_model, data):
    """Whatever the batches and their order: as if each line came alone."""
    part = data.parts["validation"]
    found = line_errors(any_model, data, "validation")
    for row in range(len(part)):
        mixture, points = any_model.mixture(part.__getitems__([row]))
        nats = mixture.negative_log_likelihood(points).detach().numpy()
        assert found.nats[row] == pytest.approx(nats.sum(), rel=1e-4)
        squared = (mixture.mean[:, :2] - points[:, :2]).detach().square().sum()
        assert found.squared[row] == pytest.approx(float(squared), rel=1e-4)
        bounds = [*STRETCHES, 10**9]
        for stretch, (low, high) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            assert found.by_stretch[row, stretch] == pytest.approx(nats[low:high].sum(), abs=1e-2)
            in_stretch = points_by_stretch(found.steps)[row, stretch]
            assert in_stretch == len(nats[low:high])


def test_errors_mean_what_validation_means(any_model, data):
    """The mean over lines is all nats over all points, as training has it."""
    evaluation = TASK.evaluate(any_model, data, "validation")
    assert {error.shape for error in evaluation.errors.values()} == {(8, 1)}
    total = points_in_all = 0.0
    for batch in data.loader("validation"):
        with torch.no_grad():
            mixture, points = any_model.mixture(batch)
        total += float(mixture.negative_log_likelihood(points).sum())
        points_in_all += len(points)
    assert evaluation.errors["nats_per_point"].mean() == pytest.approx(total / points_in_all, 1e-4)
    assert evaluation.errors["nats_per_sequence"].mean() == pytest.approx(total / 8, rel=1e-4)
    assert not evaluation.measures


def test_data_of_other_units(any_model, data, pen):
    """A model is judged in the units of the data, which shift all densities alike."""
    other = pen.lines()
    spec = data.spec
    factor = (2.0, 0.5)
    other._spec = dataclasses.replace(
        spec,
        mean=[spec.mean[0] + 0.3, spec.mean[1] - 0.1],
        deviation=[f * each for f, each in zip(factor, spec.deviation, strict=True)],
        alphabet=[*spec.alphabet[1:], spec.alphabet[0]],
    )
    from data_modules.handwriting.parts import InkPart

    other._parts = {name: InkPart(part.inks, other.spec) for name, part in data.parts.items()}
    own, foreign = (line_errors(any_model, each, "validation") for each in (data, other))
    # The density of x / 2 is twice that of x.
    expected = own.nats - own.steps * np.log(factor).sum()
    np.testing.assert_allclose(foreign.nats, expected, rtol=1e-4)
    found = TASK.validation_error(any_model, other, "nats_per_point")
    assert found == pytest.approx(expected.sum() / own.steps.sum(), rel=1e-4)
    mixture, points = foreseen(any_model, next(iter(other.loader("test"))), other.spec)
    assert len(mixture.lift) == len(points)


def test_unknown_characters_are_refused_by_who_reads_them(data, pen):
    few = pen.lines(alphabet=None)
    with pytest.raises(UserError, match="does not know the characters"):
        TASK.validation_error(pen.synthesizer(few), data, "nats_per_point")
    assert np.isfinite(TASK.validation_error(pen.predictor(few), data, "nats_per_point"))


class Reader:
    """Reads what is written wrongly, and true lines rightly; remembers what it was given."""

    def __init__(self, alphabet, texts):
        self.spec = dataclasses.make_dataclass("Spec", ["alphabet"])(alphabet)
        self.answers = [["x"] * len(texts), texts]
        self.given = []

    def read(self, lines):
        self.given.append(lines)
        return self.answers[len(self.given) - 1]


def test_what_is_written_is_read(data, pen, monkeypatch):
    texts = [ink.text for ink in data.parts["test"].inks]
    reader = Reader([*data.spec.alphabet, "~"], texts)
    monkeypatch.setattr(handwriting_task, "shipped_recognizer", lambda: reader)
    model = pen.synthesizer(data)
    measures = evaluate_tests(model, data)["test"].measures
    wrong = sum(len(text) - ("x" in text) for text in texts) / sum(map(len, texts))
    assert measures["recognizer_error_rate"] == 0
    assert measures["character_error_rate"] == pytest.approx(wrong)
    assert 0 <= measures["written_to_the_end"] <= 1
    written, true = reader.given
    np.testing.assert_array_equal(true[2], offsets(data.parts["test"].inks[2].points)[1:])
    np.testing.assert_array_equal(written[1], model.write(texts, 0.5)[1].offsets)
    # Not read: characters that the reader does not know, and hands that it has not seen.
    reader.spec.alphabet = ["a"]
    assert set(evaluate_tests(model, data)["test"].measures) == {"written_to_the_end"}
    reader.spec.alphabet = data.spec.alphabet
    data.path = "mine.npz"
    assert set(evaluate_tests(model, data)["test"].measures) == {"written_to_the_end"}
    assert evaluate_tests(pen.predictor(data), data)["test"].measures == {}


def test_the_shipped_recognizer_is_used_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(handwriting_task.pretrained, "FOLDER", tmp_path)
    handwriting_task.shipped_recognizer.cache_clear()
    assert handwriting_task.shipped_recognizer() is None
    (tmp_path / "recognizer").mkdir()
    handwriting_task.shipped_recognizer.cache_clear()
    with pytest.raises(ValueError, match="holds no saved model"):
        handwriting_task.shipped_recognizer()


def a_result(data, model, name, kind="network"):
    found = TASK.evaluate(model, data, "test")
    return Result(
        name=name,
        kind=kind,
        errors={key: error[None] for key, error in found.errors.items()},
        validation=np.array([found.errors["nats_per_point"].mean()]),
        parameters=100,
        train_seconds=1.0,
        inference_us_per_step=1.0,
        measures=found.measures,
        details={
            key: value if key in TASK.item_details else value[None]
            for key, value in found.details.items()
        },
        curves=[{"step": [1.0, 2.0], "seconds": [1.0, 2.0], "validation": [0.5, -0.5]}],
    )


@pytest.mark.parametrize("kind", ["predictor", "synthesizer"])
def test_pictures(kind, data, pen):
    model = getattr(pen, kind)(data)
    baseline = TASK.fit_baseline("independent", data, {})
    results = [a_result(data, model, "mine"), a_result(data, baseline, "independent", "baseline")]
    results[0].validation[:] = -9.0
    protocol = Protocol("nats_per_point", 1, [0.01], 2, None, data.describe(), data.spec, "pen")
    table = leaderboard(results, protocol)
    assert np.isfinite(table.set_index("model").loc["mine", "written_to_the_end"]) == (
        kind == "synthesizer"
    )
    examples = TASK.examples(data, results[0], 0, "nats_per_point", lambda: model)
    drawn = figures(results, table, protocol, examples)
    expected = {"learning_curves", "nats_by_stretch", "next_point", "samples"}
    expected |= {"attention"} if kind == "synthesizer" else set()
    assert expected <= set(drawn) and set(TASK.run_pictures) >= expected
    assert set(TASK.captions) >= expected - {"learning_curves"}
    lines = {to_hex(line.get_color()) for line in drawn["nats_by_stretch"].axes[0].lines}
    assert len(lines) == 2
    for figure in drawn.values():
        figure.canvas.draw()
    if kind == "synthesizer":
        (ink,) = drawn["attention"].axes[0].collections
        heights = np.concatenate([path.vertices[:, 1] for path in ink.get_paths()])
        written = straightened(from_offsets(examples.written[0].offsets))
        np.testing.assert_allclose(heights, written[:, 1], rtol=1e-4, atol=1e-4)


def test_density_is_where_the_pen_was_expected(data, pen):
    """It adds up to the number of points that were foreseen, and is highest where they were."""
    baseline = TASK.fit_baseline("last_offset", data, {})
    part = data.parts["test"]
    ink = part.inks[0]
    mixture, _ = foreseen(baseline, part.__getitems__([0]), data.spec)
    density = ink_density(ink.points, mixture, data.spec)
    mass = density.values.sum() * 0.05**2
    assert 0.8 * len(mixture.lift) < mass < 1.1 * len(mixture.lift)
    left, right, bottom, top = density.extent
    assert (left, top) == pytest.approx(tuple(ink.points[:, :2].min(0) - 1), abs=0.01)
    columns = np.round((ink.points[1:, 0] - left) / 0.05).astype(int)
    rows = np.round((ink.points[1:, 1] - top) / 0.05).astype(int)
    assert density.values[rows, columns].mean() > 3 * density.values.mean()
    assert right > ink.points[:, 0].max() and bottom > ink.points[:, 1].max()


@pytest.mark.parametrize("architecture", ["GRU", "TDNN"])
def test_scribbles_follow_the_model(architecture, data, pen):
    """A scribble, read back as a line, is as likely to the model as it was when it drew it."""
    model = pen.predictor(data, architecture=architecture)
    points = scribble(model, points=60, seed=3)
    assert points.shape == (61, 3) and points[-1, 2] == 1 and set(points[:, 2]) <= {0, 1}
    np.testing.assert_array_equal(points, scribble(model, points=60, seed=3))
    assert not np.array_equal(points, scribble(model, points=60, seed=4))
    # One component, almost without spread: the scribble is the path of the means.
    with torch.no_grad():
        model.head.linear.weight[1:] *= 0.1
        model.head.linear.bias[1 + 9 : 1 + 15] = -20.0
        model.head.linear.bias[1:4] = torch.tensor([50.0, 0.0, 0.0])
    path = scribble(model, points=20, seed=0)
    rows = normalise(offsets(path), data.spec)
    inputs, lengths = torch.from_numpy(rows[None, :-1]), torch.tensor([20])
    means = model.head(model.network(inputs, lengths=lengths)[0][0]).mean[:, :2].detach()
    np.testing.assert_allclose(means.numpy(), rows[1:, :2], atol=0.02)


def test_served_answers(data, any_model, tmp_path):
    example = example_input(any_model)
    served = TASK.serving(any_model)
    assert list(served.example.columns) == list(example.columns)
    assert [column.name for column in served.signature.outputs] == ["svg", "strokes"]
    model = ServedHandwriting()
    model.model = any_model
    (row,) = model.predict(example).to_dict("records")
    assert row["svg"].startswith("<svg")
    line = json.loads(row["strokes"].splitlines()[0])
    assert len(line["strokes"]) >= 1
    with pytest.raises(MlflowException, match="there is no column"):
        model.predict(pd.DataFrame({"words": ["hello"]}))


def test_served_options(data, pen):
    model = pen.synthesizer(data)
    text = pd.DataFrame({"text": [data.parts["test"].inks[0].text]})
    plain, same, other = (answer(model, text, {"seed": seed})["svg"][0] for seed in (0, 0, 5))
    assert plain == same != other
    with pytest.raises(ValueError, match="~"):
        answer(model, pd.DataFrame({"text": ["~"]}), {})
    with pytest.raises(ValueError, match="text is None"):
        answer(model, pd.DataFrame({"text": [None]}), {})
    short = answer(pen.predictor(data), pd.DataFrame({"seed": [1]}), {"points": 5})
    points = sum(map(len, json.loads(short["strokes"][0])["strokes"]))
    assert points == 6, "the first is where the pen was put down"


def test_predict_tells_what_writes(data, pen, tmp_path, capsys):
    for kind, said in (
        ("synthesizer", "use python -m pipelines.write"),
        ("predictor", "is given no text, so it cannot write"),
    ):
        model = getattr(pen, kind)(data)
        save_model(model, dict(model.hparams), tmp_path / kind)
        with pytest.raises(SystemExit):
            predict.main(["--model", str(tmp_path / kind)])
        assert said in capsys.readouterr().err


def test_time_is_told_per_point(data, any_model):
    assert 0 < TASK.inference_us_per_step(any_model, data) < 1e5
    assert isinstance(data, Handwriting)


def test_what_would_take_hours_is_refused(pen, data):
    writes, scribbles = pen.synthesizer(data), pen.predictor(data)
    texts = pd.DataFrame({"text": ["a" * 1500, "b" * 501]})
    with pytest.raises(ValueError, match="2,001 characters: give at most 2,000"):
        answer(writes, texts, {})
    for wrong in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"legibility is {wrong}: write a number"):
            answer(writes, pd.DataFrame({"text": ["a"]}), {"legibility": wrong})
    seeds = pd.DataFrame({"seed": range(3)})
    with pytest.raises(ValueError, match="3 scribbles of 10000 points are too much"):
        answer(scribbles, seeds, {"points": 10_000})
