"""What every data set has in common: named parts, a specification, a digest and loaders."""

from abc import ABC, abstractmethod
from collections.abc import Sized
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import lightning as L
import torch
from torch.utils.data import DataLoader

from data_modules.errors import UserError
from data_modules.resumable import EpochProgress, ResumableBatches
from data_modules.sharing import EvaluationShare, TrainingShare, world


class Specification(Protocol):
    """What a model must know of the data, in plain values; it travels with the model.

    Attributes:
        digest: Identifies the split data: first 16 hexadecimal digits of a SHA-256.
        block_length: Neighbouring test items whose errors hang together; 1 if independent.
        noise_floor: Least achievable error of each step forecast; None where it is not known.
    """

    @property
    def digest(self) -> str:
        """Identifies the split data."""

    @property
    def block_length(self) -> int:
        """Neighbouring test items whose errors hang together."""

    @property
    def noise_floor(self) -> list[float] | None:
        """Least achievable error."""

    @property
    def units(self) -> str:
        """The units of errors as words after a noun, such as " in scaled units"; may be empty."""

    @property
    def question(self) -> str:
        """What a model is asked, as the end of a sentence: "forecast 10 steps of y ..."."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as nested plain values."""


S = TypeVar("S", bound=Specification)
P = TypeVar("P", bound=Sized)


class SplitDataModule(L.LightningDataModule, ABC, Generic[S, P]):
    """Base of all data modules; of which specification and parts, a subclass says.

    ``setup`` fills ``parts``: "train"; "validation", which stops the training and chooses;
    "calibration", on which a trained model is calibrated; "test"; and possibly further test parts,
    whose names begin with "test_".
    """

    #: Whether training batches continue one another, so that state is carried between them.
    stateful: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._spec: S | None = None
        self._parts: dict[str, P] = {}
        self._notes: dict[str, Any] = {}

    @abstractmethod
    def _build(self) -> tuple[S, dict[str, P], dict[str, Any]]:
        """Returns the specification, the parts, and what else ``describe`` should tell.

        A pure function of the constructor's arguments (and of the file that they name).
        """

    def setup(self, stage: str | None = None) -> None:
        """Builds the parts, once.

        Args:
            stage: Lightning's stage; every stage needs the same parts.

        Raises:
            UserError: The data cannot be used as asked.
        """
        if self._spec is None:
            spec, parts, notes = self._build()
            self._check(parts)
            self._spec, self._parts, self._notes = spec, parts, notes

    def _check(self, parts: dict[str, P]) -> None:
        """Refuses parts that cannot be used as asked; whatever kind of data it is.

        Raises:
            UserError: What to write instead.
        """

    @property
    @abstractmethod
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """Short name of the data set."""

    @property
    def title(self) -> str:
        """What a report is called that has no other title: the file, if the data are of one."""
        path = getattr(self, "path", None)
        return self.name if path is None else Path(path).name

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the data come from: a file, a grammar or an equation."""

    @property
    def spec(self) -> S:
        """The specification of the data; available after ``setup``."""
        if self._spec is None:
            raise RuntimeError("call setup() before asking for the specification")
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Identifies all that a model learns from: the split, and how it is prepared."""
        return str(self.spec.digest)

    @property
    def parts(self) -> dict[str, P]:
        """The items of each part; available after ``setup``."""
        if self._spec is None:
            raise RuntimeError("call setup() before asking for the parts")
        return self._parts

    @abstractmethod
    def loader(self, part: str, shuffle: bool = False) -> DataLoader[Any]:
        """Returns a loader of one part.

        Args:
            part: One of ``parts``.
            shuffle: Whether to draw the items in random order (torch's global generator).

        Raises:
            UserError: There is no such part.
        """

    def advice(self) -> list[str]:
        """Returns what the user should know of the data before a training; often nothing."""
        return []

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns the sizes of the parts, the digest and what was found in the data."""

    def check_part(self, part: str) -> None:
        """Refuses the name of a part that does not exist."""
        if part not in self.parts:
            raise UserError(f"there is no part {part!r}: write one of {', '.join(self.parts)}")

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the training items, shuffled unless training is stateful.

        Where several processes train together, each gets its share of every batch.
        """
        loader = self.loader("train", shuffle=True)
        items = TrainingShare(loader.dataset) if world()[1] > 1 else loader.dataset
        batches = ResumableBatches(loader.batch_sampler, self.progress)
        return DataLoader(items, batch_sampler=batches, collate_fn=loader.collate_fn)

    @cached_property
    def progress(self) -> EpochProgress:
        """How far the training is in its epoch."""
        return EpochProgress()

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of the data: how far in its epoch a training is."""
        return self.progress.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.progress.load_state_dict(state_dict)

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns the validation items, or this process's share of them.

        Raises:
            UserError: Some process would have none.
        """
        loader = self.loader("validation")
        if world()[1] == 1:
            return loader
        batches = EvaluationShare(loader.batch_sampler)
        return DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn)

    def test_dataloader(self) -> DataLoader[Any]:
        """Returns the items of the test part; further test parts come from ``loader``."""
        return self.loader("test")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Moves a batch; for the CPU it is there already, and finding that out costs 0.1 ms."""
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
