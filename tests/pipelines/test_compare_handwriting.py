"""A comparison of models of the pen, from the command line to a registered model that writes."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipelines import compare, tracking, train
from pipelines.experiment import plain

TINY = [
    "--data=data_modules.Handwriting",
    "--data.lines=[100,12,12]",
    "--data.characters=[4,6]",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
]
PREDICTOR = "--model=lightning_modules.HandwritingPredictor"
SYNTHESIZER = "lightning_modules.HandwritingSynthesizer"
LSTM = "lightning_modules.architectures.LSTM"


@pytest.mark.slow
def test_from_lines_to_a_champion_that_writes(store, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    candidates = {
        "lstm": {"architecture": {"class_path": LSTM, "init_args": {"hidden_size": 4}}},
        "graves": {"model": {"class_path": SYNTHESIZER, "init_args": {"hidden_size": 4}}},
    }
    config.write_text(json.dumps({"candidates": candidates}))
    arguments = [*TINY, PREDICTOR, f"--config={config}", "--seeds=[0]", "--register_as=pen"]
    arguments += ["--baselines=[independent,last_offset]", f"--output={tmp_path / 'out'}"]
    compare.main(arguments)
    printed = capsys.readouterr().out
    assert "Leaderboard by test nats per point, lowest first" in printed
    assert "FAILED" not in printed
    assert 'python -m pipelines.write --model models:/pen@champion "Dear reader,"' in printed
    out = tmp_path / "out"
    table = pd.read_csv(out / "leaderboard.csv").set_index("model")
    assert set(table.index) == {"graves", "lstm", "independent", "last_offset"}
    assert table["chosen"].sum() == 1
    assert np.isfinite(table["test_nats_per_point"]).all()
    assert table["written_to_the_end"].notna().sum() == 1
    html = (out / "report.html").read_text()
    for name in ("nats_by_stretch", "next_point", "samples"):
        assert (out / "figures" / f"{name}.png").is_file()
        assert f'id="{name}"' in html

    # Alone, the one that writes wins.
    compare.main([*arguments, "--only=[graves]", "--baselines=[]", "--register_as=writer"])
    capsys.readouterr()
    served = mlflow.pyfunc.load_model("models:/writer@champion")
    answer = served.predict(pd.DataFrame({"text": ["e t"]}), params={"seed": 3})
    assert answer["svg"][0].startswith("<svg")
    # A champion that was made with other data is judged anew on these.
    with_more = [each.replace("[100,12,12]", "[104,12,12]") for each in arguments]
    compare.main([*with_more, "--only=[lstm]"])
    assert "the data has changed, so the champion was evaluated on it" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["lstm", "graves"])
def test_one_run_draws_what_there_is(kind, store, tmp_path):
    options = {
        "lstm": [PREDICTOR, f"--architecture={LSTM}", "--architecture.hidden_size=4"],
        "graves": [f"--model={SYNTHESIZER}", "--model.hidden_size=4"],
    }[kind]
    config = plain(train.parser().parse_args([*TINY, *options, "--trace_every_n_steps=1"]))
    run_id, metrics = train.train(config, progress_bar=False)
    run = store.get_run(run_id)
    assert np.isfinite(metrics["test_nats_per_point"])
    assert ("test_written_to_the_end" in metrics) == (kind == "graves")
    best = run.data.metrics["best_validation_nats_per_point"]
    assert best == pytest.approx(
        run.data.metrics["best_validation_nats_per_sequence"] * _share(config)
    )
    folder = Path(tracking.download(store, run_id, "figures", tmp_path))
    drawn = {path.stem for path in folder.iterdir()}
    assert drawn >= {"learning_curves", "nats_by_stretch", "next_point", "samples", "step_00001"}
    assert ("attention" in drawn) == (kind == "graves")


def _share(config):
    """Lines over points of the validation part."""
    from pipelines.experiment import build_data

    return 1 / build_data(config["data"]).parts["validation"].lengths.mean()
