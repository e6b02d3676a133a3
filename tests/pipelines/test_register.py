import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Dataset, DatasetInput

from data_modules import CsvSeries, SyntheticSeries
from data_modules.errors import UserError
from lightning_modules.baselines import BASELINES
from lightning_modules.saving import load_model
from pipelines import tracking
from pipelines.champions import roll_back
from pipelines.forecasting_task import ForecastingTask
from pipelines.judging import validation_error
from pipelines.packaging import fetch_model
from pipelines.register import find_comparison, main, register_winner

evaluate = ForecastingTask().evaluate


@pytest.fixture
def log_comparison(store, small, tmp_path):
    """Returns a function that logs a comparison with one model, as the compare pipeline does."""

    def log(model, data, options, validation=None, name="gru", metric="mse", finish=True):
        experiment, digest = "forecasting/sines", data.spec.digest
        tags = {"kind": "comparison", "data_digest": digest, "metric": metric}
        parent = tracking.start_run(store, experiment, "compare-sines", tags)
        own = {"architecture": name, "data_digest": digest, "selected": "true"}
        kind = "baseline" if name in BASELINES else "trial"
        child = tracking.start_run(store, experiment, f"{name}-s0", own | {"kind": kind}, parent)
        with tracking.running(store, child):
            if validation is None:
                validation = evaluate(model, data, "validation").errors[metric].mean()
            measured = {f"best_validation_{metric}": validation, f"test_{metric}": 0.125}
            tracking.log_metrics(store, child, measured)
            class_path = f"data_modules.{type(data).__name__}"
            config = {"data": {"class_path": class_path, "init_args": options}}
            tracking.log_config(store, child, config)
            with tracking.artifact_folder(store, child, "model") as folder:
                small.saved(model, folder)
        if finish:
            store.set_tag(parent, "winner", name)
            store.set_tag(parent, "winner_run", child)
            tracking.finish_run(store, parent)
        return parent

    return log


OPTIONS = {"sizes": [60, 80, 20], "window": 12, "horizon": 4, "scaling": "standard"}


def sines(**changes):
    options = OPTIONS | changes
    data = SyntheticSeries(**options)
    data.setup()
    return data, options


def aliases(store, name="sines"):
    return {
        alias: int(version) for alias, version in store.get_registered_model(name).aliases.items()
    }


def test_champion_and_challenger_on_the_same_data(store, small, log_comparison, tmp_path):
    data, options = sines()
    first = log_comparison(small.gru(data), data, options, validation=0.5)
    outcome = register_winner(store, first)
    assert (outcome.name, outcome.version, outcome.alias) == ("sines", "1", "champion")
    assert outcome.created and "had no champion" in str(outcome)
    version = store.get_model_version("sines", "1")
    winner = store.get_run(first).data.tags["winner_run"]
    assert version.run_id == winner
    assert version.tags == {
        "metric": "mse",
        "architecture": "gru",
        "data_digest": data.spec.digest,
        "comparison": first,
        "run": winner,
        "validation_mse": "0.5",
        "test_mse": "0.125",
        "git_commit": store.get_run(winner).data.tags["git_commit"],
    }
    # The same again changes nothing and says so.
    again = register_winner(store, first)
    assert (again.version, again.alias, again.created) == ("1", "champion", False)
    assert "was registered before as version 1" in str(again)
    assert len(store.search_model_versions("name = 'sines'")) == 1

    worse = log_comparison(small.gru(data, seed=1), data, options, validation=0.6)
    outcome = register_winner(store, worse)
    assert (outcome.version, outcome.alias) == ("2", "challenger")
    assert "does not beat the champion, version 1 (gru): validation MSE 0.600 against 0.500" in (
        outcome.reason
    )
    assert aliases(store) == {"champion": 1, "challenger": 2}
    # As asked, the challenger takes over, without another version.
    outcome = register_winner(store, worse, replace_champion=True)
    assert (outcome.version, outcome.alias, outcome.created) == ("2", "champion", False)
    assert aliases(store) == {"champion": 2}

    better = log_comparison(small.gru(data, seed=2), data, options, validation=0.55)
    outcome = register_winner(store, better)
    assert (outcome.version, outcome.alias) == ("3", "champion")
    assert "it beats the champion, version 2 (gru): validation MSE 0.550 against 0.600" in (
        outcome.reason
    )
    assert outcome.reason in store.get_model_version("sines", "3").description
    # What was registered is what was trained.
    loaded = load_model(fetch_model("models:/sines@champion", tmp_path / "copy"))
    expected = small.gru(data, seed=2).state_dict()
    assert all((loaded.state_dict()[key] == value).all() for key, value in expected.items())


def test_changed_data_has_the_champion_evaluated_anew(store, small, log_comparison):
    old, options = sines()
    champion = BASELINES["linear"](old.spec.to_dict()).fit(old)
    # The recorded figure would win anything; on other data it does not count.
    register_winner(store, log_comparison(champion, old, options, 1e-9, name="linear"))
    new, options = sines(seed=7)
    assert new.spec.digest != old.spec.digest
    theirs = validation_error(champion, new, "mse")
    outcome = register_winner(store, log_comparison(small.gru(new), new, options, theirs * 1.01))
    assert outcome.alias == "challenger"
    assert "the data has changed, so the champion was evaluated on it" in outcome.reason
    outcome = register_winner(
        store, log_comparison(small.gru(new), new, options, theirs * 0.99), data=new
    )
    assert (outcome.version, outcome.alias) == ("3", "champion")
    # Another metric on the same data, too, has it evaluated.
    outcome = register_winner(
        store, log_comparison(small.gru(new), new, options, 1e-9, metric="mae")
    )
    assert outcome.alias == "champion" and "it has no mae recorded" in outcome.reason


def test_champion_that_cannot_be_evaluated_stays(store, small, log_comparison, tmp_path):
    data, options = sines()
    register_winner(store, log_comparison(small.gru(data), data, options))
    longer, options = sines(horizon=6)
    comparison = log_comparison(small.gru(longer), longer, options, 1e-9)
    outcome = register_winner(store, comparison)
    assert outcome.alias == "challenger"
    assert "it forecasts 4 steps and the new comparison 6. Add --replace" in outcome.reason
    outcome = register_winner(store, comparison, replace_champion=True)
    assert outcome.alias == "champion" and "it replaces version 1" in outcome.reason

    path = tmp_path / "series.csv"
    steps = np.arange(300)
    pd.DataFrame({"y": np.sin(steps / 5)}).to_csv(path, index=False)
    options = {"path": str(path), "window": 12, "horizon": 6}
    data = CsvSeries(**options)
    data.setup()
    comparison = log_comparison(small.gru(data), data, options, 1e-9)
    path.unlink()
    outcome = register_winner(store, comparison)
    assert outcome.alias == "challenger" and "does not exist" in outcome.reason
    pd.DataFrame({"y": np.cos(steps / 5)}).to_csv(path, index=False)
    outcome = register_winner(store, comparison)
    assert "the data is no longer what the comparison was run on" in outcome.reason


def test_validation_error_is_that_of_evaluation_whatever_the_scaling(small):
    data, _ = sines()
    model = small.gru(data)
    for metric in ("mse", "mae"):
        expected = evaluate(model, data, "validation").errors[metric].mean()
        assert validation_error(model, data, metric) == pytest.approx(expected, rel=1e-4)
    # The same values, not scaled: the model still gets them in its own scaling.
    other, _ = sines(scaling="none")
    assert other.spec.scale != data.spec.scale
    assert validation_error(model, other, "mae") == pytest.approx(expected, rel=1e-4)
    other, _ = sines()
    other._spec = dataclasses.replace(data.spec, metric_units="scaled")
    expected = evaluate(model, data, "validation").errors["mse"].mean() / data.spec.scale[0] ** 2
    assert validation_error(model, other, "mse") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency": "D"}, "its time step is D and that of the new data None"),
        ({"window": 20}, "it looks back over 20 steps and the new windows hold 12"),
        ({"channels": ["x"]}, "it forecasts x and the new comparison y"),
    ],
)
def test_validation_error_refuses_another_task(small, change, message):
    data, _ = sines()
    model = small.gru(data)
    model.spec = dataclasses.replace(model.spec, **change)
    with pytest.raises(UserError, match=message):
        validation_error(model, data, "mse")


def test_limits_are_never_registered(store, log_comparison):
    data, options = sines(scaling="none")
    oracle = BASELINES["oracle"](data.spec.to_dict()).fit(data)
    comparison = log_comparison(oracle, data, options, 0.001, name="oracle")
    with pytest.raises(UserError, match="oracle shows what is achievable"):
        register_winner(store, comparison)
    assert not store.search_registered_models()


def test_finding_a_comparison(store, small, log_comparison):
    with pytest.raises(UserError, match="no finished comparison yet"):
        find_comparison(store)
    data, options = sines()
    first = log_comparison(small.gru(data), data, options, 0.5)
    assert find_comparison(store) == find_comparison(store, first) == first
    unfinished = log_comparison(small.gru(data), data, options, 0.5, finish=False)
    assert find_comparison(store) == first
    second = log_comparison(small.gru(data), data, options, 0.5)
    assert find_comparison(store, experiment="forecasting/sines") == second
    for wrong, message in ((unfinished, "is no finished comparison"), ("0" * 32, "has no run")):
        with pytest.raises(UserError, match=message):
            find_comparison(store, wrong)
    with pytest.raises(UserError, match="no experiment 'nowhere'.*forecasting/sines"):
        find_comparison(store, experiment="nowhere")


def test_what_is_known_ahead_is_asked_for(store, small, log_comparison, capsys):
    data, options = sines(kind="narx", sizes=[80, 60, 40])
    assert data.spec.known_columns
    log_comparison(small.gru(data), data, options, 0.5)
    main(["--name", "plant"])
    assert "--output forecast.csv --future future.csv" in capsys.readouterr().out


def test_command_line(store, small, log_comparison, capsys):
    data, options = sines()
    comparison = log_comparison(small.gru(data), data, options, 0.5)
    main(["--comparison", "latest", "--name", "mine"])
    printed = capsys.readouterr()
    assert "gru is now version 1 of mine, and the champion" in printed.out
    assert "models:/mine@champion" in printed.out and "make serve MODEL=mine" in printed.out
    assert "--future" not in printed.out
    assert printed.err == ""
    for arguments in (["--comparison", "x"], ["--comparison", comparison, "--name", "a/b"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


# History ------------------------------------------------------------------------------------------


@pytest.fixture
def three_champions(store, small, log_comparison):
    """Versions 1, 2 and 4 were champion, one after the other; 3 never was."""
    data, options = sines()
    for seed, validation in enumerate([0.5, 0.4, 0.45, 0.3]):
        register_winner(
            store, log_comparison(small.gru(data, seed=seed), data, options, validation=validation)
        )
    assert aliases(store) == {"champion": 4, "challenger": 3}


def test_champions_are_rolled_back_one_by_one(store, three_champions, capsys):
    main(["--name=sines", "--rollback"])
    assert capsys.readouterr().out == "version 2 of sines is the champion again, instead of 4\n"
    assert aliases(store) == {"champion": 2, "challenger": 3}
    assert "version 4 was rolled back" in store.get_model_version("sines", "2").description
    main(["--name=sines", "--rollback"])
    assert aliases(store)["champion"] == 1
    with pytest.raises(SystemExit):
        main(["--name=sines", "--rollback"])
    assert "had no champion before" in capsys.readouterr().err
    assert aliases(store)["champion"] == 1


def test_a_version_that_is_gone_is_passed_over(store, three_champions):
    store.delete_model_version("sines", "2")
    assert roll_back(store, "sines") == ("4", "1")


def test_a_champion_that_someone_set_by_hand_counts(store, three_champions):
    store.set_registered_model_alias("sines", "champion", "3")
    assert roll_back(store, "sines") == ("3", "4")


def test_after_a_rollback_history_goes_on(store, small, log_comparison, three_champions):
    roll_back(store, "sines")
    data, options = sines()
    better = log_comparison(small.gru(data, seed=9), data, options, validation=0.1)
    assert register_winner(store, better).version == "5"
    assert roll_back(store, "sines") == ("5", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rollback"], "say which registered model"),
        (["--rollback", "--name=nothing"], "there is no registered model 'nothing'"),
        (["--rollback", "--name=a/b"], "must not be empty nor hold"),
    ],
)
def test_what_cannot_be_rolled_back(store, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_two_registrations_at_once_leave_one_champion(store, small, log_comparison):
    data, options = sines()
    comparisons = [
        log_comparison(small.gru(data, seed=seed), data, options, validation=0.5 - seed / 10)
        for seed in range(2)
    ]
    stores = [tracking.MlflowClient(store.tracking_uri) for _ in comparisons]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(register_winner, stores, comparisons))
    versions = {outcome.version for outcome in outcomes}
    assert len(versions) == 2
    assert "dbutils" not in sys.modules  # which MLflow puts there while it tries out a model
    assert str(aliases(store)["champion"]) in versions


def test_a_version_tells_its_interval(store, small, log_comparison, tmp_path):
    data, options = sines()
    parent = log_comparison(small.gru(data), data, options)
    board = pd.DataFrame(
        {
            "model": ["naive", "gru"],
            "kind": ["baseline", "network"],
            "test_mse": [0.35, 0.15],
            "test_mse_low": [0.3, 0.1],
            "test_mse_high": [0.4, 0.2],
            "validation_mse": [0.37, 0.17],
            "seeds": [1, 3],
            "parameters": [0, 1234],
        }
    )
    (tmp_path / "verdict.txt").write_text("gru wins.\nnaive is cheaper.\n")
    store.log_artifact(parent, str(tmp_path / "verdict.txt"))
    compared = {"candidates": {"gru": "gru.yaml", "left.out": "lstm.yaml"}, "seeds": [0, 4]}
    tracking.log_config(store, parent, compared | {"only": ["gru"], "learning_rates": [0.1]})
    store.log_inputs(
        store.get_run(parent).data.tags["winner_run"],
        [DatasetInput(Dataset("sines", "ab12", "local", '{"uri": "an equation"}'), [])],
    )
    board.to_csv(tmp_path / "leaderboard.csv", index=False)
    store.log_artifact(parent, str(tmp_path / "leaderboard.csv"))
    register_winner(store, parent)
    tags = store.get_model_version("sines", "1").tags
    assert (tags["test_mse_low"], tags["test_mse_high"]) == ("0.1", "0.2")
    run = store.get_run(tags["run"])
    assert tags["git_commit"] == run.data.tags["git_commit"]

    status, _, card = store.get_model_version("sines", "1").description.partition("\n\n")
    assert status == "champion: sines had no champion."
    assert card.startswith("# gru\n## Data\n- sines, an equation\n")
    assert data.spec.digest in card and "horizon 4" in card
    assert "MSE on test 0.150 (0.100 to 0.200), on validation 0.170; 3 seeds" in card
    assert "1,234 parameters" in card
    assert "- gru wins.\n- naive is cheaper.\n" in card
    assert "among gru and naive; networks with seeds [0, 4] and learning rates [0.1]" in card
    for limit in ForecastingTask.limits:
        assert limit in card
    assert f"run `{run.info.run_id}`" in card and tags["git_commit"] in card


def test_another_status_leaves_the_card(store, three_champions):
    before = store.get_model_version("sines", "2").description.partition("\n\n")[2]
    assert before.startswith("# gru")
    roll_back(store, "sines")
    status, _, after = store.get_model_version("sines", "2").description.partition("\n\n")
    assert status == "champion: version 4 was rolled back." and after == before
    former = store.get_model_version("sines", "4").description
    assert former.startswith("was champion, and was rolled back.\n\n# gru")
