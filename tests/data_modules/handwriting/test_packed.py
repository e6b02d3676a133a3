"""Packed lines of handwriting, made up and real."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.handwriting.packed import read_packed

REAL = Path(__file__).parents[3].parent / "shared/data/handwriting/iamondb_lines.npz"


def arrays() -> dict[str, np.ndarray]:
    return {
        "xy": np.array([[0, 0], [10, 2], [5, 7], [-3, 4], [6, 9]], np.int16),
        "eos": np.array([0, 1, 1, 0, 1], np.uint8),
        "t": np.array([0, 1, 2, 0, 1], np.uint32),
        "offsets": np.array([0, 3, 5]),
        "names": np.array(["a01-000u-01", "a01-000x-02"]),
        "texts": np.array(["Mr . Fell", ""]),
    }


def saved(folder: Path, **changes: object) -> Path:
    path = folder / "lines.npz"
    kept = {key: value for key, value in (arrays() | changes).items() if value is not None}
    np.savez(path, **kept)
    return path


def test_lines_are_read(tmp_path):
    first, second = read_packed(saved(tmp_path, t=None))
    assert (first.text, first.key, first.form) == ("Mr . Fell", "a01-000u-01", "a01-000")
    assert (second.text, second.key, second.form) == ("", "a01-000x-02", "a01-000")
    assert first.points.dtype == np.float32
    np.testing.assert_array_equal(first.points, [[0, 0, 0], [10, 2, 1], [5, 7, 1]])
    np.testing.assert_array_equal(second.points, [[-3, 4, 0], [6, 9, 1]])
    assert first.points.base is second.points.base


def test_floats_and_booleans_are_read(tmp_path):
    path = saved(tmp_path, xy=arrays()["xy"] + 0.5, eos=arrays()["eos"].astype(bool))
    np.testing.assert_array_equal(read_packed(path)[1].points, [[-2.5, 4.5, 0], [6.5, 9.5, 1]])


@pytest.mark.parametrize("key", ["names", "texts"])
@pytest.mark.parametrize("code", [0xD800, 0x110000, 0xFFFFFFFF])
def test_what_is_no_character_is_refused(tmp_path, key, code):
    strings = np.array([[code, 65], [66, 67]], np.uint32).view("<U2")[:, 0]
    with pytest.raises(UserError, match=rf"lines\.npz, {key}: holds {code:#x}, which is no char"):
        read_packed(saved(tmp_path, **{key: strings}))


class Trap:
    """Would make a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("key", ["xy", "eos", "offsets", "names", "texts"])
def test_python_objects_are_refused_and_not_unpickled(tmp_path, key):
    trap = tmp_path / "sprung"
    path = saved(tmp_path, **{key: np.array([Trap(trap)], object)})
    with pytest.raises(UserError, match=rf"lines\.npz, {key}: .*Python objects"):
        read_packed(path)
    assert not trap.exists()


@pytest.mark.parametrize("key", ["xy", "eos", "offsets", "names", "texts"])
def test_missing_arrays_are_named(tmp_path, key):
    with pytest.raises(UserError, match=rf"lines\.npz has no array '{key}'"):
        read_packed(saved(tmp_path, **{key: None}))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("xy", np.zeros((5, 3)), r"shape \(5, 3\), and \(any, 2\)"),
        ("xy", np.zeros(5), r"shape \(5,\)"),
        ("xy", np.zeros((5, 2), complex), "must be an array of numbers"),
        ("xy", np.full((5, 2), np.nan), "finite"),
        ("xy", np.full((5, 2), 1e300), "finite"),
        ("eos", np.array([0, 1, 1, 0]), r"shape \(4,\), and \(5\)"),
        ("eos", np.array([0, 2, 1, 0, 1]), "1 at the last point of a stroke"),
        ("eos", np.array([0, np.nan, 1, 0, 1]), "1 at the last point of a stroke"),
        ("eos", np.array([0, 1, 0, 0, 1]), "last point of 'a01-000u-01'"),
        ("eos", np.array(["0"] * 5), "zeros and ones"),
        ("offsets", np.array([0, 3]), r"shape \(2,\), and \(3\)"),
        ("offsets", np.array([0.0, 3, 5]), "whole numbers"),
        ("offsets", np.array([1, 3, 5]), "rise from 0"),
        ("offsets", np.array([0, 3, 4]), "rise from 0"),
        ("offsets", np.array([0, 3, 6]), "rise from 0"),
        ("offsets", np.array([0, 5, 5]), "rise from 0"),
        ("offsets", np.array([0, 7, 5]), "rise from 0"),
        ("offsets", np.array([0, 2**64 - 1, 5], np.uint64), "rise from 0"),
        ("names", np.array([1, 2]), "must be an array of strings"),
        ("names", np.array(["a01-000u-01"] * 2), "'a01-000u-01' comes twice"),
        ("texts", np.array(["one"]), r"shape \(1,\), and \(2\)"),
        ("texts", np.array("one"), r"shape \(\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, key, value, message):
    with pytest.raises(UserError, match=rf"lines\.npz, {key}: .*{message}"):
        read_packed(saved(tmp_path, **{key: value}))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "lines.npz"
    complete = saved(tmp_path).read_bytes()
    for content in (b"", b"hello", b"PK\x03\x04 broken", complete[:-30]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"lines\.npz is no \.npz file"):
            read_packed(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"lines\.npz is a single array"):
        read_packed(path)


def test_an_array_that_no_memory_holds_is_named(tmp_path):
    path = saved(tmp_path)
    header = io.BytesIO()
    about = {"descr": "<i2", "fortran_order": False, "shape": (10**13, 2)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xy.npy", header.getvalue())
    with pytest.raises(UserError, match=r"lines\.npz, xy: is broken"):
        read_packed(path)


def test_encrypted_arrays_are_named(tmp_path):
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"lines\.npz, xy: .*encrypted"):
        read_packed(path)


def test_damaged_arrays_are_named(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    at = content.index(arrays()["xy"].tobytes())
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(UserError, match=r"lines\.npz, xy: is broken"):
        read_packed(path)


@pytest.mark.skipif(not REAL.is_file(), reason=f"{REAL} is not there")
def test_real_lines_are_read():
    inks = read_packed(REAL)
    assert len(inks) == len({ink.key for ink in inks}) == 10_373
    assert sum(len(ink.points) for ink in inks) == 6_520_431
    assert len({ink.form for ink in inks}) == 1_461
    assert inks[0].text == "A MOVE to stop Mr . Gaitskell"
    np.testing.assert_array_equal(inks[0].points[:2], [[1073, 1058, 0], [1072, 1085, 0]])
    assert all(ink.points[-1, 2] == 1 for ink in inks)
