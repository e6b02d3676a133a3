"""Where labelled texts come from: a file, of which classes may be chosen, or the grammar."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from data_modules import tweet_grammar
from data_modules.errors import UserError
from data_modules.text_cache import file_digest
from data_modules.text_format import TextFormat
from data_modules.text_splitting import subsample
from data_modules.text_table import TextTable, read_texts

MAIN, HELD_OUT = "train", "held_out"
"""What the main file is for, and the file that is divided into validation and test."""


class TextSource(Protocol):
    """Labelled texts and what identifies them."""

    @property
    def key(self) -> dict[str, Any]:
        """All that the texts depend on, in plain values; not where they lie."""

    def table(self) -> TextTable:
        """Returns the texts."""


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A file of labelled texts.

    Attributes:
        path: The file.
        layout: How it is written.
        missing_labels: "error", or "drop" to leave out texts without a label.
        classes: Labels to keep, in the order of their classes, each as "label" or "label=name of
            the class", where labels may share a class; None keeps all.
        fraction: Share of each class to keep.
        seed: Decides which.
    """

    path: Path
    layout: TextFormat
    missing_labels: str
    classes: tuple[str, ...] | None = None
    fraction: float = 1.0
    seed: int = 0

    @functools.cached_property
    def key(self) -> dict[str, Any]:
        """All that the texts depend on, in plain values; not where they lie."""
        return {
            "file": file_digest(self.path),
            "layout": dataclasses.asdict(self.layout),
            "missing_labels": self.missing_labels,
            "classes": self.classes,
            "sample": [self.fraction, self.seed] if self.fraction < 1 else None,
        }

    def table(self) -> TextTable:
        """Returns the texts.

        Raises:
            UserError: The file cannot be read.
        """
        table = read_texts(self.path, self.layout, self.missing_labels)
        if file_digest(self.path) != self.key["file"]:
            raise UserError(f"{self.path} changed while it was read: start again when it is whole")
        if self.classes is not None:
            table = chosen_classes(table, self.classes)
        if not len(table.labels):
            raise UserError(
                f"{self.path} holds none of the classes {', '.join(self.classes or ())}: its "
                f"labels are {', '.join(each for each in table.left_out if each)}; correct classes"
            )
        if self.fraction < 1:
            table = table.take(subsample(table.labels, self.fraction, self.seed))
        return table


@dataclasses.dataclass(frozen=True)
class GeneratedSource:
    """Texts that a program makes.

    Attributes:
        key: All that they depend on, in plain values.
        generate: Returns the texts and the number of each one's class.
        label_names: Names of the classes.
    """

    key: dict[str, Any]
    generate: Callable[[], tuple[Sequence[str], np.ndarray]]
    label_names: tuple[str, ...]

    def table(self) -> TextTable:
        """Returns the texts."""
        texts, labels = self.generate()
        return TextTable(
            texts=pa.array(texts, pa.large_string()),
            labels=np.asarray(labels, dtype=np.int32),
            label_names=list(self.label_names),
            authors=np.zeros(len(texts), dtype=np.uint64),
            rows=np.arange(len(texts)),
        )


def generated_sources(sizes: Sequence[int], seed: int, label_noise: float) -> dict[str, TextSource]:
    """Returns the texts of the grammar, a source for each part.

    Args:
        sizes: Texts of the training, validation and test parts.
        seed: Decides which.
        label_noise: Share of them with a wrong label.
    """
    sized = dict(zip((MAIN, "validation", "test"), sizes, strict=True))
    generate = functools.cache(lambda: tweet_grammar.generate(sized, seed, label_noise))

    def source(part: str) -> TextSource:
        return GeneratedSource(
            key={
                "grammar": tweet_grammar.VERSION,
                "sizes": sized,
                "seed": seed,
                "label_noise": label_noise,
                "part": part,
            },
            generate=lambda: (generate()[part].texts, generate()[part].labels),
            label_names=("negative", "positive"),
        )

    return {part: source(part) for part in sized}


def least_error(size: int, label_noise: float) -> float:
    """Returns the share of wrong labels among so many texts of the grammar.

    It is that of each class, half of the texts, rounded to whole texts.
    """
    return sum(round(label_noise * half) for half in (size // 2, size - size // 2)) / size


def chosen_classes(table: TextTable, classes: Sequence[str]) -> TextTable:
    """Keeps the texts of some classes.

    Args:
        table: The texts.
        classes: As in :class:`FileSource`. Labels that do not occur are passed over: a part may
            lack a class. A label that is the name of a class already is that class.

    Returns:
        The texts that have one of the labels; ``label_names`` are the names of all classes.
    """
    pairs = [entry.partition("=") for entry in classes]
    names = list(dict.fromkeys(name or label for label, _, name in pairs))
    numbers = {name: number for number, name in enumerate(names)}
    numbers |= {label: numbers[name or label] for label, _, name in pairs}
    lookup = np.array([numbers.get(label, -1) for label in table.label_names], dtype=np.int32)
    counts = np.bincount(table.labels, minlength=len(lookup)).tolist()
    others = {
        label: count
        for label, count, number in zip(table.label_names, counts, lookup, strict=True)
        if number < 0
    }
    labels = lookup[table.labels]
    left_out = {**table.left_out, **others}
    table = dataclasses.replace(table, labels=labels, label_names=names, left_out=left_out)
    return table.take(np.flatnonzero(labels >= 0))


def named_files(
    path: str | None,
    held_out_path: str | None,
    validation_path: str | None,
    test_path: str | None,
    extra_tests: Mapping[str, str] | None,
) -> dict[str, Path]:
    """Returns files by what they are for: "train", "held_out", "validation", "test", "test_<name>".

    Raises:
        UserError: One of them contradicts another, or an extra test has no proper name.
    """
    options = {
        MAIN: ("path", path),
        HELD_OUT: ("held_out_path", held_out_path),
        "validation": ("validation_path", validation_path),
        "test": ("test_path", test_path),
    }
    for name, file in (extra_tests or {}).items():
        if not re.fullmatch(r"\w+", name):
            raise UserError(f"extra_tests has the name {name!r}: use letters, digits and _ only")
        options[f"test_{name}"] = ("extra_tests", file)
    given = {role: (option, file) for role, (option, file) in options.items() if file is not None}
    if given and MAIN not in given:
        raise UserError(
            f"{next(iter(given.values()))[0]} is given without path: set path to the file to train "
            "on"
        )
    if HELD_OUT in given and (validation_path is not None or test_path is not None):
        raise UserError(
            "held_out_path is divided into validation and test, so it does not go with "
            "validation_path or test_path: leave it or them out"
        )
    return {role: Path(os.path.expanduser(file or "")) for role, (_, file) in given.items()}
