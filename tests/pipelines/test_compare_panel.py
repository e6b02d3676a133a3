"""What README.md says of many series: a file, a comparison, a forecast of each."""

import pandas as pd
import pytest

from data_modules.generated_panel import main as write_panel
from pipelines import compare, predict

CONFIG = "pipelines/configs/panel/compare_csv.yaml"
ROLES = [
    "--data.known=[promotion]",
    "--data.past=[temperature]",
    "--data.static=[kind]",
    "--data.calendar=[day_of_week]",
    "--data.season_length=7",
]


@pytest.mark.slow
def test_a_panel_is_compared_and_forecast(store, tmp_path, capsys):
    panel, future = tmp_path / "panel.csv", tmp_path / "future.csv"
    write_panel([str(panel), str(future)])
    few = pd.read_csv(panel)
    names = sorted(few.unique_id.unique())[:6]
    few = few[few.unique_id.isin(names)]
    few.to_csv(panel, index=False)
    arguments = [f"--config={CONFIG}", f"--data.path={panel}", *ROLES, f"--output={tmp_path}"]
    small = ["--only=[gru]", "--seeds=[0]", "--learning_rates=[0.01]", "--trainer.max_steps=60"]
    compare.main([*arguments, *small, "--register_as=demand"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--output forecast.csv --future future.csv' uses it on data of yours" in said
    table = pd.read_csv(tmp_path / "leaderboard.csv").set_index("model")
    assert table.test_mse["linear"] < table.test_mse["seasonal_naive"] < table.test_mse["naive"]
    assert 0.8 < table.conformal_coverage["linear"] < 0.97
    output = tmp_path / "forecast.csv"
    predict.main(
        [
            "--model=models:/demand@champion",
            f"--input={panel}",
            f"--future={future}",
            f"--output={output}",
        ]
    )
    forecast = pd.read_csv(output)
    assert list(forecast) == ["unique_id", "ds", "y", "y_low", "y_high"]
    assert (forecast.groupby("unique_id").size() == 7).all()
    assert sorted(forecast.unique_id.unique()) == names
    assert (forecast.ds.min(), forecast.ds.max()) == ("2024-12-25", "2024-12-31")
    last = few.groupby("unique_id").y.agg(lambda values: values.tail(28).mean())
    level = forecast.groupby("unique_id").y.mean() / last
    assert len(level) == 6 and level.between(0.8, 1.25).all(), "each in its own units"
