"""Labelled texts: tweets of Sentiment140, any file of texts and labels, or generated ones.

``python -m data_modules.tweets download --to DIR`` fetches Sentiment140 and word vectors.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules import lemmas, text_cache
from data_modules.errors import UserError
from data_modules.length_batches import LengthBatches
from data_modules.options import check_choices, check_counts
from data_modules.split_data import SplitDataModule
from data_modules.text_batches import TextPart
from data_modules.text_cache import Entry, cached
from data_modules.text_corpus import TextCorpus, vocabulary_rows
from data_modules.text_format import find_format
from data_modules.text_options import TextOptions
from data_modules.text_parts import PartOptions, build_parts, share
from data_modules.text_sources import (
    MAIN,
    FileSource,
    TextSource,
    generated_sources,
    least_error,
    named_files,
)
from data_modules.text_specification import TextBatch, TextSpec
from data_modules.text_vectors import vectors_from_file, vectors_from_texts
from data_modules.word_vectors import WordVectors, embedding_matrix

#: Counts up with every change to what the cache keeps, or how it is computed.
_VERSION = 1

_LOGGER = logging.getLogger(__name__)

_EMBEDDING_SIZE = 50
_MANY = 200_000
_SPLIT = [0.7, 0.15, 0.15]
_SIZES = [10000, 1500, 3000]
#: Share of texts that are cut from which it is worth a word.
_MANY_CUT = 0.1


class Tweets(SplitDataModule[TextSpec, TextPart]):
    """Labelled texts, divided so that no two parts share a text.

    By default tweets of a small grammar, generated on the spot. With ``path``, the tweets of
    Sentiment140 (its layout is recognised), or any csv or parquet file with a column of texts and
    one of labels. Tokens are kept in a cache that processes share.
    """

    def __init__(
        self,
        path: str | None = None,
        held_out_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        extra_tests: dict[str, str] | None = None,
        text_column: str | None = None,
        label_column: str | None = None,
        author_column: str | None = None,
        encoding: str | None = None,
        separator: str | None = None,
        classes: list[str | int] | None = None,
        missing_labels: Literal["error", "drop"] = "error",
        fraction: float = 1.0,
        split: list[float] | None = None,
        group_by_author: bool = False,
        seed: int = 0,
        vocabulary_size: int = 16000,
        min_count: int = 1,
        max_length: int = 15,
        lemmatizer: str = "lookup",
        lowercase: bool = True,
        stop_words: Literal["keep", "remove"] = "keep",
        punctuation: Literal["keep", "remove"] = "remove",
        vectors_path: str | None = None,
        vectors: Literal["learned", "random"] = "learned",
        embedding_size: int | None = None,
        batch_size: int = 120,
        evaluation_batch_size: int = 1000,
        bucketing: bool = True,
        cache_dir: str | None = None,
        sizes: list[int] | None = None,
        label_noise: float | None = None,
    ) -> None:
        """Checks and keeps the options; no file is read before ``setup``.

        Args:
            path: File of labelled texts: Sentiment140's csv, or .csv, .tsv (both also .gz) or
                .parquet with a text and a label column. By default generated tweets.
            held_out_path: File of the same layout which is divided into validation and test; all
                of path is for training, less what duplicates a text of this file (and, with
                group_by_author, less what its authors wrote).
            validation_path: File of the validation part, whole.
            test_path: File of the test part, whole.
            extra_tests: Further test files by name, as in {manual: testdata.manual.csv}: parts
                test_<name>, on which models are evaluated and nothing else.
            text_column: Column of the text; by default "text".
            label_column: Column of the label; by default "label".
            author_column: Column of the author, for group_by_author; Sentiment140's is known.
            encoding: Text encoding; by default utf-8, and latin-1 for Sentiment140.
            separator: What stands between cells; by default a comma, and a tab for .tsv.
            classes: Labels to keep, in the order of their classes; "1=positive" names the class of
                label 1, and several labels may share one. By default all labels of path.
            missing_labels: "error", or "drop" to leave out texts without a label.
            fraction: Share of path to use, the same of each class.
            split: Shares of training, validation and test, by default [0.7, 0.15, 0.15]. Of parts
                that have files of their own the shares do not count.
            group_by_author: Whether all texts of an author must lie in one part.
            seed: Decides which texts are used and where they go.
            vocabulary_size: Words in the vocabulary, the most frequent of the training part.
            min_count: How often a word must occur in the training part to be in the vocabulary.
            max_length: Tokens of a text that count.
            lemmatizer: "lookup"; "none"; or the name of an installed spaCy pipeline.
            lowercase: Whether capitals do not count.
            stop_words: "keep" or "remove"; negations are always kept.
            punctuation: "keep" or "remove"; emoticons and emoji are always kept.
            vectors_path: File of word vectors (GloVe's or word2vec's text format).
            vectors: Without such a file: "learned" from the training texts alone, or "random".
            embedding_size: Dimensions of vectors without a file, by default 50.
            batch_size: Texts in a training batch.
            evaluation_batch_size: Texts in a batch of any other part.
            bucketing: Whether the texts of a training batch are of like length.
            cache_dir: Where tokens are kept; by default $UNROLL_CACHE, or ~/.cache/unroll.
            sizes: Generated texts in training, validation and test; by default [10000, 1500, 3000].
            label_noise: Share of generated texts whose label is wrong, by default 0.05.

        Raises:
            UserError: An option is out of its range, or contradicts another.
        """
        super().__init__()
        self.files = named_files(path, held_out_path, validation_path, test_path, extra_tests)
        check_choices(
            missing_labels=(missing_labels, "error", "drop"),
            vectors=(vectors, "learned", "random"),
        )
        check_counts(
            embedding_size=embedding_size,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
        )
        if path is None and (fraction != 1 or split is not None):
            raise UserError("fraction and split are for files: set path, or use sizes")
        columns = {
            "text_column": text_column,
            "label_column": label_column,
            "author_column": author_column,
            "encoding": encoding,
            "separator": separator,
            "classes": classes,
        }
        for option, given in columns.items():
            if path is None and given is not None:
                raise UserError(f"{option} is for files: set path, or leave it out")
        if path is not None and (sizes is not None or label_noise is not None):
            raise UserError(
                "sizes and label_noise are for generated texts: leave them out, or path"
            )
        if vectors_path is not None and vectors == "random":
            raise UserError("vectors is random, and vectors_path names a file: leave one out")
        if split is not None and {"validation", "test"} <= set(self.files):
            raise UserError(
                "split does not go with validation_path and test_path, which leave nothing to "
                "divide: leave split out"
            )
        if not 0 < fraction <= 1:
            raise UserError(
                f"fraction is {fraction}: write a share above 0 and at most 1, such as 0.02"
            )
        if sizes is not None and len(sizes) != 3:
            raise UserError(
                f"sizes is {sizes}: write the texts in training, validation and test, such as "
                f"{_SIZES}"
            )
        self.path = path
        self.columns = {
            "text_column": text_column,
            "label_column": label_column,
            "author_column": author_column,
            "encoding": encoding,
            "separator": {"tab": "\t", "\\t": "\t"}.get(separator or "", separator),
        }
        self.classes = None if classes is None else tuple(map(str, classes))
        self.missing_labels = missing_labels
        self.fraction = fraction
        self.text_options = TextOptions(lowercase, lemmatizer, stop_words, punctuation)
        self.options = PartOptions(
            split=tuple(_SPLIT if split is None else split),
            group_by_author=group_by_author,
            seed=seed,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
            max_length=max_length,
        )
        self.vectors_path = vectors_path
        self.learn_vectors = vectors == "learned"
        self.embedding_size = embedding_size
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.bucketing = bucketing
        folder = text_cache.default_folder() if cache_dir is None else Path(cache_dir)
        self.cache_dir = Path(os.path.expanduser(folder))
        self.sizes = _SIZES if sizes is None else list(sizes)
        self.label_noise = 0.05 if label_noise is None else label_noise
        self._key: dict[str, Any] = {}
        self._corpora: dict[str, Callable[[], TextCorpus]] = {}
        self._found: WordVectors | None = None

    def _build(self) -> tuple[TextSpec, dict[str, TextPart], dict[str, Any]]:
        sources = self._sources()
        options = {
            "version": _VERSION,
            "options": dataclasses.asdict(self.text_options),
            "versions": lemmas.versions(self.text_options),
        }
        keys = {role: {**options, "source": source.key} for role, source in sources.items()}
        # Few who want the parts want the texts as well, so they are opened when asked for.
        self._corpora = {
            role: functools.cache(functools.partial(self._corpus, source, keys[role]))
            for role, source in sources.items()
        }

        def build() -> Entry:
            names = {role: str(self.files.get(role, "the grammar")) for role in sources}
            opened = {role: corpus() for role, corpus in self._corpora.items()}
            identities = {role: source.key for role, source in sources.items()}
            return build_parts(opened, identities, names, self.options)

        self._key = {"version": _VERSION, "texts": keys, **dataclasses.asdict(self.options)}
        entry = cached(self.cache_dir, "parts", self._key, build)
        parts = {
            part: TextPart(
                tokens=entry.arrays[f"tokens_{part}"],
                lengths=entry.arrays[f"lengths_{part}"],
                labels=entry.arrays[f"labels_{part}"],
                rows=entry.arrays[f"rows_{part}"],
                corpus=self._corpora[role],
            )
            for part, role in entry.values["homes"].items()
        }
        parts["calibration"] = parts["validation"]
        vocabulary = list(entry.values["vocabulary"])
        found = self._read_vectors(vocabulary, parts["validation"].tokens)
        dimension = self.embedding_size or _EMBEDDING_SIZE
        spec = TextSpec(
            classes=list(entry.values["classes"]),
            vocabulary=vocabulary,
            max_length=self.options.max_length,
            text_options=dataclasses.asdict(self.text_options),
            embedding_size=self._found.dimension if self._found else dimension,
            class_counts=list(entry.values["class_counts"]),
            noise_floor=[least_error(self.sizes[2], self.label_noise)] if not self.path else None,
            digest=entry.values["digest"],
        )
        return spec, parts, entry.values["notes"] | found

    def _read_vectors(self, vocabulary: list[str], tokens: np.ndarray) -> dict[str, float]:
        """Reads the vectors of the vocabulary, if there is a file of them.

        Returns:
            The share of the words, and of the tokens, that it has no vector for.
        """
        if self.vectors_path is None:
            return {}
        self._found = vectors_from_file(self.vectors_path, vocabulary, self.cache_dir)
        if self.embedding_size not in (None, self._found.dimension):
            raise UserError(
                f"embedding_size is {self.embedding_size}, and {self.vectors_path} has vectors of "
                f"{self._found.dimension} dimensions: leave embedding_size out"
            )
        unknown = ~self._found.found
        return {
            # PAD and UNKNOWN stand for no word of their own.
            "words_without_vector": share(unknown[2:]),
            "tokens_without_vector": share(unknown[tokens[tokens > 0]]),
        }

    def _sources(self) -> dict[str, TextSource]:
        """Returns where the texts of each role come from."""
        if self.path is None:
            return generated_sources(self.sizes, self.options.seed, self.label_noise)
        return {
            role: FileSource(
                path=file,
                layout=find_format(file, **self.columns),
                missing_labels=self.missing_labels,
                classes=self.classes,
                fraction=self.fraction if role == MAIN else 1.0,
                seed=self.options.seed,
            )
            for role, file in self.files.items()
        }

    def _corpus(self, source: TextSource, key: dict[str, Any]) -> TextCorpus:
        """Returns the tokens of a source's texts, from the cache if they are there."""

        def build() -> Entry:
            table = source.table()
            if len(table.labels) >= _MANY:
                _LOGGER.warning(
                    "turning %d texts into tokens takes minutes, once; they are kept in %s",
                    len(table.labels),
                    self.cache_dir,
                )
            return TextCorpus.from_table(table, self.text_options).to_entry()

        return TextCorpus.from_entry(cached(self.cache_dir, "texts", key, build))

    @property
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """The file's name without its endings, or "tweets"."""
        return "tweets" if self.path is None else Path(self.path).name.split(".")[0]

    @property
    def source(self) -> str:
        """The file, or the grammar."""
        return "a grammar of tweets" if self.path is None else str(self.path)

    @property
    def fingerprint(self) -> str:
        """Identifies the split and how it is prepared: tokens, vocabulary and word vectors."""
        key = json.dumps([self.spec.digest, self._key], sort_keys=True, default=str)
        digest = hashlib.sha256(key.encode())
        if self._found is not None:
            digest.update(np.ascontiguousarray(self._found.matrix).tobytes())
        return digest.hexdigest()[:16]

    def vectors(self) -> Tensor:
        """Returns the word vectors of the vocabulary (V, D), float32.

        Row 0 (``PAD``) is zero; words without a vector of their own have a random one, by the seed.
        """
        found = self._found
        if found is None and self.learn_vectors:
            matrix = self._learned()
            found = WordVectors(matrix, np.asarray(matrix.any(axis=1)))
        size = self.spec.embedding_size
        vectors = embedding_matrix(self.spec.vocabulary, found, size, self.options.seed)
        return torch.from_numpy(vectors)

    def _learned(self) -> np.ndarray:
        """Returns the vectors that the training texts alone give (V, D), float32."""

        def build() -> Entry:
            corpus = self._corpora[MAIN]()
            lookup = vocabulary_rows(corpus.type_names, self.spec.vocabulary)
            rows = self.parts["train"].rows
            return vectors_from_texts(corpus, rows, lookup, size, self.options.seed)

        size = (len(self.spec.vocabulary), self.spec.embedding_size)
        key = {"version": _VERSION, "parts": self._key, "dimensions": size[1]}
        return cached(self.cache_dir, "vectors", key, build).arrays["matrix"]

    def loader(self, part: str, shuffle: bool = False) -> DataLoader[TextBatch]:
        """Returns a loader of one part.

        Args:
            part: One of ``parts``.
            shuffle: Whether to draw the texts in random order (torch's global generator), in
                batches of like length if ``bucketing``.

        Raises:
            UserError: There is no such part.
        """
        self.check_part(part)
        texts = self.parts[part]
        size = self.batch_size if part == "train" else self.evaluation_batch_size
        batches = LengthBatches(texts.lengths, size, shuffle, self.bucketing)
        return DataLoader(texts, batch_sampler=batches, collate_fn=_unchanged)

    def advice(self) -> list[str]:
        """Says when many texts are cut."""
        share = float(self._notes["cut_texts"])
        if share < _MANY_CUT:
            return []
        length = self.options.max_length
        return [
            f"{100 * share:.0f}% of the texts have more than {length} tokens; networks read "
            f"the first {length}; the longest has {self._notes['longest']}: see --data.max_length"
        ]

    def describe(self) -> dict[str, Any]:
        """Returns the sizes of the parts, the digest and what was found in the data."""
        return {
            "data": type(self).__name__,
            "source": self.source,
            "texts": {name: len(part) for name, part in self.parts.items()},
            "vocabulary": len(self.spec.vocabulary),
            "max_length": self.spec.max_length,
            "digest": self.spec.digest,
            "noise_floor": self.spec.noise_floor,
            **self._notes,
        }


def _unchanged(batch: Any) -> TextBatch:
    """Collates nothing: the data set returns whole batches."""
    return batch


if __name__ == "__main__":
    from data_modules.download_command import main

    main()
