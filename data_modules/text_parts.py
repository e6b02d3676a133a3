"""From the texts of one or more files to parts that share nothing, a vocabulary and matrices.

Shapes: N texts of a part, T tokens of a text that count, V words in the vocabulary, W distinct
tokens of a file, K classes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_modules.errors import UserError
from data_modules.options import check_counts
from data_modules.text_cache import Entry
from data_modules.text_corpus import (
    TextCorpus,
    joined_ids,
    most_frequent,
    padded_tokens,
    vocabulary_rows,
)
from data_modules.text_sources import HELD_OUT, MAIN
from data_modules.text_specification import PAD, UNKNOWN
from data_modules.text_splitting import connected_groups, divide, split_digest

_RESERVED = (PAD, UNKNOWN)
_ADVICE = "give more texts, raise fraction, or change split or classes"


@dataclasses.dataclass(frozen=True)
class PartOptions:
    """How texts become parts.

    Attributes:
        split: Shares of training, validation and test.
        group_by_author: Whether all texts of an author lie in one part.
        seed: Decides which texts go where.
        vocabulary_size: Words in the vocabulary, PAD and UNKNOWN among them.
        min_count: How often a word must occur in the training part.
        max_length: Tokens of a text that count.
    """

    split: tuple[float, ...]
    group_by_author: bool
    seed: int
    vocabulary_size: int
    min_count: int
    max_length: int

    def __post_init__(self) -> None:
        """Refuses values out of their ranges."""
        if len(self.split) != 3 or min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise UserError(
                f"split is {list(self.split)}: write three shares above 0 that sum to 1, such as "
                "[0.7, 0.15, 0.15]"
            )
        check_counts(least=0, seed=self.seed)
        check_counts(least=3, vocabulary_size=self.vocabulary_size)
        check_counts(min_count=self.min_count, max_length=self.max_length)


def build_parts(
    corpora: Mapping[str, TextCorpus],
    identities: Mapping[str, Any],
    names: Mapping[str, str],
    options: PartOptions,
) -> Entry:
    """Divides texts into parts and turns them into matrices.

    Args:
        corpora: Texts by what they are for: "train"; possibly "held_out", which is divided into
            validation and test; possibly "validation", "test" and "test_<name>", which are those
            parts. Parts that have no texts of their own are taken from "train".
        identities: What identifies each of them, in plain values.
        names: What to call each of them in messages.
        options: How.

    Returns:
        Arrays ``rows_<part>``, ``tokens_<part>``, ``lengths_<part>`` and ``labels_<part>``, as
        :class:`data_modules.text_batches.TextPart` has them, and what ``describe`` tells.

    Raises:
        UserError: A part would be empty, or the files do not fit one another.
    """
    classes = list(corpora[MAIN].label_names)
    if len(classes) < 2:
        raise UserError(
            f"{names[MAIN]} holds one label only, {classes[0]!r}: a classification needs two"
        )
    labels = {role: _class_numbers(role, corpora, names) for role in corpora}
    for role in (MAIN, HELD_OUT, "validation", "test") if options.group_by_author else ():
        if role in corpora and not corpora[role].authors.any():
            raise UserError(
                f"group_by_author needs authors, and {names[role]} names none: set author_column, "
                "or leave group_by_author out"
            )
    rows, left_out = _part_rows(corpora, labels, options)
    home = {part: _home(part, corpora) for part in rows}
    counts = {
        part: np.bincount(labels[home[part]][chosen], minlength=len(classes)).tolist()
        for part, chosen in rows.items()
    }
    for part, of_class in counts.items():
        if not sum(of_class):
            raise UserError(f"{names[home[part]]} leaves no text for the {part} part: {_ADVICE}")
    if 0 in counts["train"]:
        missing = classes[counts["train"].index(0)]
        raise UserError(f"the training part holds no text of class {missing!r}: {_ADVICE}")
    size = options.vocabulary_size - len(_RESERVED)
    frequent = most_frequent(corpora[MAIN], rows["train"], size, options.min_count, _RESERVED)
    vocabulary = [*_RESERVED, *frequent]
    lookup = {
        role: vocabulary_rows(corpus.type_names, vocabulary) for role, corpus in corpora.items()
    }
    arrays: dict[str, np.ndarray] = {}
    for part, chosen in rows.items():
        corpus = corpora[home[part]]
        tokens, lengths = padded_tokens(corpus, chosen, lookup[home[part]], options.max_length)
        arrays |= {
            f"rows_{part}": chosen,
            f"tokens_{part}": tokens,
            f"lengths_{part}": lengths,
            f"labels_{part}": labels[home[part]][chosen],
        }
    validation = joined_ids(corpora[home["validation"]], rows["validation"])
    unknown = lookup[home["validation"]][validation] == vocabulary.index(UNKNOWN)
    full = corpora[MAIN].lengths[rows["train"]]
    notes = {
        "classes": {part: dict(zip(classes, each, strict=True)) for part, each in counts.items()},
        "duplicates": {role: _duplicates(corpora[role], labels[role]) for role in corpora},
        "left_out": left_out,
        "left_out_by_label": {
            role: dict(corpus.left_out) for role, corpus in corpora.items() if corpus.left_out
        },
        "out_of_vocabulary": share(unknown),
        "median_length": float(np.median(full)),
        "longest": int(full.max()),
        "cut_texts": share(full > options.max_length),
        "empty_texts": {part: int((arrays[f"lengths_{part}"] == 0).sum()) for part in rows},
    }
    digest = split_digest(
        {"sources": dict(identities), "classes": classes, "homes": home},
        {part: corpora[home[part]].rows[chosen] for part, chosen in rows.items()},
    )
    return Entry(
        arrays,
        {
            "classes": classes,
            "class_counts": counts["train"],
            "vocabulary": vocabulary,
            "homes": home,
            "digest": digest,
            "notes": notes,
        },
    )


def share(chosen: np.ndarray) -> float:
    """Returns the share of true values; 0 of none."""
    return float(chosen.mean()) if len(chosen) else 0.0


def _home(part: str, corpora: Mapping[str, TextCorpus]) -> str:
    """Returns which texts a part is taken from."""
    if part in corpora:
        return part
    return HELD_OUT if HELD_OUT in corpora and part != "train" else MAIN


def _class_numbers(
    role: str, corpora: Mapping[str, TextCorpus], names: Mapping[str, str]
) -> np.ndarray:
    """Returns the number of each text's class (N,), int64, in the order of the main file."""
    classes = corpora[MAIN].label_names
    unknown = [label for label in corpora[role].label_names if label not in classes]
    if unknown:
        raise UserError(
            f"{names[role]} holds the label {unknown[0]!r}, and {names[MAIN]} does not: set "
            f"classes to those to keep, [{', '.join(classes)}]; an entry '{unknown[0]}="
            f"{classes[0]}' besides would join it to that class"
        )
    lookup = np.array([classes.index(label) for label in corpora[role].label_names], dtype=np.int64)
    return lookup[corpora[role].labels]


def _part_rows(
    corpora: Mapping[str, TextCorpus], labels: Mapping[str, np.ndarray], options: PartOptions
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, int]]]:
    """Returns the rows of each part, and how many were left out of a part, and why.

    A text that two files share belongs to the one that is for the later part: what is learned from
    and chosen on gives way to what is judged on.
    """
    split = dict(zip(("train", "validation", "test"), options.split, strict=True))
    own = [role for role in corpora if role not in (MAIN, HELD_OUT)]
    rows: dict[str, np.ndarray] = {role: np.arange(len(corpora[role])) for role in own}
    left_out = {}
    for role in (MAIN, HELD_OUT):
        parts = [part for part in split if _home(part, corpora) == role]
        if not parts:
            continue
        pool = np.arange(len(corpora[role]))
        if role == MAIN:
            pool, left_out["train"] = _without_shared(
                MAIN, pool, [other for other in corpora if other != MAIN], corpora, options
            )
        if not len(pool):
            raise UserError(
                "no text of path is left to train on: all of them, or of their authors, are in the "
                "files that judge; give another path"
            )
        groups = _groups(corpora[role], pool, options.group_by_author)
        shares = np.array([split[part] for part in parts])
        chunks = divide(groups, labels[role][pool], shares / shares.sum(), options.seed)
        rows |= {part: pool[chunk] for part, chunk in zip(parts, chunks, strict=True)}
    judging = [role for role in own if role.startswith("test")]
    home = _home("validation", corpora)
    if home != MAIN and judging:
        rows["validation"], left_out["validation"] = _without_shared(
            home, rows["validation"], judging, corpora, options
        )
    order = [*split, *sorted(set(rows) - set(split))]
    return {part: rows[part] for part in order}, left_out


def _without_shared(
    role: str,
    rows: np.ndarray,
    others: list[str],
    corpora: Mapping[str, TextCorpus],
    options: PartOptions,
) -> tuple[np.ndarray, dict[str, int]]:
    """Leaves out texts which other files hold too or, if asked for, whose authors they hold."""
    corpus = corpora[role]
    duplicate = _shared(corpus.duplicates[rows], [corpora[each].duplicates for each in others])
    author = np.zeros(len(rows), dtype=bool)
    if options.group_by_author:
        author = _shared(corpus.authors[rows], [corpora[each].authors for each in others])
    counts = {"duplicates": int(duplicate.sum()), "authors": int((author & ~duplicate).sum())}
    return rows[~(duplicate | author)], counts


def _shared(keys: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Tells which keys, 0 apart, occur among the others."""
    return (keys != 0) & np.isin(keys, np.concatenate([np.zeros(0, keys.dtype), *others]))


def _groups(corpus: TextCorpus, rows: np.ndarray, by_author: bool) -> np.ndarray:
    keys = [corpus.duplicates[rows], *([corpus.authors[rows]] if by_author else [])]
    return connected_groups(*keys)


def _duplicates(corpus: TextCorpus, labels: np.ndarray) -> dict[str, int]:
    """Counts the texts that repeat an earlier one, and the sets of equals with several labels."""
    distinct, group = np.unique(corpus.duplicates, return_inverse=True)
    classes = int(labels.max(initial=0)) + 1
    pairs = np.unique(group * classes + labels)
    conflicting = int((np.bincount(pairs // classes) > 1).sum())
    return {"texts": len(corpus) - len(distinct), "conflicting": conflicting}
