"""A comparison of models that fill gaps, from the command line to a registered one at work."""

import json
import math
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipelines import compare, predict, tracking, train
from pipelines.experiment import plain
from pipelines.filling import example_requests
from pipelines.predict import load

TINY = [
    "--data=data_modules.GappedSeries",
    "--data.steps=1200",
    "--data.window=16",
    "--data.longest=4",
    "--data.inputs=[temperature]",
    "--data.calendar=[hour]",
    "--model=lightning_modules.Imputer",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
]
LSTM = "lightning_modules.architectures.LSTM"


@pytest.mark.slow
def test_from_a_series_to_a_champion_that_fills(store, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    lstm = {"architecture": {"class_path": LSTM, "init_args": {"hidden_size": 8}}}
    candidates = {
        "lstm": lstm,
        "past": lstm | {"model": {"init_args": {"bidirectional": False}}},
    }
    config.write_text(json.dumps({"candidates": candidates}))
    arguments = [*TINY, f"--config={config}", "--seeds=[0,1]", "--register_as=gaps"]
    arguments += ["--baselines=[last_value,linear_interpolation,seasonal]"]
    compare.main([*arguments, f"--output={tmp_path / 'out'}"])
    printed = capsys.readouterr().out
    assert "Leaderboard by test MSE, lowest first" in printed
    assert "FAILED" not in printed and "seasonal" in printed
    assert "--input holes.csv --output filled.csv" in printed
    out = tmp_path / "out"
    table = pd.read_csv(out / "leaderboard.csv").set_index("model")
    rules = {"last_value", "linear_interpolation"}
    assert set(table.index) == {"lstm", "past", *rules, "noise floor"}
    assert table["chosen"].sum() == 1
    assert table.loc[list(rules), "conformal_coverage"].between(0.7, 1).all()
    assert (table["test_gap_mse"] >= table.loc["noise floor", "test_gap_mse"]).all()
    html = (out / "report.html").read_text()
    for name in ("error_by_gap", "filled_gaps", "learning_curves"):
        assert (out / "figures" / f"{name}.png").is_file()
        assert f'id="{name}"' in html

    requests = [
        each.model_dump(exclude_none=True)
        for each in example_requests(load("models:/gaps@champion"))
    ]
    served = mlflow.pyfunc.load_model("models:/gaps@champion")
    for request, answer in zip(requests, served.predict(requests), strict=True):
        given, filled = request["columns"]["load"], answer["columns"]["load"]
        gaps = [i for i, value in enumerate(given) if value is None]
        assert all(math.isfinite(each) for each in filled)
        assert [i for i, low in enumerate(answer["low"]["load"]) if low is not None] == gaps
    times = pd.date_range("2027-01-01", periods=40, freq="h")
    holes = pd.DataFrame({"time": times, "load": 20.0, "temperature": 12.0})
    holes.loc[[5, 6, 39], "load"] = np.nan
    holes.to_csv(tmp_path / "holes.csv", index=False)
    files = ["--input", str(tmp_path / "holes.csv"), "--output", str(tmp_path / "filled.csv")]
    predict.main(["--model", "models:/gaps@champion", *files])
    assert "3 values filled in 40 rows" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "filled.csv")["load"].notna().all()
    # A champion that was made with other data is judged anew on these.
    compare.main([*arguments, "--data.seed=1"])
    assert "the data has changed, so the champion was evaluated on it" in capsys.readouterr().out


def test_one_run_draws_what_there_is(store, tmp_path):
    options = [*TINY, f"--architecture={LSTM}", "--architecture.hidden_size=4"]
    config = plain(train.parser().parse_args(options))
    run_id, metrics = train.train(config, progress_bar=False)
    run = store.get_run(run_id)
    assert metrics["test_gap_mse"] == run.data.metrics["test_gap_mse"]
    assert run.data.metrics["test_gap_mse_3-4"] > 0
    assert store.get_experiment(run.info.experiment_id).name == "imputation/load"
    folder = Path(tracking.download(store, run_id, "figures", tmp_path))
    assert {path.stem for path in folder.iterdir()} >= {"error_by_gap", "filled_gaps"}
