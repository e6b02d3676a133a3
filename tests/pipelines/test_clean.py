import pytest

from data_modules.errors import UserError
from pipelines import clean, tracking


@pytest.fixture
def runs(store, tmp_path):
    """A run of every kind, each with an artifact; gives ids and folders by name."""
    made = {}
    kinds = ["finished", "failed", "killed", "deleted", "running", "registered"]
    for size, name in enumerate(kinds, start=1):
        run_id = tracking.start_run(store, "forecasting/x", name, {})
        with tracking.artifact_folder(store, run_id) as folder:
            (folder / "weights.bin").write_bytes(b"x" * 1000 * size)
        if name not in ("running", "deleted"):
            store.set_terminated(run_id, name.upper() if name != "registered" else "FAILED")
        made[name] = run_id
    store.delete_run(made["deleted"])
    store.create_registered_model("model")
    artifacts = store.get_run(made["registered"]).info.artifact_uri
    store.create_model_version("model", artifacts, run_id=made["registered"])
    folders = {
        name: clean._local(store.get_run(run_id).info.artifact_uri) for name, run_id in made.items()
    }
    assert all((folder / "weights.bin").exists() for folder in folders.values())
    return folders


def there(runs):
    return {name for name, folder in runs.items() if (folder / "weights.bin").exists()}


def test_it_says_first_and_removes_when_told(runs, capsys):
    clean.main([])
    said = capsys.readouterr().out
    lines = said.splitlines()
    # The largest first.
    assert [line.split()[3] for line in lines[:-1]] == ["deleted", "killed", "failed"]
    assert lines[-1] == "0.0 MB of 3 runs; --yes removes them"
    assert there(runs) == set(runs)
    clean.main(["--yes"])
    assert capsys.readouterr().out.splitlines()[-1] == "removed 0.0 MB of 3 runs"
    assert there(runs) == {"finished", "running", "registered"}
    clean.main(["--yes"])
    assert capsys.readouterr().out == "nothing to remove\n"


def test_checkpoints_of_trials_go_with_their_campaign(runs, store, capsys):
    places = {}
    for name, folder in runs.items():
        run_id = folder.parent.name
        places[name] = tracking.home(store.tracking_uri) / "checkpoints" / run_id
        (places[name] / "trial").mkdir(parents=True)
        (places[name] / "trial" / "last.ckpt").write_bytes(b"x" * 9000)
    clean.main(["--yes"])
    assert capsys.readouterr().out.splitlines()[-1] == "removed 0.0 MB of 3 runs"
    left = {name for name, place in places.items() if place.exists()}
    assert left == {"finished", "running", "registered"}


def test_an_address_that_someone_wrote_is_left_alone(runs, store, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    experiment = store.create_experiment("theirs", mine.as_uri())
    run_id = store.create_run(experiment).info.run_id
    store.log_text(run_id, "x", "a.txt")
    store.set_terminated(run_id, "FAILED")
    clean.main(["--yes"])
    assert [path.name for path in mine.rglob("*.txt")] == ["a.txt"]


def test_a_server_is_left_alone(monkeypatch):
    class Server:
        tracking_uri = "https://there"

    with pytest.raises(UserError, match="mlflow gc"):
        clean.leftovers(Server())


def test_what_is_known_of_a_run_stays(runs, store):
    clean.main(["--yes"])
    experiment = store.get_experiment_by_name("forecasting/x").experiment_id
    names = {run.info.run_name for run in tracking.runs(store, [experiment], "")}
    assert names == set(runs) - {"deleted"}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b%20c", "/a/b c"),
        ("/a/b", "/a/b"),
        ("mlflow-artifacts:/1/2", None),
        ("s3://bucket/x", None),
        (None, None),
    ],
)
def test_only_files_here_are_removed(uri, path):
    found = clean._local(uri)
    assert (found and str(found)) == path
