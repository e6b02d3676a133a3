import socket
from dataclasses import replace

import pytest
from filelock import FileLock

from data_modules.errors import UserError
from pipelines import surroundings, tracking, trials
from pipelines.experiment import build_data, config_hash
from pipelines.plan import source_digest
from pipelines.resuming import CheckpointFolder
from pipelines.surroundings import Surroundings, Unfit
from pipelines.train import Labels, start_tracked_run

HOST = socket.gethostname()


@pytest.fixture
def around(store, tmp_path, tiny_config):
    """What trials of a tiny comparison share."""
    parent = tracking.start_run(store, "forecasting/sum_of_sines", "compare", {})
    folder = tmp_path / "checkpoints" / parent
    folder.mkdir(parents=True)
    return Surroundings(
        uri=store.tracking_uri,
        parent=parent,
        fingerprint=build_data(tiny_config()["data"]).fingerprint,
        networks=(),
        source=source_digest(()),
        checkpoints=str(folder),
        checkpoint_seconds=0.0,
    )


def folder_of(around, config):
    return f"gru-{config_hash(config)}"


def test_a_machine_with_other_code_is_refused(around, tiny_config):
    with pytest.raises(Unfit, match=f"on {HOST} has other code .* install the same Unroll"):
        replace(around, source="other").data(tiny_config())


def test_a_machine_without_the_data_is_refused(around, tiny_config, tmp_path):
    csv = {"class_path": "data_modules.CsvSeries", "init_args": {"path": str(tmp_path / "x.csv")}}
    with pytest.raises(Unfit, match=f"data: {HOST} cannot read them: .*x.csv.* at the same path"):
        around.data(tiny_config() | {"data": csv})


def test_a_machine_with_other_data_is_refused(around, tiny_config):
    with pytest.raises(Unfit, match=f"on {HOST} is not what this comparison began with"):
        around.data(tiny_config("--data.window=13"))


def test_a_place_is_one_trial_s(around, monkeypatch):
    monkeypatch.setattr(surroundings, "_PATIENCE", 0.1)
    with around.place("a") as mine, around.place("a") as second, around.place("b") as other:
        assert mine.folder.name == "a" and other.folder.name == "b"
        assert second.folder is None and "another process still holds" in second.reason
    with around.place("a") as again:
        assert again.folder == mine.folder


def test_a_machine_that_does_not_see_the_folder_trains_without(around, tiny_config, store):
    config = tiny_config()
    elsewhere = replace(around, checkpoints="/nowhere/at/all")
    run_id = trials.train_trial(elsewhere, config, "gru", "gru-s0")
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["without_checkpoints"] == f"{HOST} does not see /nowhere/at/all"


def test_a_disc_without_locks_is_done_without(around, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with around.place("a") as place:
        assert place.folder is None and "does not appear to support" in place.reason


class Death(BaseException):
    """What no trial can answer to."""


def die(*arguments, **options):
    raise Death


def killed(function, monkeypatch, name, value=die):
    """Runs a function whose worker dies where a name is called: nothing is ended in good order."""

    class Dead:
        def __enter__(self):
            return None

        def __exit__(self, kind, error, trace):
            return False

    with monkeypatch.context() as patch:
        patch.setattr(name, value)
        patch.setattr(tracking, "running", lambda *_: Dead())
        with pytest.raises(Death):
            function()


def history(store, run_id):
    run = store.get_run(run_id)
    return {
        name: [(each.step, each.value) for each in store.get_metric_history(run_id, name)]
        for name in run.data.metrics
        if name not in ("train_seconds", "inference_us_per_step")
    }


@pytest.mark.parametrize(
    "where",
    [
        "pipelines.fitting.build_trainer",  # before anything
        "pipelines.fitting.L.Trainer.save_checkpoint",  # in training, before a checkpoint
        "pipelines.train.count_parameters",  # after training
        "pipelines.tracking.settled",  # at the very end
    ],
)
def test_a_trial_that_is_begun_again_is_the_same_run(
    around, tiny_config, store, monkeypatch, where
):
    config = tiny_config()

    def train():
        return trials.train_trial(around, config, "gru", "gru-s0")

    killed(train, monkeypatch, where)
    run_id = train()
    assert store.get_run(run_id).info.status == "FINISHED"
    assert train() == run_id  # it has finished, and its worker died before it could say so
    found = tracking.runs(store, ["1"], "tags.kind = 'trial'")
    assert [run.info.run_id for run in found] == [run_id]
    calm = trials.train_trial(around, config, "calm", "calm-s0")
    assert history(store, calm) == history(store, run_id)
    assert [path.suffix for path in tmp(around).iterdir()] == [".lock", ".lock"]


def tmp(around):
    from pathlib import Path

    return Path(around.checkpoints)


def test_a_trial_that_failed_begins_anew(around, tiny_config, store):
    """Going on from where it diverged would be of no use."""
    config = tiny_config("--optimizer.learning_rate=1e30", "--optimizer.gradient_clip_norm=1e30")
    with pytest.raises(FloatingPointError):
        trials.train_trial(around, config, "gru", "gru-s0")
    assert not (tmp(around) / folder_of(around, config)).exists()
    (run,) = tracking.runs(store, ["1"], "tags.kind = 'trial'")
    assert run.info.status == "FAILED"
    with pytest.raises(FloatingPointError):
        trials.train_trial(around, config, "gru", "gru-s0")
    assert len(tracking.runs(store, ["1"], "tags.kind = 'trial'")) == 2


def test_a_run_that_its_comparison_gave_up_goes_on_where_there_is_a_checkpoint(
    around, tiny_config, store
):
    config = tiny_config()
    data = build_data(config["data"])
    run_id = start_tracked_run(store, config, data, Labels("gru-s0", "gru", "trial", around.parent))
    store.set_terminated(run_id, "KILLED")
    folder = tmp(around) / folder_of(around, config)
    CheckpointFolder(folder, config, data).run_id = run_id
    assert trials.train_trial(around, config, "gru", "gru-s0") == run_id
    # Without one, it is left as it is.
    store.set_terminated(run_id, "KILLED")
    assert trials.train_trial(around, config, "gru", "gru-s0") != run_id


def test_a_baseline_that_is_begun_again_is_the_same_run(around, tiny_config, store, monkeypatch):
    config = {"baseline": "naive"} | {key: tiny_config()[key] for key in ("data", "model")}
    config["metric"] = "mse"

    def fit():
        return trials.fit_baseline(around, config, "naive", "naive")

    killed(fit, monkeypatch, "pipelines.trials.save_model")
    run_id = fit()
    assert store.get_run(run_id).info.status == "FINISHED" and fit() == run_id
    assert len(tracking.runs(store, ["1"], "tags.kind = 'baseline'")) == 1
    assert all(len(values) == 1 for values in history(store, run_id).values())
    killed(
        lambda: trials.test_trial(around, config, run_id),
        monkeypatch,
        "pipelines.trials.json.dumps",
    )
    trials.test_trial(around, config, run_id)
    assert all(len(values) == 1 for values in history(store, run_id).values())
    assert store.get_run(run_id).data.tags["tested"] == "true"


def test_unfit_is_no_reason_to_leave_a_baseline_out():
    assert issubclass(Unfit, UserError)
