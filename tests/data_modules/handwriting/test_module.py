"""The data module: what is split is never torn, what changes is noticed, what is rare is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.errors import UserError
from data_modules.handwriting.alphabet import learn_alphabet
from data_modules.handwriting.glyphs import CHARACTERS
from data_modules.handwriting.ink import offsets
from data_modules.handwriting.module import Handwriting, split_forms
from data_modules.handwriting.pen import write_lines
from data_modules.handwriting.reading import read_ink
from data_modules.handwriting.sentences import normalised

REAL = Path(__file__).parents[3].parent / "shared/data/handwriting/iamondb_lines.npz"
SMALL = {"lines": (40, 10, 12)}
#: With it no line is left out.
ALL = " " + CHARACTERS


def made(**options):
    data = Handwriting(**SMALL | options)
    data.setup()
    return data


def save(folder, count=30, forms=10, change=lambda i, row: row, name="mine.jsonl"):
    """Writes lines of the synthetic pen as a user's own; forms lie spread over the file."""
    rows = []
    for i, ink in enumerate(write_lines(count, "train", 0)):
        row = {
            "text": ink.text,
            "strokes": [np.round(stroke, 4).tolist() for stroke in ink.strokes],
            "key": f"line {i}",
            "form": f"sheet {i % forms}",
        }
        rows.append(json.dumps(change(i, row)))
    path = folder / name
    path.write_text("\n".join(rows), "utf-8")
    return path


def forms(data):
    return {part: {ink.form for ink in data.parts[part].inks} for part in ("train", "validation",
            "test")}  # fmt: skip


def keys(data):
    return [ink.key for part in ("train", "validation", "test") for ink in data.parts[part].inks]


# The split ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [(0.9, 0.05, 0.05), (0.5, 0.3, 0.2), (0.02, 0.49, 0.49)])
@pytest.mark.parametrize("count", [3, 4, 5, 10, 100])
def test_forms_are_shared_out(split, count):
    names = {f"form {i}" for i in range(count)}
    parts = split_forms(names, split, 0)
    assert sum(map(len, parts)) == count and set().union(*parts) == names
    assert all(parts), "each part gets one"
    if count == 100:
        assert [len(part) for part in parts] == [round(100 * share) for share in split]
        assert split_forms(names, split, 1) != parts
        assert split_forms(set(sorted(names, reverse=True)), split, 0) == parts


def test_two_forms_are_too_few():
    with pytest.raises(UserError, match=r"2 form\(s\).*three or more"):
        split_forms({"a", "b"}, (0.9, 0.05, 0.05), 0)


def test_forms_of_a_file_are_never_torn(tmp_path):
    data = made(path=str(save(tmp_path)), split=(0.6, 0.2, 0.2), alphabet=ALL)
    found = forms(data)
    assert [len(found[part]) for part in found] == [6, 2, 2]
    assert len(set().union(*found.values())) == 10
    assert sorted(keys(data)) == sorted(f"line {i}" for i in range(30)), "each line once"
    assert data.spec.block_length == 3
    assert data.parts["calibration"] is data.parts["validation"]
    assert (data.name, data.source) == ("mine", str(tmp_path / "mine.jsonl"))


@pytest.mark.skipif(not REAL.exists(), reason="the real lines are not here")
def test_forms_of_real_lines_are_never_torn():
    inks = read_ink(REAL)
    parts = split_forms({ink.form for ink in inks}, (0.9, 0.05, 0.05), 0)
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    counts = [sum(ink.form in part for ink in inks) for part in parts]
    assert sum(counts) == len(inks)
    assert 0.85 < counts[0] / len(inks) < 0.95
    # A form's lines follow one another on paper: its name begins theirs.
    assert all(ink.key.startswith(ink.form) for ink in inks)


def test_the_order_of_a_file_means_nothing(tmp_path):
    first = made(path=str(save(tmp_path, name="first.jsonl")))
    lines = (tmp_path / "first.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "second.jsonl").write_text("\n".join(reversed(lines)), "utf-8")
    second = made(path=str(tmp_path / "second.jsonl"))
    assert keys(first) == keys(second) and first.spec == second.spec


def test_writers_and_sentences_of_the_synthetic_pen_are_never_shared():
    synthesis = made(lines=(200, 60, 60))
    recognition = made(lines=(200, 60, 60), writers="recognition")
    parts = {
        "synthesis": synthesis.parts["train"].inks,
        "recognition": recognition.parts["train"].inks,
        "validation": synthesis.parts["validation"].inks,
        "test": synthesis.parts["test"].inks,
    }
    writers = [{ink.form for ink in inks} for inks in parts.values()]
    sentences = [{normalised(ink.text) for ink in inks} for inks in parts.values()]
    for kinds in (writers, sentences):
        assert sum(map(len, kinds)) == len(set().union(*kinds))
    assert keys(recognition)[200:] == keys(synthesis)[200:], "both are judged on the same lines"
    assert (synthesis.name, synthesis.source) == ("synthetic_pen", "a synthetic pen")


def test_a_recogniser_and_what_it_judges_learn_from_other_forms_of_a_file(tmp_path):
    path = str(save(tmp_path, count=60, forms=20))
    everything = forms(made(path=path, split=(0.8, 0.1, 0.1)))
    synthesis, recognition = (
        forms(made(path=path, split=(0.8, 0.1, 0.1), writers=writers, alphabet=ALL))
        for writers in ("synthesis", "recognition")
    )
    assert synthesis["train"] | recognition["train"] == everything["train"]
    assert not synthesis["train"] & recognition["train"]
    assert abs(len(synthesis["train"]) - len(recognition["train"])) <= 1
    for part in ("validation", "test"):
        assert synthesis[part] == recognition[part] == everything[part]


# What identifies it ---------------------------------------------------------------------------


def test_the_digest_is_that_of_the_data(tmp_path):
    assert made().spec == made().spec
    digest = made().spec.digest
    assert len(digest) == 16 and int(digest, 16) >= 0
    others = [
        made(data_seed=1),
        made(lines=(41, 10, 12)),
        made(lines=(40, 10, 11)),
        made(writers="recognition"),
        made(smooth=False),
        made(deskew=False),
    ]
    assert len({digest, *(each.spec.digest for each in others)}) == 7
    path = save(tmp_path)
    before = made(path=str(path)).spec.digest

    def moved(i, row):
        if i == 17:
            row["strokes"][0][0][0] += 0.01
        return row

    assert made(path=str(save(tmp_path, change=moved))).spec.digest != before
    assert made(path=str(save(tmp_path))).spec.digest == before
    reworded = save(tmp_path, change=lambda i, row: row | {"text": "other"} if i == 4 else row)
    assert made(path=str(reworded)).spec.digest != before


def test_the_fingerprint_tells_encodings_apart():
    data = made()
    more = made(alphabet="".join([*data.spec.alphabet, "€"]))
    assert more.spec.digest == data.spec.digest and more.fingerprint != data.fingerprint
    assert made(batch_size=3).fingerprint == data.fingerprint


def test_the_specification_is_that_of_the_training_part():
    data = made()
    train = data.parts["train"].inks
    steps = np.concatenate([offsets(ink.points)[1:, :2] for ink in train])
    np.testing.assert_allclose(data.spec.mean, steps.mean(0), atol=1e-5)
    np.testing.assert_allclose(data.spec.deviation, steps.std(0), rtol=1e-4)
    assert data.spec.alphabet == learn_alphabet(ink.text for ink in train)
    text = "".join(ink.text for ink in train)
    assert data.spec.character_counts == [text.count(each) for each in data.spec.alphabet]
    points = sum(len(ink.points) for ink in train)
    assert data.spec.points_per_character == pytest.approx(points / len(text))
    values = torch.cat([each for each in data.parts["train"]._steps])[:, :2]
    assert values.abs().mean() < 1.5 and values.std(0) == pytest.approx([1, 1], abs=0.1)


def test_one_scale_serves_all_parts(tmp_path):
    def enlarged(i, row):  # the test sheets are three times as large: they stay so
        factor = 3 if row["form"] in large else 1
        row["strokes"] = [(factor * np.array(each)).tolist() for each in row["strokes"]]
        return row

    large = set()
    plain = made(path=str(save(tmp_path)), split=(0.6, 0.2, 0.2))
    large = forms(plain)["test"]
    other = made(path=str(save(tmp_path, change=enlarged)), split=(0.6, 0.2, 0.2))
    assert other.describe()["body_height"] == plain.describe()["body_height"]
    sizes = [np.ptp(each.parts["test"].inks[0].points[:, 1]) for each in (plain, other)]
    assert sizes[1] == pytest.approx(3 * sizes[0], rel=0.05)


# Characters -----------------------------------------------------------------------------------


def test_lines_with_characters_outside_the_alphabet_are_left_out_and_counted():
    whole = made(lines=(200, 10, 12))
    alphabet = "".join(each for each in whole.spec.alphabet if each != "k")
    data = made(lines=(200, 10, 12), alphabet=alphabet)
    inks = [ink for part in ("train", "validation", "test") for ink in whole.parts[part].inks]
    with_k = sum("k" in ink.text for ink in inks)
    assert 0 < with_k < len(inks) - len(keys(data)) + 1
    reason = "characters outside the alphabet"
    assert data.describe()["dropped"] == {reason: len(inks) - len(keys(data))}
    assert f"{len(inks) - len(keys(data))} with {reason}" in " ".join(data.advice())
    assert data.spec.alphabet == list(alphabet)


def test_replacing_keeps_lines_whose_characters_have_a_like(tmp_path):
    def accented(i, row):
        return row | {"text": row["text"].replace("e", "é")} if i % 2 else row

    path = str(save(tmp_path, change=accented))
    known = "".join(learn_alphabet(ink.text for ink in write_lines(30, "train", 0)))
    left = made(path=path, alphabet=known)
    data = made(path=path, alphabet=known, replace=True)
    assert len(keys(left)) < len(keys(data)) == 30
    texts = [ink.text for part in data.parts.values() for ink in part.inks]
    assert not any("é" in text for text in texts)


def test_rare_characters_are_named():
    data = made()
    counts = dict(zip(data.spec.alphabet, data.spec.character_counts, strict=True))
    said = data.advice()[-1]
    for character, count in counts.items():
        assert (f"{character!r} ({count})" in said) == (count < 20)


def test_a_text_is_encoded_by_the_alphabet():
    data = made()
    text = data.parts["train"].inks[0].text
    assert data.encode(text).tolist() == data.parts["train"][0].text.tolist()
    with pytest.raises(UserError, match="☃"):
        data.encode("☃")


# Loaders --------------------------------------------------------------------------------------


def test_loaders_give_every_line_once():
    data = made(batch_points=2000, alphabet=ALL)
    for part, shuffle in (("train", True), ("train", False), ("test", False)):
        torch.manual_seed(0)
        batches = list(data.loader(part, shuffle))
        rows = [row for batch in batches for row in batch.index.tolist()]
        assert sorted(rows) == list(range(len(data.parts[part])))
        assert shuffle or rows == sorted(rows)
        if part == "train":
            assert all(b.inputs.shape[0] * b.inputs.shape[1] <= 2000 for b in batches
                       if len(b.index) > 1)  # fmt: skip
    assert len(list(made(batch_size=7).loader("train", shuffle=True))) == 6
    assert len(list(made(evaluation_batch_size=5, alphabet=ALL).loader("test"))) == 3
    with pytest.raises(UserError, match="no part 'dev'"):
        data.loader("dev")


def test_sizes_are_described():
    data = made(alphabet=ALL)
    told = data.describe()
    assert [told[f"{part}_lines"] for part in ("train", "validation", "test")] == [40, 10, 12]
    assert told["test_points"] == sum(len(ink.points) - 1 for ink in data.parts["test"].inks)
    assert told["digest"] == data.spec.digest and "calibration_lines" not in told
    json.dumps(told)


def test_a_second_setup_changes_nothing():
    data = made()
    parts = dict(data.parts)
    data.setup("test")
    assert all(data.parts[part] is parts[part] for part in parts)


# Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lines", [1, 2]),
        ("lines", [1, 0, 2]),
        ("characters", [9, 5]),
        ("characters", [0, 5]),
        ("characters", [5]),
        ("split", [0.5, 0.5]),
        ("split", [0.5, 0.5, 0.5]),
        ("split", [1.0, 0.0, 0.0]),
        ("batch_size", 0),
        ("batch_points", 0),
        ("evaluation_batch_size", 0),
        ("alphabet", ""),
        ("alphabet", "abca"),
        ("max_points", 1),
        ("max_characters", 0),
    ],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ValueError, match=f"data.{option} is"):
        Handwriting(**{option: value})


def test_a_part_without_lines_is_explained(tmp_path):
    path = save(tmp_path, count=12)
    with pytest.raises(UserError, match=r"mine.jsonl: no line is left for train \(12 with more"):
        made(path=str(path), max_points=10)
    with pytest.raises(UserError, match="no line is left for .*outside the alphabet"):
        made(path=str(path), alphabet="q")
    with pytest.raises(UserError, match="does not exist"):
        made(path=str(tmp_path / "none.jsonl"))


def test_lines_of_a_writer_of_the_pen_stand_together():
    """Their errors hang together, and intervals are told with how many."""
    data = made(lines=(40, 10, 300))
    writers = [ink.form for ink in data.parts["test"].inks]
    changes = sum(one != other for one, other in zip(writers, writers[1:], strict=False))
    assert changes == len(set(writers)) - 1
    sizes = np.array([writers.count(writer) for writer in set(writers)])
    assert data.spec.block_length == round((sizes**2).sum() / sizes.sum()) >= 2


def test_a_pen_that_moves_in_one_direction_is_no_handwriting(tmp_path):
    def upright(i, row):
        return row | {"strokes": [[[0, y] for _, y in stroke] for stroke in row["strokes"]]}

    path = save(tmp_path, change=upright)
    with pytest.raises(UserError, match=r"mine\.jsonl: the pen .* moves in one direction only"):
        Handwriting(path, deskew=False).setup()
