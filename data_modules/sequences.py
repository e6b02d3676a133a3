"""Sequences of numbers with a label each: from a file in long format, or generated."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.length_batches import LengthBatches
from data_modules.options import check_choices, check_counts
from data_modules.sequence_batches import SequencePart
from data_modules.sequence_generators import generate
from data_modules.sequence_labels import Kind, class_numbers, find_kind, numbers
from data_modules.sequence_sources import RawSequences, SequenceFile
from data_modules.sequence_specification import SequenceBatch, SequenceSpec
from data_modules.sequence_values import (
    Missing,
    all_without_gaps,
    check_varying,
    equal_values,
)
from data_modules.split_data import SplitDataModule
from data_modules.splitting import FEWEST_CALIBRATED, fit_scaling
from data_modules.text_splitting import connected_groups, divide, split_digest

_SPLIT = [0.7, 0.15, 0.15]
_SIZE = 4000
_NOISE = 0.3
#: Of the generated labels, by what they are.
_LABEL_NOISE: dict[Kind, float] = {"classes": 0.05, "number": 0.2}
_PARTS = ("train", "validation", "calibration", "test")


class Sequences(SplitDataModule[SequenceSpec, SequencePart]):
    """Sequences of numbers, of unequal lengths, each with a class or a number to be told from it.

    With ``path``, a csv or parquet file in long format: a row for each step, with a column that
    tells sequences apart. By default sequences of an equation, see
    :func:`data_modules.sequence_generators.generate`. A sequence lies in one part as a whole, and
    so do sequences that are equal, or share a group. Scaling is fitted on the training part alone.
    All values lie in one tensor, whatever the lengths.
    """

    def __init__(
        self,
        path: str | None = None,
        kind: Literal["classes", "number"] | None = None,
        id_column: str = "id",
        step_column: str | None = None,
        values: list[str] | None = None,
        target: str | None = None,
        labels_path: str | None = None,
        group_column: str | None = None,
        split: list[float] | None = None,
        calibration_fraction: float = 0.25,
        seed: int = 0,
        scaling: Literal["standard", "none"] = "standard",
        missing: Literal["error", "ffill", "interpolate"] = "error",
        min_length: int = 1,
        max_length: int | None = None,
        batch_size: int = 32,
        evaluation_batch_size: int = 500,
        bucketing: bool = True,
        separator: str = ",",
        decimal: str = ".",
        encoding: str = "utf-8",
        size: int | None = None,
        noise: float | None = None,
        label_noise: float | None = None,
    ) -> None:
        """Checks and keeps the options; no file is read before ``setup``.

        Args:
            path: File of the values: .csv or .tsv (both also .gz) or .parquet, a row for each step
                of each sequence. By default generated sequences.
            kind: What the labels are, "classes" or "number"; by default found from them.
            id_column: Column that tells sequences apart.
            step_column: Column of numbers or dates that orders the steps of a sequence; by default
                "step" where there is such a column, else the rows are taken in their order.
            values: Columns of values; by default all others that hold numbers.
            target: Column of the label, the same throughout a sequence; by default "label".
            labels_path: File of ids and labels, where they do not stand beside the values.
            group_column: Sequences with the same text here (a person, a machine) lie in one part.
            split: Shares of training, validation and test, by default [0.7, 0.15, 0.15].
            calibration_fraction: Share of the validation part kept for calibration.
            seed: Decides which sequence goes where, and the generated ones.
            scaling: "standard" for zero mean and unit deviation of each channel over all steps of
                the training part, or "none".
            missing: "error"; "ffill" to repeat the last value of the sequence; "interpolate" to
                draw a line across the gap within it.
            min_length: Sequences with fewer steps are left out.
            max_length: Steps of a sequence that count, its first ones; by default all.
            batch_size: Sequences in a training batch.
            evaluation_batch_size: Sequences in a batch of any other part.
            bucketing: Whether the sequences of a training batch are of like length.
            separator: What stands between cells: one character, "tab" or "space".
            decimal: The decimal mark, "." or ",".
            encoding: Text encoding, such as utf-8 or latin-1.
            size: Number of generated sequences, by default 4000.
            noise: Standard deviation of the generated noise, by default 0.3.
            label_noise: Share of generated labels that are wrong, by default 0.05; or standard
                deviation of the generated number about the true one, by default 0.2.

        Raises:
            UserError: An option is out of its range, or contradicts another.
        """
        super().__init__()
        check_choices(
            kind=(kind, None, "classes", "number"),
            scaling=(scaling, "standard", "none"),
            missing=(missing, "error", "ffill", "interpolate"),
        )
        check_counts(
            min_length=min_length,
            max_length=max_length,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
            size=size,
        )
        if max_length is not None and max_length < min_length:
            raise UserError(
                f"max_length is {max_length} and min_length {min_length}: write a larger max_length"
            )
        self.split = _SPLIT if split is None else list(split)
        if len(self.split) != 3 or min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise UserError(
                f"split is {self.split}: write three shares above 0 that sum to 1, such as {_SPLIT}"
            )
        if not 0 < calibration_fraction < 1:
            raise UserError(
                f"calibration_fraction is {calibration_fraction}: write a share of the "
                "validation part between 0 and 1, such as 0.25"
            )
        for option, given in {
            "step_column": step_column,
            "values": values,
            "target": target,
            "labels_path": labels_path,
            "group_column": group_column,
        }.items():
            if path is None and given is not None:
                raise UserError(f"{option} is for files: set path, or leave it out")
        generated = {"size": size, "noise": noise, "label_noise": label_noise}
        for option, amount in generated.items():
            if path is not None and amount is not None:
                raise UserError(f"{option} is for generated sequences: leave it out, or path")
            if amount is not None and not 0 <= amount < float("inf"):
                raise UserError(f"{option} is {amount}: write a number of at least 0")
        self.path = path
        self.kind: Kind | None = kind if path is not None else (kind or "classes")
        if self.kind == "classes" and label_noise is not None and label_noise >= 0.75:
            raise UserError(f"label_noise is {label_noise}: write a share below 0.75")
        self.id_column = id_column
        self.file = SequenceFile(
            path=str(path),
            id_column=id_column,
            step_column=step_column,
            values=None if values is None else tuple(values),
            target=target,
            labels_path=labels_path,
            group_column=group_column,
            written=FileFormat(separator, decimal, encoding),
        )
        self.calibration_fraction = calibration_fraction
        self.seed = seed
        self.scaling: Literal["standard", "none"] = scaling
        self.missing: Missing = missing
        self.min_length = min_length
        self.max_length = max_length
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.bucketing = bucketing
        self.size = _SIZE if size is None else size
        self.noise = _NOISE if noise is None else noise
        self.label_noise = (
            _LABEL_NOISE[self.kind or "classes"] if label_noise is None else label_noise
        )

    def _raw(self) -> RawSequences:
        if self.path is not None:
            return self.file.read()
        assert self.kind is not None, "the constructor has chosen one"
        return generate(self.kind, self.size, self.noise, self.label_noise, self.seed)

    def _build(self) -> tuple[SequenceSpec, dict[str, SequencePart], dict[str, Any]]:
        every = self._raw()
        kept = np.flatnonzero(every.lengths >= self.min_length)
        if not len(kept):
            raise UserError(
                f"no sequence has min_length = {self.min_length} steps; the longest has "
                f"{every.lengths.max()}: lower it"
            )
        longest = int(every.lengths[kept].max())
        raw = every.take(kept, self.max_length or longest)
        kind = self.kind or find_kind(raw.labels, raw.target)
        classes: list[str] = []
        if kind == "classes":
            classes, labels = class_numbers(raw.labels, raw.target, raw.places)
        else:
            labels = numbers(raw.labels, raw.target, raw.places)
        rows = self._divide(raw, labels if classes else np.zeros(len(raw), dtype=np.int64))
        values, filled = all_without_gaps(raw, self.missing)
        training = values[np.repeat(_among(len(raw), rows["train"]), raw.lengths)]
        location, scale = fit_scaling(training, self.scaling)
        check_varying(training, raw.channels)
        centre, spread = 0.0, 1.0
        if not classes:
            centre, spread = float(labels[rows["train"]].mean()), float(labels[rows["train"]].std())
            if not spread > 1e-12 * abs(centre):
                raise UserError(f"{raw.target!r} is {centre:g} throughout the training part")
        spec = SequenceSpec(
            channels=raw.channels,
            location=location,
            scale=scale,
            max_length=self.max_length or longest,
            target=raw.target,
            classes=classes,
            class_counts=np.bincount(labels[rows["train"]], minlength=len(classes)).tolist()
            if classes
            else [],
            target_location=centre,
            target_scale=spread,
            missing=self.missing,
            id_column=self.id_column,
            step_column=raw.step_column,
            file_format=raw.written,
            noise_floor=None
            if raw.least_errors is None
            else [float(raw.least_errors[rows["test"]].mean())],
        )
        spec = dataclasses.replace(spec, digest=_digest(spec, raw, values, rows))
        scaled = torch.from_numpy(((values - location) / scale).astype(np.float32))
        if not bool(scaled.isfinite().all()):
            raise UserError(
                f"{self.path} holds values too large for float32: set scaling: standard"
            )
        told = labels if classes else ((labels - centre) / spread).astype(np.float32)
        parts = {
            part: SequencePart(
                values=scaled,
                starts=raw.offsets[:-1][chosen],
                lengths=raw.lengths[chosen],
                labels=told[chosen],
                ids=[raw.ids[row] for row in chosen],
            )
            for part, chosen in rows.items()
        }
        notes = {
            "kind": kind,
            "left_out": len(every) - len(raw),
            "cut": int((every.lengths[kept] > raw.lengths).sum()),
            "longest": longest,
            "shortest": int(raw.lengths.min()),
            "filled": filled,
        }
        return spec, parts, notes

    def _divide(self, raw: RawSequences, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the rows of each part, of sequences that are equal or of one group together."""
        groups = connected_groups(equal_values(raw), raw.groups)
        train, both, test = divide(groups, classes, self.split, self.seed)
        shares = [1 - self.calibration_fraction, self.calibration_fraction]
        # In two steps, since few groups would leave a part as small as calibration empty.
        numbered = np.unique(groups[both], return_inverse=True)[1]
        validation, calibration = (
            both[chosen] for chosen in divide(numbered, classes[both], shares, self.seed)
        )
        rows = dict(zip(_PARTS, (train, validation, calibration, test), strict=True))
        for part, chosen in rows.items():
            if not len(chosen):
                raise UserError(
                    f"the {part} part is empty: {self.source} has {len(raw)} sequences in "
                    f"{int(groups.max()) + 1} groups: give more, or a larger share by split or "
                    "calibration_fraction"
                )
        return rows

    @property
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """The file's name without its endings, or what is generated."""
        if self.path is not None:
            return Path(self.path).name.split(".")[0]
        return {"classes": "bursts", "number": "frequency"}[self.kind or "classes"]

    @property
    def source(self) -> str:
        """The file, or how to make the same sequences again."""
        if self.path is not None:
            return str(self.path)
        return f"{type(self).__name__}(kind={self.kind}, seed={self.seed})"

    def loader(self, part: str, shuffle: bool = False) -> DataLoader[SequenceBatch]:
        """Returns a loader of one part.

        Args:
            part: One of ``parts``.
            shuffle: Whether to draw the sequences in random order (torch's global generator), in
                batches of like length if ``bucketing``.

        Raises:
            UserError: There is no such part.
        """
        self.check_part(part)
        sequences = self.parts[part]
        size = self.batch_size if part == "train" else self.evaluation_batch_size
        batches = LengthBatches(sequences.lengths, size, shuffle, self.bucketing)
        return DataLoader(sequences, batch_sampler=batches, collate_fn=_unchanged)

    def advice(self) -> list[str]:
        """Says when sequences are cut or left out, or too few to calibrate an interval."""
        said = []
        if self._notes["cut"]:
            said.append(
                f"{self._notes['cut']} sequences have more than {self.max_length} steps, of which "
                f"the first count; the longest has {self._notes['longest']}: see --data.max_length"
            )
        if self._notes["left_out"]:
            said.append(
                f"{self._notes['left_out']} sequences have fewer than {self.min_length} steps and "
                "are left out: see --data.min_length"
            )
        found = len(self.parts["calibration"])
        if not self.spec.classes and found < FEWEST_CALIBRATED:
            said.append(
                f"the calibration part holds {found} sequences; a 90 % interval needs "
                f"{FEWEST_CALIBRATED}: see --data.calibration_fraction"
            )
        return said

    def describe(self) -> dict[str, Any]:
        """Returns the sizes of the parts, the digest and what was found in the data."""
        return {
            "data": type(self).__name__,
            "source": self.source,
            "sequences": {name: len(part) for name, part in self.parts.items()},
            "channels": list(self.spec.channels),
            "target": self.spec.target,
            "classes": list(self.spec.classes),
            "digest": self.spec.digest,
            "noise_floor": self.spec.noise_floor,
            **self._notes,
        }


def _unchanged(batch: Any) -> SequenceBatch:
    """Collates nothing: the data set returns whole batches."""
    return batch


def _among(count: int, rows: np.ndarray) -> np.ndarray:
    """Tells which of so many are among the rows."""
    chosen = np.zeros(count, dtype=bool)
    chosen[rows] = True
    return chosen


def _digest(
    spec: SequenceSpec, raw: RawSequences, values: np.ndarray, rows: dict[str, np.ndarray]
) -> str:
    """Identifies the split data: values, labels, parts, and what of them counts."""
    content = hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes())
    content.update(np.ascontiguousarray(raw.offsets, dtype="<i8").tobytes())
    content.update("\n".join(raw.labels).encode())
    description = {
        "values": content.hexdigest(),
        "channels": spec.channels,
        "classes": spec.classes,
        "target": spec.target,
        # Nine digits, because the last bits of a mean may differ between machines.
        "location": [f"{value:.9g}" for value in spec.location],
        "scale": [f"{value:.9g}" for value in spec.scale],
    }
    return split_digest(description, rows)
