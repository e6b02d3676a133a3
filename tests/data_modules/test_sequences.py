import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules.errors import UserError
from data_modules.sequence_generators import CLASSES, generate
from data_modules.sequence_specification import SequenceSpec
from data_modules.sequence_values import without_gaps
from data_modules.sequences import Sequences


def make_frame(count=60, seed=0, number=False):
    """Sequences of 3 to 9 steps of two channels, whose first channel names its sequence."""
    rng = np.random.default_rng(seed)
    rows = []
    for each in range(count):
        label = f"{each + 0.5}" if number else "up" if each % 3 == 0 else "down"
        for step in range(3 + each % 7):
            rows.append((f"s{each}", step, each + step / 100, rng.normal(), label))
    return pd.DataFrame(rows, columns=["id", "step", "a", "b", "label"])


def write(frame, path):
    frame.to_csv(path, index=False)
    return str(path)


@pytest.fixture
def path(tmp_path):
    return write(make_frame(), tmp_path / "mine.csv")


def ready(**options):
    data = Sequences(**options)
    data.setup()
    return data


def original(data, part):
    """The sequences of a part in original units, by id."""
    spec, chosen = data.spec, data.parts[part]
    pairs = zip(chosen.ids, chosen.sequences(), strict=True)
    return {name: each.numpy() * spec.scale + spec.location for name, each in pairs}


def everything(data):
    return {name: values for part in data.parts for name, values in original(data, part).items()}


def test_every_sequence_is_whole_and_in_one_part(path):
    data, frame = ready(path=path), make_frame()
    seen = [name for part in data.parts.values() for name in part.ids]
    assert sorted(seen) == sorted(frame["id"].unique())
    for part in data.parts:
        for name, values in original(data, part).items():
            expected = frame.loc[frame["id"] == name, ["a", "b"]].to_numpy()
            np.testing.assert_allclose(values, expected, atol=1e-5)
    labels = dict(zip(frame["id"], frame["label"], strict=True))
    test = data.parts["test"]
    assert [data.spec.classes[k] for k in test.labels] == [labels[name] for name in test.ids]
    assert data.spec.channels == ["a", "b"] and data.spec.step_column == "step"


def test_classes_have_the_same_shares_in_all_parts(tmp_path):
    data = ready(path=write(make_frame(300), tmp_path / "many.csv"))
    for part in data.parts.values():
        share = np.mean(part.labels == data.spec.classes.index("up"))
        assert share == pytest.approx(1 / 3, abs=1 / len(part))
    sizes = {name: len(part) for name, part in data.parts.items()}
    assert sizes == pytest.approx(
        {"train": 210, "validation": 34, "calibration": 11, "test": 45}, abs=1
    )


def test_rows_in_any_order_give_the_same_data(path, tmp_path):
    shuffled = make_frame().sample(frac=1, random_state=1)
    other = ready(path=write(shuffled, tmp_path / "mine2.csv"))
    for part, name in ((p, n) for p in other.parts for n in other.parts[p].ids):
        expected = make_frame().query("id == @name")[["a", "b"]].to_numpy()
        np.testing.assert_allclose(original(other, part)[name], expected, atol=1e-5)
    # Without a step column the order of the rows is that of the steps.
    frame = make_frame().drop(columns="step").iloc[::-1]
    data = ready(path=write(frame, tmp_path / "mine3.csv"))
    assert data.spec.step_column is None
    name, values = next(iter(original(data, "train").items()))
    expected = make_frame().query("id == @name")["a"].to_numpy()[::-1]
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-5)


def test_scaling_sees_the_training_part_alone(path, tmp_path):
    data, frame = ready(path=path), make_frame()
    held_out = {
        name for part in ("validation", "calibration", "test") for name in data.parts[part].ids
    }
    training = frame[~frame["id"].isin(held_out)][["a", "b"]]
    np.testing.assert_allclose(data.spec.location, training.mean(), rtol=1e-9)
    np.testing.assert_allclose(data.spec.scale, training.std(ddof=0), rtol=1e-9)
    changed = frame.copy()
    changed.loc[changed["id"].isin(held_out), "b"] += 1000
    other = ready(path=write(changed, tmp_path / "changed.csv"))
    assert other.spec.location == data.spec.location and other.spec.scale == data.spec.scale
    assert other.spec.digest != data.spec.digest


def test_groups_and_equal_sequences_stay_together(tmp_path):
    frame = make_frame(240)
    frame["person"] = frame["id"].str[1:].astype(int) % 60
    data = ready(path=write(frame, tmp_path / "groups.csv"), group_column="person")
    homes = [{int(name[1:]) % 60 for name in part.ids} for part in data.parts.values()]
    assert all(not (one & other) for one, other in itertools.combinations(homes, 2))
    assert "person" not in data.spec.channels
    # Every sequence twice, under another name: without a leak both are in one part.
    once = make_frame(40)
    twice = pd.concat([once, once.assign(id=once["id"] + "x")])
    data = ready(path=write(twice, tmp_path / "twice.csv"))
    for part in data.parts.values():
        assert {name.removesuffix("x") for name in part.ids if "x" in name} == {
            name for name in part.ids if "x" not in name
        }


def test_few_groups_leave_a_part_empty_and_are_refused(tmp_path):
    """Sequences that are equal in each class: two groups for four parts."""
    frame = make_frame()
    frame["a"] = frame["b"] = (frame["label"] == "up").astype(float)
    frame = frame.groupby("id").head(2)
    with pytest.raises(UserError, match="part is empty: .* has 60 sequences in 2 groups"):
        Sequences(write(frame, tmp_path / "few.csv")).setup()


def test_labels_may_stand_in_another_file(tmp_path):
    frame = make_frame(number=True)
    labels = frame[["id", "label"]].drop_duplicates().sample(frac=1, random_state=0)
    values = write(frame.drop(columns="label"), tmp_path / "values.csv")
    told = write(labels.rename(columns={"label": "age"}), tmp_path / "ages.csv")
    data = ready(path=values, labels_path=told)
    assert data.spec.target == "age" and data.spec.classes == []
    test = data.parts["test"]
    numbers = data.spec.to_number(torch.from_numpy(test.labels))
    expected = [int(name[1:]) + 0.5 for name in test.ids]
    np.testing.assert_allclose(numbers, expected, rtol=1e-5)
    training = data.parts["train"].labels
    assert abs(training.mean()) < 1e-5 and training.std() == pytest.approx(1, abs=1e-5)
    write(labels.iloc[1:], tmp_path / "ages.csv")
    with pytest.raises(
        UserError, match=r"ages.csv has no label for 's\d+' of .*values.csv: add it"
    ):
        ready(path=values, labels_path=told)
    write(pd.concat([labels, labels]), tmp_path / "ages.csv")
    with pytest.raises(UserError, match=r"ages.csv line 62, column 'id': 's\d+' stands .* second"):
        ready(path=values, labels_path=told)


def test_a_label_in_both_files_is_no_input(tmp_path):
    frame = make_frame(number=True)
    values = write(frame, tmp_path / "values.csv")
    labels = write(frame[["id", "label"]].drop_duplicates(), tmp_path / "labels.csv")
    assert ready(path=values, labels_path=labels).spec.channels == ["a", "b"]
    with pytest.raises(UserError, match="'label' is the target, and cannot be one of values"):
        ready(path=values, labels_path=labels, values=["a", "label"])


def test_parquet_gives_the_same_as_csv(path, tmp_path):
    frame = make_frame()
    # Timestamps order as steps do.
    frame["step"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(frame["step"], "h")
    frame.sample(frac=1, random_state=0).sort_values("id", kind="stable").to_parquet(
        tmp_path / "mine.parquet"
    )
    data = ready(path=str(tmp_path / "mine.parquet"))
    from_csv, from_parquet = everything(ready(path=path)), everything(data)
    assert from_csv.keys() == from_parquet.keys()
    for name in from_csv:
        np.testing.assert_allclose(from_csv[name], from_parquet[name], atol=1e-5)
    frame["b"] = "text"
    frame.to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="line 1, column 'b': 'text' is not a number"):
        ready(path=str(tmp_path / "bad.parquet"), values=["a", "b"])
    (tmp_path / "no.parquet").write_text("PAR?")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        ready(path=str(tmp_path / "no.parquet"))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["a", "b"] * 20, "classes"),
        (["1.5", "2"] * 20, "number"),
        (["0", "1"] * 20, "classes"),
        ([str(i) for i in range(40)], "number"),
        (["1", "x"] * 20, "classes"),
        ([str(i % 13) for i in range(40)], None),
    ],
)
def test_the_kind_of_label_is_found_where_it_is_plain(labels, kind, tmp_path):
    frame = make_frame(40).drop(columns="label")
    frame["label"] = [labels[int(name[1:])] for name in frame["id"]]
    path = write(frame, tmp_path / "mine.csv")
    if kind is None:
        with pytest.raises(UserError, match="set kind to classes or to number"):
            ready(path=path)
        assert ready(path=path, kind="number").spec.classes == []
    else:
        assert ready(path=path).describe()["kind"] == kind


def test_classes_that_are_numbers_come_in_their_order(tmp_path):
    frame = make_frame(60)
    frame["label"] = [["10", "9", "-1"][int(name[1:]) % 3] for name in frame["id"]]
    assert ready(path=write(frame, tmp_path / "m.csv")).spec.classes == ["-1", "9", "10"]


# Missing values and lengths -------------------------------------------------------------------


def test_gaps_are_filled_within_their_sequence(tmp_path):
    frame = make_frame()
    frame.loc[frame["id"].eq("s1") & frame["step"].eq(2), "a"] = np.nan
    frame.loc[frame["id"].eq("s2") & frame["step"].eq(0), "a"] = np.nan
    path = write(frame, tmp_path / "gaps.csv")
    with pytest.raises(
        UserError, match=r"'s1' that begins at .*gaps.csv line 5: .* step 3 is miss"
    ):
        ready(path=path)
    with pytest.raises(UserError, match=r"'s2' .* none before it to repeat: set missing to interp"):
        ready(path=path, missing="ffill")
    data = ready(path=path, missing="interpolate")
    values = everything(data)
    np.testing.assert_allclose(values["s1"][:, 0], [1, 1.01, 1.02, 1.03], atol=1e-5)
    np.testing.assert_allclose(values["s2"][:, 0], [2.01, 2.01, 2.02, 2.03, 2.04], atol=1e-5)
    assert data.describe()["filled"] == {"a": 2}


def test_filling_repeats_or_draws_lines():
    nan = np.nan
    values = np.array([[1.0, 5.0], [nan, nan], [3.0, nan], [nan, 8.0]])
    np.testing.assert_allclose(
        without_gaps(values, "ffill", ["a", "b"]), [[1, 5], [1, 5], [3, 5], [3, 8]]
    )
    np.testing.assert_allclose(
        without_gaps(values, "interpolate", ["a", "b"]), [[1, 5], [2, 6], [3, 7], [3, 8]]
    )
    assert np.isnan(values).sum() == 4  # what was given is left alone
    with pytest.raises(UserError, match="all values of 'b' are missing"):
        without_gaps(np.array([[1.0, nan]]), "ffill", ["a", "b"])


def test_lengths_are_limited_as_asked(path):
    data = ready(path=path, min_length=4, max_length=6)
    lengths = np.concatenate([part.lengths for part in data.parts.values()])
    assert (lengths.min(), lengths.max(), data.spec.max_length) == (4, 6, 6)
    assert len(lengths) == sum(3 + i % 7 >= 4 for i in range(60))
    said = " ".join(data.advice())
    assert "more than 6 steps" in said and "9 sequences have fewer than 4 steps" in said
    assert ready(path=path).advice() == []
    with pytest.raises(UserError, match="no sequence has min_length = 99 steps; the longest has 9"):
        ready(path=path, min_length=99)


def test_batches_are_padded_with_zeros_and_say_where_they_end(path):
    data = ready(path=path, batch_size=7)
    part = data.parts["train"]
    seen = []
    for batch in data.loader("train", shuffle=True):
        seen += batch.index.tolist()
        assert batch.inputs.shape == (len(batch.index), int(batch.lengths.max()), 2)
        for row, index in enumerate(batch.index.tolist()):
            length = int(batch.lengths[row])
            assert torch.equal(batch.inputs[row, :length], part.sequences([index])[0])
            assert not batch.inputs[row, length:].any()
            assert batch.labels[row] == part.labels[index]
    assert sorted(seen) == list(range(len(part)))


def test_memory_is_one_tensor_that_all_parts_share(path):
    data = ready(path=path)
    addresses = {part.values.data_ptr() for part in data.parts.values()}
    assert len(addresses) == 1
    assert data.parts["train"].values.shape == (len(make_frame()), 2)
    view = data.parts["test"].sequences([0])[0]
    assert view.untyped_storage().data_ptr() in addresses


def test_the_same_options_give_the_same_data(path):
    one, two, other = ready(path=path), ready(path=path), ready(path=path, seed=1)
    assert one.spec == two.spec and one.parts["test"].ids == two.parts["test"].ids
    assert one.spec.digest != other.spec.digest
    assert SequenceSpec.from_dict(one.spec.to_dict()) == one.spec


def test_too_few_to_calibrate_an_interval_are_told_of():
    few = ready(kind="number", size=100)
    assert "the calibration part holds 4 sequences" in few.advice()[0]
    assert ready(kind="number", size=400).advice() == ready(size=100).advice() == []


# Generated ------------------------------------------------------------------------------------


def test_generated_classes_are_the_order_of_bursts():
    raw = generate("classes", 400, noise=0.0, label_noise=0.0, seed=0)
    assert set(raw.labels) == set(CLASSES)
    for row in range(40):
        values = raw.values[raw.offsets[row] : raw.offsets[row + 1]].sum(axis=1)
        half = len(values) // 2
        found = []
        for part in (values[:half], values[half:]):
            burst = part[np.flatnonzero(part)[0] : np.flatnonzero(part)[-1] + 1]
            power = np.abs(np.fft.rfft(burst, 14)) ** 2
            found.append("slow" if power[1] > power[2] else "fast")
        assert " ".join(found) == raw.labels[row]


def test_generated_numbers_are_frequencies():
    raw = generate("number", 30, noise=0.0, label_noise=0.0, seed=0)
    for row in range(30):
        x, y = raw.values[raw.offsets[row] : raw.offsets[row + 1]].T
        turned = np.unwrap(np.arctan2(x, y))
        cycles = (turned[-1] - turned[0]) / (2 * np.pi) / (len(x) - 1) * 100
        assert cycles == pytest.approx(float(raw.labels[row]))


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_the_noise_floor_is_what_who_knows_the_truth_gets(kind):
    noisy = generate(kind, 500, noise=0.3, label_noise=0.1, seed=3)
    clean = generate(kind, 500, noise=0.3, label_noise=0.0, seed=3)
    if kind == "classes":
        errors = noisy.labels != clean.labels
        assert errors.mean() == pytest.approx(0.1)
    else:
        errors = (noisy.labels.astype(float) - clean.labels.astype(float)) ** 2
        assert errors.mean() == pytest.approx(0.01, rel=0.2)
    np.testing.assert_allclose(noisy.least_errors, errors)
    data = ready(kind=kind, size=500, label_noise=0.1, seed=3)
    rows = [int(name) for name in data.parts["test"].ids]
    assert data.spec.noise_floor == pytest.approx([errors[rows].mean()])


# Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "both"}, "kind is 'both': write one of classes, number"),
        ({"split": [0.5, 0.5]}, "split is .* write three shares above 0 that sum to 1"),
        ({"calibration_fraction": 1.0}, "calibration_fraction is 1.0"),
        ({"min_length": 5, "max_length": 3}, "write a larger max_length"),
        ({"target": "x"}, "target is for files: set path"),
        ({"path": "x.csv", "size": 3}, "size is for generated sequences"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"missing": "mean"}, "missing is 'mean': write one of error, ffill, interpolate"),
        ({"label_noise": 0.9}, "label_noise is 0.9: write a share below 0.75"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Sequences(**options)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.rename(columns={"id": "name"}), {}, "no column 'id': set id_column"),
        (lambda f: f.rename(columns={"label": "y"}), {}, "no column 'label': set target"),
        (
            lambda f: f,
            {"values": ["a", "step"], "step_column": "step"},
            "'step' is the step_column",
        ),
        (lambda f: f, {"values": ["c"]}, "no column 'c'"),
        (lambda f: f.assign(label="same"), {}, "all sequences have the label 'same'"),
        (lambda f: f.assign(a=1.0), {}, "column 'a' is constant .1. throughout the training"),
        (lambda f: f.assign(b="x"), {"values": ["a", "b"]}, "line 2, column 'b': 'x' is not a num"),
        (
            lambda f: f.assign(label=["odd", *f["label"][1:]]),
            {},
            "line 3, column 'label': 'up', where the sequence began with 'odd'",
        ),
        (
            lambda f: f.assign(step=0),
            {},
            "line 3, column 'step': this sequence has that step twice",
        ),
        (lambda f: f.assign(id=["", *f["id"][1:]]), {}, "line 2, column 'id': the id is missing"),
        (lambda f: f.assign(label=""), {}, "line 2, column 'label': the label of 's0' is missing"),
        (
            lambda f: f.assign(label=["x" if n == "s5" else "y" for n in f["id"]]),
            {},
            r"the class 'x' of 'label' has 1 of 60 sequences \(the first at .* line 27",
        ),
        (lambda f: f, {"kind": "number"}, "line 2, 'label': 'up' is not a finite number"),
    ],
)
def test_mistakes_in_a_file_name_their_place(change, options, message, tmp_path):
    path = write(change(make_frame()), tmp_path / "mine.csv")
    with pytest.raises(UserError, match=message):
        ready(path=path, **options)


def test_a_value_too_far_off_is_refused():
    spec = dataclasses.replace(ready(size=60).spec, scale=[1e-30, 1.0])
    with pytest.raises(UserError, match="column 'x' holds 1e.20, too far from what"):
        spec.to_scaled(np.full((3, 2), 1e20))
