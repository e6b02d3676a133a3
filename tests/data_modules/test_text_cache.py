"""The cache: whole or not there, however often and by however many it is built."""

import json
import multiprocessing
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.text_cache import Entry, cached, default_folder, file_digest

KEY = {"a": 1, "b": [2, None]}


def entry(number: int = 5) -> Entry:
    return Entry({"x": np.arange(number), "empty": np.zeros((0, 3), np.int32)}, {"n": number})


def fail() -> Entry:
    raise AssertionError("this was built before")


def folder_of(cache: Path) -> Path:
    (folder,) = [each for each in cache.iterdir() if each.is_dir()]
    return folder


def test_what_was_built_is_read(tmp_path):
    built = cached(tmp_path / "deep" / "cache", "things", KEY, entry)
    read = cached(tmp_path / "deep" / "cache", "things", dict(reversed(KEY.items())), fail)
    for each in (built, read):
        assert each.arrays["x"].tolist() == [0, 1, 2, 3, 4]
        assert each.arrays["empty"].shape == (0, 3)
        assert each.values == {"n": 5}
        assert isinstance(each.arrays["x"], np.memmap)
        assert not each.arrays["x"].flags.writeable
    assert folder_of(tmp_path / "deep" / "cache").name.startswith("things-")


def test_another_key_is_another_entry(tmp_path):
    cached(tmp_path, "things", KEY, entry)
    assert cached(tmp_path, "things", {**KEY, "a": 2}, lambda: entry(3)).values == {"n": 3}
    assert cached(tmp_path, "others", KEY, lambda: entry(4)).values == {"n": 4}
    assert cached(tmp_path, "things", KEY, fail).values == {"n": 5}


def truncate(folder):
    (folder / "x.npy").write_bytes((folder / "x.npy").read_bytes()[:-3])


def flip(folder):
    content = bytearray((folder / "x.npy").read_bytes())
    content[-1] ^= 1
    (folder / "x.npy").write_bytes(content)


def remove(folder):
    (folder / "x.npy").unlink()


def half_manifest(folder):
    (folder / "manifest.json").write_text('{"arrays": {"x"')


def other_manifest(folder):
    (folder / "manifest.json").write_text('["x"]')


def no_manifest(folder):
    (folder / "manifest.json").unlink()


def pickled(folder):
    np.save(folder / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"]["x"] = zlib.crc32((folder / "x.npy").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "spoil", [truncate, flip, remove, half_manifest, other_manifest, no_manifest, pickled]
)
def test_a_damaged_entry_is_built_anew(tmp_path, spoil):
    cached(tmp_path, "things", KEY, entry)
    spoil(folder_of(tmp_path))
    again = cached(tmp_path, "things", KEY, lambda: entry(7))
    assert again.values == {"n": 7} and len(again.arrays["x"]) == 7
    assert cached(tmp_path, "things", KEY, fail).values == {"n": 7}
    assert folder_of(tmp_path).name.startswith("things-"), "nothing else is left behind"


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(AssertionError):
        cached(tmp_path, "things", KEY, fail)
    with pytest.raises(TypeError):
        cached(tmp_path, "things", KEY, lambda: Entry({"x": np.arange(3)}, {"n": object()}))
    assert [each for each in tmp_path.iterdir() if each.is_dir()] == []
    assert cached(tmp_path, "things", KEY, entry).values == {"n": 5}


def test_what_a_killed_process_left_is_removed(tmp_path):
    cached(tmp_path, "things", KEY, entry)
    folder = folder_of(tmp_path)
    folder.rename(f"{folder}.building-abc")
    cached(tmp_path, "things", KEY, entry)
    assert folder_of(tmp_path) == folder


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written.*set cache_dir.*UNROLL_CACHE"):
        cached(tmp_path / "file", "things", KEY, entry)


def test_what_goes_wrong_while_building_is_not_the_caches_fault(tmp_path):
    def build() -> Entry:
        raise OSError("the texts cannot be read")

    with pytest.raises(OSError, match="the texts cannot be read"):
        cached(tmp_path, "things", KEY, build)


def build_slowly(cache: Path, number: int, barrier, results) -> None:
    def build() -> Entry:
        time.sleep(0.3)
        (cache / f"built-by-{number}").touch()
        return Entry({"x": np.full(1000, number)}, {"n": number})

    barrier.wait()
    found = cached(cache, "things", KEY, build)
    results.put((int(found.values["n"]), np.unique(found.arrays["x"]).tolist()))


def no_locks_here(lock):
    raise NotImplementedError


@pytest.mark.parametrize("with_locks", [True, False])
def test_two_processes_build_at_once(tmp_path, monkeypatch, with_locks):
    if not with_locks:
        monkeypatch.setattr("data_modules.text_cache.FileLock.acquire", no_locks_here)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=build_slowly, args=(tmp_path, number, barrier, results))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert len(list(tmp_path.glob("built-by-*"))) == (1 if with_locks else 3)
    (winner,) = {number for number, _ in found}
    assert all(values == [winner] for _, values in found)
    assert folder_of(tmp_path).name.startswith("things-")


def test_the_digest_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # From FIPS 180-2, appendix B.1.
    assert file_digest(tmp_path / "a").startswith(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9c"
    )


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("UNROLL_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("UNROLL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_folder() == tmp_path / "x" / "unroll"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "unroll"
