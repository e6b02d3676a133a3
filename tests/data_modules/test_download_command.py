"""The command that fetches the public files; the download itself has tests of its own."""

import shlex
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
from jsonargparse import ArgumentParser

from data_modules import UserError, download_command
from data_modules.download import GLOVE_DIMENSIONS, SOURCES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What was asked of the download, which says that everything is there."""
    asked = []

    def download(to, names, glove_dimension):
        asked.append((to, names, glove_dimension))
        return [
            Path(to) / member.replace("200d", f"{glove_dimension}d")
            for name in names
            for member in SOURCES[name].members
        ]

    monkeypatch.setattr(download_command, "download", download)
    return asked


def test_everything_is_fetched_and_the_next_command_works(calls, capsys):
    download_command.main(["download", "--to", "my files"])
    assert calls == [("my files", ("sentiment140", "glove"), 200)]
    *files, following = capsys.readouterr().out.splitlines()
    assert files[0] == "my files/training.1600000.processed.noemoticon.csv" and len(files) == 3
    words = shlex.split(following.removeprefix("Next: "))
    assert words[:4] == ["python", "-m", "pipelines.compare", "--config"]
    assert (ROOT / words[4]).is_file()
    parser = ArgumentParser()
    parser.add_subclass_arguments(L.LightningDataModule, "data", instantiate=False)
    options = parser.parse_args(["--data=data_modules.Tweets", *words[5:]]).data.init_args
    assert options.path == files[0] and options.extra_tests == {"manual": files[1]}
    assert options.vectors_path == "my files/glove.twitter.27B.200d.txt"
    assert options.fraction == 0.02 and options.classes == ["negative", "positive"]


def test_one_of_them(calls, capsys):
    download_command.main(["download", "--to", "x", "--only", "glove", "--glove_dimension", "50"])
    assert calls == [("x", ("glove",), 50)]
    printed = capsys.readouterr().out
    assert (
        printed.startswith("x/glove.twitter.27B.50d.txt\nNext: ") and "--data.path" not in printed
    )


def test_what_can_be_chosen():
    with pytest.raises(SystemExit):
        download_command.main(["download", "--to", "x", "--only", "gloves"])
    with pytest.raises(SystemExit):
        download_command.main(["download"])
    assert GLOVE_DIMENSIONS == (25, 50, 100, 200), "as the command's option"


def test_a_failure_is_a_message(monkeypatch, capsys):
    def fail(*_):
        raise UserError("the server is away: wait")

    monkeypatch.setattr(download_command, "download", fail)
    with pytest.raises(SystemExit) as stopped:
        download_command.main(["download", "--to", "x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: the server is away: wait\n"


def test_it_runs_as_a_module():
    # A module that its package has imported already would be run with a warning.
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "data_modules.tweets"]
        + ["download", "--help"],
        capture_output=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "--to" in done.stdout.decode() and not done.stderr
