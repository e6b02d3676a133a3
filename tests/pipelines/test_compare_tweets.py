"""A comparison of text classifiers, from the command line to a registered model that answers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import compare, predict, tracking, train

TINY = [
    "--data=data_modules.Tweets",
    "--data.sizes=[200,80,80]",
    "--data.embedding_size=8",
    "--model=lightning_modules.SequenceClassifier",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
]
LSTM = "lightning_modules.architectures.LSTM"


@pytest.mark.slow
def test_from_tweets_to_a_champion_that_answers(store, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    candidates = {
        "lstm": {"architecture": {"class_path": LSTM, "init_args": {"hidden_size": 4}}},
        "narx": {"architecture": {"class_path": "lightning_modules.architectures.NARX"}},
    }
    config.write_text(json.dumps({"candidates": candidates}))
    arguments = [*TINY, f"--config={config}", "--seeds=[0,1]", "--register_as=tweets"]
    arguments += ["--baselines=[majority,lexicon,tfidf]", f"--output={tmp_path / 'out'}"]
    with pytest.raises(SystemExit):
        compare.main(arguments)
    assert "candidate 'narx': NARX feeds on the observed outputs" in capsys.readouterr().err
    compare.main([*arguments, "--only=[lstm]"])
    printed = capsys.readouterr().out
    assert "Leaderboard by test accuracy, highest first" in printed and "FAILED" not in printed

    out = tmp_path / "out"
    table = pd.read_csv(out / "leaderboard.csv").set_index("model")
    assert set(table.index) == {"lstm", "majority", "lexicon", "tfidf", "best achievable"}
    assert table["chosen"].sum() == 1
    # The table holds what the runs hold.
    runs = store.search_runs(
        [store.get_experiment_by_name("classification/tweets").experiment_id],
        "tags.selected = 'true'",
    )
    errors: dict[str, list[float]] = {}
    for run in runs:
        errors.setdefault(run.data.tags["architecture"], []).append(
            run.data.metrics["test_error_rate"]
        )
        assert run.data.metrics["test_accuracy"] == pytest.approx(
            1 - run.data.metrics["test_error_rate"]
        )
    assert len(errors["lstm"]) == 2
    for name, each in errors.items():
        assert table.loc[name, "test_error_rate"] == pytest.approx(np.mean(each))
    for name, each in errors.items():
        metrics = [run.data.metrics for run in runs if run.data.tags["architecture"] == name]
        best = [each["best_validation_error_rate"] for each in metrics]
        assert table.loc[name, "validation_error_rate"] == pytest.approx(np.mean(best))
    mistakes = pd.read_csv(out / "worst_mistakes.csv")
    assert (mistakes["label"] != mistakes["predicted"]).all()
    html = (out / "report.html").read_text()
    for name in ("confusion_matrix", "reliability", "accuracy_by_length"):
        assert (out / "figures" / f"{name}.png").is_file()
        assert f'id="{name}"' in html

    predict.main(["--model", "models:/tweets@champion", "--text", "not bad at all :)"])
    assert "p_positive" in capsys.readouterr().out


def test_one_run_draws_what_there_is(store, tmp_path):
    config = train.parser().parse_args(
        [*TINY, f"--architecture={LSTM}", "--architecture.hidden_size=4"]
    )
    from pipelines.experiment import plain

    run_id, metrics = train.train(plain(config), progress_bar=False)
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error_rate"])
    run = store.get_run(run_id)
    assert {"best_validation_error_rate", "best_validation_macro_f1"} <= set(run.data.metrics)
    folder = Path(tracking.download(store, run_id, "figures", tmp_path))
    assert {path.stem for path in folder.iterdir()} >= {"confusion_matrix", "reliability"}
    assert tracking.download(store, run_id, "worst_mistakes.csv", tmp_path).is_file()
