import numpy as np
import pandas as pd
import pytest

from data_modules import CsvSeries, Panel, SyntheticSeries
from data_modules.naive_errors import naive_errors


def panel(path, values: dict[str, np.ndarray], **options) -> Panel:
    frames = [
        pd.DataFrame({"unique_id": name, "ds": np.arange(len(each)), "y": each})
        for name, each in values.items()
    ]
    pd.concat(frames).to_csv(path, index=False)
    given = {"window": 4, "horizon": 2, "calibration_fraction": 0.4, "align": "end"}
    data = Panel(str(path), **(given | options))
    data.setup()
    return data


@pytest.mark.parametrize("season", [None, 3])
def test_each_series_of_a_panel_by_hand_in_original_units(tmp_path, season):
    random = np.random.default_rng(0)
    values = {"a": random.normal(5, 1, 30), "b": 100 + 50 * random.normal(size=40)}
    data = panel(tmp_path / "p.csv", values, season_length=season)
    found = naive_errors(data)
    lag = season or 1
    for number, each in enumerate(values.values()):
        training = each[: round(0.6 * len(each))]
        change = training[lag:] - training[:-lag]
        assert float(found.absolute[number, 0]) == pytest.approx(abs(change).mean(), rel=1e-5)
        assert float(found.squared[number, 0]) == pytest.approx((change**2).mean(), rel=1e-5)


def test_only_training_rows_count(tmp_path):
    values = np.random.default_rng(0).gamma(2.0, size=60)
    table = pd.DataFrame({"y": values})
    found = []
    for changed in (values, np.r_[values[:36], 1 + 1000 * values[36:]]):
        table.assign(y=changed).to_csv(tmp_path / "s.csv", index=False)
        data = CsvSeries(str(tmp_path / "s.csv"), window=4, horizon=2, transform="log")
        data.setup()
        found.append(float(naive_errors(data).absolute))
    assert found[0] == found[1] == pytest.approx(abs(np.diff(values[:36])).mean(), rel=1e-5)


def test_series_that_never_come_again_are_taken_together():
    data = SyntheticSeries("sum_of_sines", sizes=[20, 20, 5], window=6, horizon=2, variates=2)
    data.setup()
    values = data.parts["train"].values.double()
    steps = values[:, 1:] - values[:, :-1]
    found = naive_errors(data)
    np.testing.assert_allclose(found.absolute[0], steps.abs().mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.squared[0], steps.square().mean((0, 1)), rtol=1e-5)


def test_a_training_part_no_longer_than_a_season_has_no_scale(tmp_path):
    values = {"a": np.random.default_rng(0).normal(size=30)}
    data = panel(tmp_path / "p.csv", values, season_length=25)
    assert naive_errors(data).absolute.isnan().all()
