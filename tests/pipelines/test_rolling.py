"""Models that are fitted anew on their way through the origins."""

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import CsvSeries
from pipelines.forecasting_task import ForecastingTask
from pipelines.rolling import Refitted, walk

TASK = ForecastingTask()
CONFIG = {"model": {"init_args": {"coverage": 0.8}}}


@pytest.fixture
def make(tmp_path):
    """Returns a function: a series, split, perhaps moved on, perhaps with another future."""
    values = np.random.default_rng(3).normal(size=140).cumsum()

    def built(changed_from=None, **options):
        series = values.copy()
        if changed_from is not None:
            series[changed_from:] = 50 - series[changed_from:]
        path = tmp_path / "walk.csv"
        pd.DataFrame({"y": series}).to_csv(path, index=False)
        given = {"window": 6, "horizon": 3, "split": [70, 40, 30], "origins": 20}
        data = CsvSeries(str(path), **(given | options))
        data.setup()
        return data

    return built


def refitted(make, every, name="linear", **options):
    blocks = [[first, min(first + every, 20)] for first in range(0, 20, every)]
    models = [
        TASK.fit_baseline(name, make(origin_block=block, **options), CONFIG) for block in blocks
    ]
    return Refitted(models, every)


def points(model, data):
    ahead = []
    for turn in walk(model, data, "test"):
        ahead.append(turn.model.forecast(data.spec.split(turn.batch.values)[0]))
    return torch.cat(ahead)


def turns_of(model, data, index=None):
    walked = walk(model, data, "test", index)
    return [(model.models.index(turn.model), turn.index.tolist()) for turn in walked]


def test_a_model_that_is_fitted_once_sees_the_batches_of_the_loader(make):
    data = make(evaluation_batch_size=7)
    model = TASK.fit_baseline("naive", data, CONFIG)
    walked = [turn.batch for turn in walk(model, data, "test")]
    assert [len(batch.values) for batch in walked] == [7, 7, 6]
    for batch, wanted in zip(walked, data.loader("test"), strict=True):
        assert torch.equal(batch.values, wanted.values) and torch.equal(batch.index, wanted.index)


def test_each_origin_has_the_model_of_its_block(make):
    data, model = make(evaluation_batch_size=4), refitted(make, 8)
    turns = turns_of(model, data)
    assert [block for block, _ in turns] == [0, 0, 1, 1, 2]
    assert sum((index for _, index in turns), []) == list(range(20))
    some = turns_of(model, data, torch.tensor([19, 7, 8, 6]))
    assert some == [(0, [7, 6]), (1, [8]), (2, [19])]


def test_errors_are_those_of_the_blocks_in_order(make):
    data, model = make(), refitted(make, 8)
    together = TASK.evaluate(model, data, "test")
    alone = [
        TASK.evaluate(one, make(origin_block=block), "test").errors["mse"]
        for one, block in zip(model.models, ([0, 8], [8, 16], [16, 20]), strict=True)
    ]
    np.testing.assert_allclose(together.errors["mse"], np.concatenate(alone), rtol=1e-6)
    assert together.errors["mse"].shape == (20, 3)
    once = TASK.evaluate(model.models[0], data, "test").errors["mse"]
    assert np.array_equal(together.errors["mse"][:8], once[:8])
    assert not np.allclose(together.errors["mse"][8:], once[8:])


@pytest.mark.parametrize("every", [20, 35])
def test_refitted_as_rarely_as_never_is_fitted_once(make, every):
    data = make()
    once = TASK.evaluate(TASK.fit_baseline("linear", data, CONFIG), data, "test")
    never = TASK.evaluate(refitted(make, every), data, "test")
    assert once.measures == never.measures
    for name, errors in once.errors.items():
        assert np.array_equal(errors, never.errors[name])


def test_what_comes_after_an_origin_changes_no_forecast_from_it(make):
    # Origins are rows 118 to 137; block 2 begins with origin 10, row 128.
    before = points(refitted(make, 5), make())
    for origin in (120, 128, 130):
        changed = make(changed_from=origin)
        assert changed.spec.location == make().spec.location
        after = points(refitted(make, 5, changed_from=origin), changed)
        seen = origin - 118 + 1
        assert torch.equal(before[:seen], after[:seen])
        assert not torch.allclose(before[seen:], after[seen:])


def test_intervals_come_from_each_blocks_own_calibration(make):
    data, model = make(), refitted(make, 8)
    margins = [one.conformal_margin for one in model.models]
    assert not torch.equal(margins[0], margins[1])
    hits = []
    for turn in walk(model, data, "test"):
        history, known, truth = data.spec.split(turn.batch.values)
        low, _, high = turn.model.interval(history, known)
        hits.append(((low <= truth) & (truth <= high)).float())
    got = TASK.evaluate(model, data, "test").measures["conformal_coverage"]
    assert got == pytest.approx(float(torch.cat(hits).mean()))
