"""Handwriting: lines of pen strokes with their texts, from a file or from a synthetic pen."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from data_modules.errors import UserError
from data_modules.handwriting.alphabet import (
    count_characters,
    encode,
    learn_alphabet,
    replace_unknown,
)
from data_modules.handwriting.ink import Ink, offsets
from data_modules.handwriting.parts import InkPart
from data_modules.handwriting.pen import write_lines
from data_modules.handwriting.preparation import Preparation, prepare
from data_modules.handwriting.reading import read_ink
from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from data_modules.length_batches import LengthBatches
from data_modules.split_data import SplitDataModule

#: A character seen less often than this is badly learned; the user is told.
_FEW = 20


class Handwriting(SplitDataModule[HandwritingSpec, InkPart]):
    """Lines of handwriting, split by form, never by line.

    A form of a file is what its lines name as such. Forms of IAM-OnDB are texts to copy: no text is
    in two parts, but a writer may be. Forms of the synthetic pen are its writers.

    Args:
        path: IAM-OnDB's folder (with ``lineStrokes`` and ``ascii``), a packed ``.npz`` of it, or a
            file of JSON lines; null for the synthetic pen.
        lines: Training, validation and test lines that the synthetic pen writes.
        characters: Fewest and most characters of a line of the synthetic pen.
        writers: Which training lines: null for all; "synthesis" or "recognition" where a
            recogniser will judge a synthesiser, so that the one learns nothing of what taught the
            other. Of a file these are two halves of the training forms, of the synthetic pen other
            writers with other sentences, and as many.
        split: Shares of the forms of a file that become training, validation and test.
        data_seed: Which forms go where, and what the synthetic pen writes.
        alphabet: Characters that may occur; null to learn them from the training part.
        replace: Put the most similar known character where a line has one outside the alphabet;
            without it a line with such a character is left out (validation and test lines
            too, whose characters the training part may lack).
        batch_size: Lines in a training batch.
        batch_points: Points of a training batch at most, padding included, instead of
            ``batch_size`` lines: batches of short lines then hold more of them.
        evaluation_batch_size: Lines in any other batch.
        deskew: Turn each line so that it runs level.
        smooth: Take the pen's jitter out; corners stay.
        max_points: Lines of more points are dropped.
        max_characters: Lines of longer texts are dropped.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        path: str | None = None,
        lines: Sequence[int] = (4000, 300, 300),
        characters: Sequence[int] = (5, 40),
        writers: Literal["synthesis", "recognition"] | None = None,
        split: Sequence[float] = (0.9, 0.05, 0.05),
        data_seed: int = 0,
        alphabet: str | None = None,
        replace: bool = False,
        batch_size: int = 32,
        batch_points: int | None = None,
        evaluation_batch_size: int = 64,
        deskew: bool = True,
        smooth: bool = True,
        max_points: int = 1200,
        max_characters: int = 75,
    ) -> None:
        super().__init__()
        self.path = None if path is None else Path(os.path.expanduser(path))
        self.lines, self.characters = list(lines), list(characters)
        self.writers = writers
        self.split, self.data_seed = list(split), data_seed
        self.alphabet, self.replace = alphabet, replace
        self.batch_size, self.batch_points = batch_size, batch_points
        self.evaluation_batch_size = evaluation_batch_size
        self.preparation = Preparation(deskew, smooth, max_points, max_characters)
        low, high = (*self.characters, 0, 0)[:2]
        for option, valid, wanted in (
            ("lines", len(self.lines) == 3 and min(self.lines) > 0, "three numbers above 0"),
            ("characters", len(self.characters) == 2 and 1 <= low <= high, "such as [5, 40]"),
            (
                "split",
                len(self.split) == 3 and min(self.split) > 0 and abs(sum(self.split) - 1) < 1e-6,
                "three shares above 0 whose sum is 1, such as [0.9, 0.05, 0.05]",
            ),
            ("batch_size", batch_size > 0, "above 0"),
            ("batch_points", batch_points is None or batch_points > 0, "above 0, or null"),
            ("evaluation_batch_size", evaluation_batch_size > 0, "above 0"),
            (
                "alphabet",
                alphabet is None or 0 < len(alphabet) == len(set(alphabet)),
                "the characters, each once, or null",
            ),
        ):
            if not valid:
                raise ValueError(
                    f"data.{option} is {getattr(self, option)!r}: it must be {wanted}."
                )
        self._dropped: dict[str, int] = {}
        self._height = 1.0

    @property
    def name(self) -> str:  # type: ignore[override]
        """Short name of the data set."""
        return "synthetic_pen" if self.path is None else self.path.stem

    @property
    def source(self) -> str:
        """Where the lines come from."""
        return "a synthetic pen" if self.path is None else str(self.path)

    @property
    def fingerprint(self) -> str:
        """Identifies the split, and how its lines are prepared and encoded."""
        key = json.dumps(self.spec.to_dict(), sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()[:16]

    # Setting up -------------------------------------------------------------------------------

    def _build(self) -> tuple[HandwritingSpec, dict[str, InkPart], dict[str, Any]]:
        """Reads or writes the lines, prepares and splits them."""
        inks = self._raw_lines()
        prepared: dict[str, list[Ink]] = {}
        for part, lines in inks.items():
            # One scale for all parts, and it is that of the training part.
            scale = None if part == "train" else self._height
            prepared[part], height, dropped = prepare(lines, self.preparation, scale)
            if part == "train":
                self._height = height
            for reason, count in dropped.items():
                self._dropped[reason] = self._dropped.get(reason, 0) + count
        alphabet = list(self.alphabet or learn_alphabet(ink.text for ink in prepared["train"]))
        for part, lines in prepared.items():
            prepared[part] = self._within(alphabet, lines)
            if not prepared[part]:
                raise UserError(
                    f"{self.source}: no line is left for {part} ({self._words_on_dropped()}); give "
                    "more lines, or another split."
                )
        spec = self._specify(alphabet, prepared)
        parts = {part: InkPart(lines, spec) for part, lines in prepared.items()}
        parts["calibration"] = parts["validation"]
        return spec, parts, {"body_height": self._height, "dropped": dict(self._dropped)}

    def _raw_lines(self) -> dict[str, list[Ink]]:
        """Returns the lines of each part."""
        names = ("train", "validation", "test")
        if self.path is None:
            pools = {"train": "recognition"} if self.writers == "recognition" else {}
            least, most = self.characters
            written = {
                part: write_lines(
                    count, pools.get(part, part), self.data_seed, characters=(least, most)
                )
                for part, count in zip(names, self.lines, strict=True)
            }
            # Lines of a writer side by side, as those of a form are: their errors hang together.
            return written | {"test": sorted(written["test"], key=lambda ink: ink.form)}
        inks = read_ink(self.path)
        forms = split_forms({ink.form for ink in inks}, self.split, self.data_seed)
        if self.writers is not None:
            # Neighbours, which one writer has often written, stay together.
            train, middle = sorted(forms[0]), len(forms[0]) // 2
            half = train[:middle] if self.writers == "synthesis" else train[middle:]
            forms = (set(half), *forms[1:])
        return {
            part: sorted(
                (ink for ink in inks if ink.form in chosen), key=lambda ink: (ink.form, ink.key)
            )
            for part, chosen in zip(names, forms, strict=True)
        }

    def _within(self, alphabet: list[str], inks: list[Ink]) -> list[Ink]:
        """Returns the lines whose characters are all in the alphabet, after replacing others."""
        known, kept = set(alphabet), []
        for ink in inks:
            text = replace_unknown(ink.text, alphabet)[0] if self.replace else ink.text
            if set(text) <= known and text:
                kept.append(Ink(text, ink.points, ink.key, ink.form))
        if len(kept) < len(inks):
            reason = "characters outside the alphabet"
            self._dropped[reason] = self._dropped.get(reason, 0) + len(inks) - len(kept)
        return kept

    def _specify(self, alphabet: list[str], parts: Mapping[str, list[Ink]]) -> HandwritingSpec:
        train = parts["train"]
        steps = np.concatenate([offsets(ink.points)[1:, :2] for ink in train]).astype(np.float64)
        if not (steps.std(axis=0) > 0).all():
            raise UserError(
                f"{self.source}: the pen of the training lines moves in one direction only, which "
                "is no handwriting; check that points are [x, y]."
            )
        texts = [ink.text for ink in train]
        test = parts["test"]
        return HandwritingSpec(
            alphabet=alphabet,
            mean=[float(each) for each in steps.mean(axis=0)],
            deviation=[float(each) for each in steps.std(axis=0)],
            points_per_character=sum(len(ink.points) for ink in train) / sum(map(len, texts)),
            character_counts=list(count_characters(texts, alphabet).values()),
            preparation={
                "deskew": self.preparation.deskew,
                "smooth": self.preparation.smooth,
                "max_points": self.preparation.max_points,
                "max_characters": self.preparation.max_characters,
            },
            block_length=_neighbours([ink.form for ink in test]),
            digest=split_digest(parts),
        )

    # Use --------------------------------------------------------------------------------------

    def loader(self, part: str, shuffle: bool = False) -> DataLoader[StrokeBatch]:
        """Returns a loader of one part.

        Args:
            part: One of ``parts``.
            shuffle: Whether to draw the lines in random order (torch's global generator), in
                batches of like length.

        Raises:
            UserError: There is no such part.
        """
        self.check_part(part)
        lines = self.parts[part]
        train = part == "train"
        batches = LengthBatches(
            lines.lengths,
            self.batch_size if train else self.evaluation_batch_size,
            shuffle,
            bucketing=True,
            budget=self.batch_points if train else None,
        )
        return DataLoader(lines, batch_sampler=batches, collate_fn=_unchanged)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Returns the ids of a text's characters.

        Raises:
            UserError: If a character is not in the alphabet; names it.
        """
        return encode(text, self.spec.alphabet)

    def advice(self) -> list[str]:
        """Says which lines were left out, and which characters are too rare to be learned."""
        said = []
        if self._dropped:
            said.append(f"{self.source}: lines left out: {self._words_on_dropped()}.")
        counts = zip(self.spec.alphabet, self.spec.character_counts, strict=True)
        rare = [f"{character!r} ({count})" for character, count in counts if count < _FEW]
        if rare:
            said.append(
                f"These characters are seen fewer than {_FEW} times in training and will be "
                f"written badly: {', '.join(rare)}."
            )
        return said

    def describe(self) -> dict[str, Any]:
        """Returns the sizes of the parts, the digest and what was found in the lines."""
        spec = self.spec
        return {
            "source": self.source,
            "digest": spec.digest,
            **{
                f"{part}_lines": len(lines)
                for part, lines in self.parts.items()
                if part != "calibration"
            },
            **{
                f"{part}_points": int(lines.lengths.sum())
                for part, lines in self.parts.items()
                if part != "calibration"
            },
            "points_per_character": spec.points_per_character,
            **self._notes,
            "character_counts": dict(zip(spec.alphabet, spec.character_counts, strict=True)),
        }

    def _words_on_dropped(self) -> str:
        return "; ".join(f"{count} with {reason}" for reason, count in self._dropped.items())


def _neighbours(forms: Sequence[str]) -> int:
    """Returns with how many lines, itself included, a line of a part shares its form on average."""
    counts = np.array(list(Counter(forms).values()))
    return max(1, round(float((counts**2).sum() / counts.sum())))


def split_forms(
    forms: set[str], shares: Sequence[float], seed: int
) -> tuple[set[str], set[str], set[str]]:
    """Splits forms into training, validation and test, in an order that a hash decides.

    Each part gets at least one form.

    Raises:
        UserError: If there are fewer than three forms.
    """
    if len(forms) < 3:
        raise UserError(
            f"the lines belong to {len(forms)} form(s), and are split by form into training, "
            "validation and test: give them three or more different values of 'form'."
        )
    order = sorted(forms, key=lambda form: hashlib.sha256(f"{seed} {form}".encode()).digest())
    validation = min(max(1, round(len(order) * shares[1])), len(order) - 2)
    test = min(max(1, round(len(order) * shares[2])), len(order) - validation - 1)
    train = len(order) - validation - test
    return set(order[:train]), set(order[train : train + validation]), set(order[-test:])


def split_digest(parts: Mapping[str, Sequence[Ink]]) -> str:
    """Identifies the prepared lines of all parts: first 16 hexadecimal digits of a SHA-256."""
    digest = hashlib.sha256()
    for part, inks in parts.items():
        digest.update(part.encode())
        for ink in inks:
            digest.update(f"\0{ink.key}\0{ink.text}\0".encode())
            digest.update(np.ascontiguousarray(ink.points, "<f4").tobytes())
    return digest.hexdigest()[:16]


def _unchanged(batch: Any) -> StrokeBatch:
    return batch
