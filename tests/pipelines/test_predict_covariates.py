"""Forecasts from files with covariates, and of many series at once."""

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import Panel
from lightning_modules.baselines import SeasonalNaive
from pipelines.forecasting import example_requests, forecast_requests
from pipelines.forecasting_task import ForecastingTask
from pipelines.judging import validation_error
from pipelines.predict import main

TASK = ForecastingTask()

WINDOW, HORIZON = 14, 3
NAMES = ("north", "south", "west")


def frame(steps=120) -> pd.DataFrame:
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=steps, freq="D")
    tables = [
        pd.DataFrame(
            {
                "shop": name,
                "date": days.strftime("%Y-%m-%d"),
                "sold": 10.0 ** (number + 1) + random.normal(size=steps),
                "rain": random.normal(size=steps),
                "price": random.integers(1, 9, steps),
                "day": np.array(["open", "shut"])[random.integers(0, 2, steps)],
                "kind": "large" if number else "small",
            }
        )
        for number, name in enumerate(NAMES)
    ]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture
def trained(small, tmp_path):
    frame().to_csv(tmp_path / "train.csv", index=False)
    data = Panel(
        str(tmp_path / "train.csv"),
        series_column="shop",
        time_column="date",
        target="sold",
        past=["rain"],
        known=["price", "day"],
        static=["kind"],
        calendar=["day_of_week"],
        window=WINDOW,
        horizon=HORIZON,
    )
    data.setup()
    model = small.gru(data)
    return model, str(small.saved(model, tmp_path / "model")), data


def last_days(origin: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows until a day, and the known columns of the days after it."""
    table = frame()
    past = table[table.date <= origin]
    ahead = table[table.date > origin].groupby("shop").head(HORIZON)
    return past, ahead[["shop", "date", "price", "day"]]


def predicted(folder, tmp_path, history, future, *extra) -> pd.DataFrame:
    history.to_csv(tmp_path / "history.csv", index=False)
    arguments = ["--model", folder, "--input", str(tmp_path / "history.csv")]
    if future is not None:
        future.to_csv(tmp_path / "future.csv", index=False)
        arguments += ["--future", str(tmp_path / "future.csv")]
    main([*arguments, "--output", str(tmp_path / "out.csv"), *extra])
    return pd.read_csv(tmp_path / "out.csv")


def refusal(capsys, *arguments) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        predicted(*arguments)
    return capsys.readouterr().err


def test_forecasts_of_a_file_are_those_of_the_windows(trained, tmp_path):
    model, folder, data = trained
    # The test part begins on 2024-04-06; its first window sees the days before it.
    out = predicted(folder, tmp_path, *last_days("2024-04-05"))
    assert list(out) == ["shop", "date", "sold", "sold_low", "sold_high"]
    assert list(out.shop) == [name for name in NAMES for _ in range(HORIZON)]
    assert list(out.date[:3]) == ["2024-04-06", "2024-04-07", "2024-04-08"]
    windows = data.parts["test"]
    numbers = windows.series(torch.arange(len(windows)))
    firsts = [int((numbers == number).nonzero()[0]) for number in range(3)]
    batch = windows.__getitems__(firsts)
    history, known, _ = data.spec.split(batch.values)
    low, point, high = model.interval(history, known)
    for column, expected in (("sold", point), ("sold_low", low), ("sold_high", high)):
        original = data.to_original(expected, torch.arange(3)).flatten()
        np.testing.assert_allclose(out[column], original, rtol=1e-5)


def test_rows_of_files_may_stand_in_any_order(trained, tmp_path):
    _, folder, _ = trained
    history, future = last_days("2024-04-05")
    straight = predicted(folder, tmp_path, history, future)
    mixed = predicted(folder, tmp_path, history, future.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(straight, mixed)


def test_what_is_known_ahead_counts_and_what_is_not_does_not(trained, tmp_path):
    _, folder, _ = trained
    history, future = last_days("2024-04-05")
    before = predicted(folder, tmp_path, history, future)
    assert not before.equals(predicted(folder, tmp_path, history, future.assign(price=1)))
    shut = predicted(folder, tmp_path, history, future.assign(day="shut"))
    assert not before.equals(shut)
    assert before.equals(predicted(folder, tmp_path, history, future.assign(rain=99)))


def test_a_series_that_was_not_trained_on_is_scaled_by_its_own_history(trained, tmp_path):
    _, folder, _ = trained
    history, future = last_days("2024-04-05")
    new, ahead = (table[table.shop == "west"].assign(shop="new") for table in (history, future))
    new = new.assign(sold=1e6 + new.sold)
    out = predicted(folder, tmp_path, new, ahead)
    assert list(out.shop) == ["new"] * HORIZON
    assert np.allclose(out.sold, 1e6, atol=2e3)


def test_times_may_be_whole_numbers_and_files_parquet(small, tmp_path, capsys):
    table = frame(60).drop(columns="date")
    table["step"] = table.groupby("shop").cumcount() * 5
    table.to_parquet(tmp_path / "train.parquet")
    data = Panel(
        str(tmp_path / "train.parquet"),
        series_column="shop",
        time_column="step",
        target="sold",
        known=["price"],
        window=WINDOW,
        horizon=HORIZON,
    )
    data.setup()
    folder = str(small.saved(small.gru(data), tmp_path / "model"))
    past, ahead = table[table.step < 200], table[(table.step >= 200) & (table.step < 215)]
    straight = predicted(folder, tmp_path, past, ahead[["shop", "step", "price"]])
    mixed = predicted(folder, tmp_path, past, ahead.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(straight, mixed)
    past.to_parquet(tmp_path / "history.parquet")
    main(
        ["--model", folder, "--input", str(tmp_path / "history.parquet")]
        + ["--future", str(tmp_path / "future.csv"), "--output", str(tmp_path / "again.csv")]
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "again.csv"), straight)
    text = refusal(capsys, folder, tmp_path, past, table[table.step < 15])
    assert "does not come after 195, the last one of the history" in text


def test_a_series_that_is_too_short_is_named(small, trained, tmp_path, capsys):
    _, _, data = trained
    naive = SeasonalNaive(data.spec.to_dict(), 7).fit(data)
    folder = str(small.saved(naive, tmp_path / "naive"))
    history, future = last_days("2024-04-05")
    few = pd.concat([history[history.shop != "south"], history[history.shop == "south"].tail(3)])
    text = refusal(capsys, folder, tmp_path, few, future)
    assert "series 'south': the history has 3 steps and the model needs at least 7" in text


def test_the_example_of_a_panel_is_at_the_level_of_its_series(trained):
    model, _, _ = trained
    for request in example_requests(model):
        assert request.series == "north"
        assert np.mean(request.history["sold"]) == pytest.approx(10, abs=1)
    for answer in forecast_requests(model, example_requests(model)):
        assert np.allclose(answer["forecast"]["sold"], 10, atol=10)


def test_a_model_is_judged_on_other_data_as_on_its_own(trained, tmp_path):
    model, _, data = trained
    own = TASK.evaluate(model, data, "validation").errors["mse"].mean()
    assert validation_error(model, data, "mse") == pytest.approx(own, rel=1e-5)


def test_more_windows_than_a_batch_are_judged(small):
    data = small.sines(evaluation_batch_size=7)
    model = small.gru(data)
    own = TASK.evaluate(model, data, "validation").errors["mse"].mean()
    assert validation_error(model, data, "mse") == pytest.approx(own, rel=1e-5)


def test_one_series_of_a_panel_is_drawn(trained, tmp_path):
    _, folder, _ = trained
    history, future = last_days("2024-04-05")
    one, ahead = (table[table.shop == "west"] for table in (history, future))
    out = predicted(folder, tmp_path, one, ahead, "--plot", str(tmp_path / "west.png"))
    assert list(out) == ["shop", "date", "sold", "sold_low", "sold_high"]
    assert (tmp_path / "west.png").stat().st_size > 10_000


def test_a_category_that_the_model_has_not_seen_is_told(trained, tmp_path, capsys):
    _, folder, _ = trained
    history, future = last_days("2024-04-05")
    predicted(folder, tmp_path, history, future.assign(day="ajar"))
    warning = capsys.readouterr().err
    assert "column 'day': the model has not seen 'ajar'" in warning and "open, shut" in warning


def test_mistakes(trained, tmp_path, capsys):
    _, folder, _ = trained
    history, future = last_days("2024-04-05")
    text = refusal(capsys, folder, tmp_path, history, None)
    assert "needs the future of price, day, series 'north': write --future" in text
    text = refusal(capsys, folder, tmp_path, history, future[future.shop != "south"])
    assert "future.csv has no rows of series 'south': give its 3 steps of price, day" in text
    gone = future.drop(index=future.index[1])
    text = refusal(capsys, folder, tmp_path, history, gone)
    assert "there is no row for 2024-04-07 00:00:00, step 2 after the history" in text
    text = refusal(capsys, folder, tmp_path, history, future.drop(columns="day"))
    assert "has no column 'day'" in text
    text = refusal(capsys, folder, tmp_path, history.drop(columns="kind"), future)
    assert "has no column 'kind'" in text
    text = refusal(capsys, folder, tmp_path, history, future, "--plot", str(tmp_path / "a.png"))
    assert "holds 3 series, and a plot shows one" in text
