"""Handwriting recognition: pen strokes in, a text out (Graves et al. 2006; Graves et al. 2009).

Shapes: B lines of a batch, T steps of the longest, F frames, which are fewer than steps, U
characters of the longest text, A characters of the alphabet, H features.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, ctc_loss
from torch.nn.utils.rnn import pad_sequence
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.functional.text import edit_distance

from data_modules.errors import UserError
from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from lightning_modules.architectures.base import check_size, check_sizes, valid_steps
from lightning_modules.bidirectional_lstm import BidirectionalLSTM
from lightning_modules.optimization import OptimizedModule, TrainingLoss
from lightning_modules.stroke_augmentation import augment

if TYPE_CHECKING:
    from data_modules.split_data import SplitDataModule

#: Points that a frame sees at each convolution.
_KERNEL = 5
#: Heights are told relative to the mean over so many characters to each side.
_NEIGHBOURHOOD = 5
#: Share of training lines that may have fewer frames than CTC needs.
_UNALIGNABLE = 0.01
#: Lines that are read at once.
_BATCH = 64


class HandwritingRecognizer(OptimizedModule):
    """Convolutions that thin out the points, a bidirectional LSTM, and CTC.

    Args:
        spec: What the model must know of the data: :meth:`HandwritingSpec.to_dict`.
        hidden_size: Hidden units of each direction of each layer.
        num_layers: Bidirectional LSTM layers.
        channels: Features of each convolution.
        strides: Of the convolutions, one after the other. Their product is how many points make a
            frame: the greater, the faster, but a text needs a frame for each character, and one
            more between two that are equal.
        dropout: Probability of dropping a feature on its way out of each LSTM layer.
        augmentation: How strongly training lines are varied at random; 0 for not at all, 1 for as
            much as hands differ.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If an option is out of its range.
    """

    task = "recognition"
    metrics = ("character_error_rate", "nats_per_character")
    specification = HandwritingSpec
    calibration = ""
    is_whole = True
    monitor = "validation_character_error_rate"
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        spec: dict[str, Any],
        hidden_size: int = 128,
        num_layers: int = 2,
        channels: int = 64,
        strides: Sequence[int] = (2, 2),
        dropout: float = 0.2,
        augmentation: float = 1.0,
        optimization: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimization)
        self.save_hyperparameters()
        self.spec = HandwritingSpec.from_dict(spec)
        check_size("model.channels", channels)
        self.strides = check_sizes("model.strides", list(strides))
        if not augmentation >= 0:
            raise ValueError(f"model.augmentation is {augmentation!r}: it must be 0 or more.")
        self.augmentation = augmentation
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, channels, _KERNEL, stride, padding=_KERNEL // 2)
            for size, stride in zip(
                [4, *[channels] * (len(self.strides) - 1)], self.strides, strict=True
            )
        )
        self.encoder = BidirectionalLSTM(channels, hidden_size, num_layers, dropout)
        self.head = nn.Linear(self.encoder.feature_size, 1 + len(self.spec.alphabet))
        # Travel with the model's device, but not with its weights: the specification has them.
        self.register_buffer("mean", torch.tensor([*self.spec.mean, 0.0]), persistent=False)
        deviation = torch.tensor([*self.spec.deviation, 1.0])
        self.register_buffer("deviation", deviation, persistent=False)
        self.error_rate, self.nats, self.unalignable = MeanMetric(), MeanMetric(), SumMetric()

    def start_from(self, data: "SplitDataModule") -> None:
        """Checks that there are frames enough for the texts.

        Raises:
            UserError: Too many training lines have fewer frames than CTC needs.
        """
        lost = total = 0
        for batch in data.loader("train"):
            frames = self._frame_counts(batch.lengths)
            lost += int((frames < frames_needed(batch.text, batch.text_lengths)).sum())
            total += len(frames)
        if lost > _UNALIGNABLE * total:
            raise UserError(
                f"model.strides: {self.strides} leave {lost} of {total} training lines with fewer "
                "frames than characters; write smaller strides, such as [2]."
            )

    # The network ------------------------------------------------------------------------------

    def forward(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Tells which character each frame writes.

        Args:
            steps: Normalised offsets (B, T, 3); what stands after a line's end means nothing.
            lengths: Steps of each line (B,), int64.

        Returns:
            Log-probabilities (F, B, 1 + A), float32, of no character and of each of the alphabet,
            and the frames of each line (B,), int64. After a line's end they mean nothing.
        """
        valid = valid_steps(lengths, steps.shape[1]).unsqueeze(1)
        x = torch.cat([steps.transpose(1, 2), self._heights(steps, valid)], dim=1)
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            # Zeros after the end are what a convolution sees where nothing is padded.
            x = convolution(x.masked_fill(~valid, 0)).relu()
            lengths = _thinned(lengths, stride)
            valid = valid_steps(lengths, x.shape[2]).unsqueeze(1)
        features = self.encoder(x.permute(2, 0, 1), lengths)
        return self.head(features).float().log_softmax(-1), lengths

    def _heights(self, steps: Tensor, valid: Tensor) -> Tensor:
        """Returns (B, 1, T): how far below its surroundings each point lies, in body heights.

        What tells "c" from "C" and "," from "'" is the sum of many steps; it is given, so that it
        need not be learned.
        """
        moves = steps[..., 1] * self.deviation[1] + self.mean[1]
        y = moves.masked_fill(~valid[:, 0], 0).cumsum(1).unsqueeze(1) * valid
        reach = max(1, round(_NEIGHBOURHOOD * self.spec.points_per_character))
        around, share = (
            avg_pool1d(each, 2 * reach + 1, stride=1, padding=reach)
            for each in (y, valid.to(y.dtype))
        )
        return y - around / share.clamp(min=1e-6)

    def _frame_counts(self, lengths: Tensor) -> Tensor:
        for stride in self.strides:
            lengths = _thinned(lengths, stride)
        return lengths

    # Training ---------------------------------------------------------------------------------

    def training_loss(self, batch: StrokeBatch) -> TrainingLoss:
        """Returns the mean nats of a character (CTC: Graves et al. 2006, equation 8)."""
        steps, lengths = batch.targets, batch.lengths
        if self.augmentation:
            plain, lengths = augment(self._denormalised(steps), lengths, self.augmentation)
            steps = self._normalised(plain)
        scores, frames = self(steps, lengths)
        nats, alignable = self._line_nats(scores, frames, batch)
        characters = (batch.text_lengths * alignable).sum()
        return TrainingLoss(nats.sum() / characters.clamp(min=1), characters)

    def validation_step(self, batch: StrokeBatch, batch_index: int) -> None:
        """Adds up what the lines of a batch cost, and the mistakes in reading them."""
        scores, frames = self(batch.targets, batch.lengths)
        nats, alignable = self._line_nats(scores, frames, batch)
        true = [
            self._text(ids[:length])
            for ids, length in zip(batch.text, batch.text_lengths.tolist(), strict=True)
        ]
        errors = torch.as_tensor(edit_distances(self._decode(scores, frames), true))
        characters = batch.text_lengths
        self.error_rate.update(errors.to(characters) / characters, characters)
        self.nats.update(nats / characters, characters * alignable)
        self.unalignable.update(~alignable)

    def on_validation_epoch_end(self) -> None:
        """Logs the character error rate, nats a character, and lines that CTC cannot align.

        The latter have too few frames and infinitely many nats, and are left out of the mean.
        """
        self.log_dict(
            {
                "validation_character_error_rate": self.error_rate.compute(),
                "validation_nats_per_character": self.nats.compute(),
                "validation_unalignable_lines": self.unalignable.compute(),
            }
        )
        for total in (self.error_rate, self.nats, self.unalignable):
            total.reset()

    def _line_nats(
        self, scores: Tensor, frames: Tensor, batch: StrokeBatch
    ) -> tuple[Tensor, Tensor]:
        """Returns the nats (B,) of each text, 0 where it has too few frames, and where not."""
        alignable = frames >= frames_needed(batch.text, batch.text_lengths)
        nats = ctc_loss(
            scores, batch.text, frames, batch.text_lengths, reduction="none", zero_infinity=True
        )
        return nats, alignable

    def calibrate(self, batches: Iterable[StrokeBatch]) -> None:
        """Does nothing: what is read is judged by its mistakes."""

    # Reading ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(self, lines: Sequence[NDArray[np.float32]]) -> list[str]:
        """Reads lines, by the most probable character of each frame (Graves et al. 2006, 3.2).

        Args:
            lines: Offsets (T, 3) of each, in units of prepared ink (not normalised): dx, dy and 1
                where the pen lifts. They lead from the first point on: of an ink's ``offsets``
                leave out the first row.

        Returns:
            The text of each.
        """
        texts = [""] * len(lines)
        order = sorted((i for i in range(len(lines)) if len(lines[i])), key=lambda i: len(lines[i]))
        training = self.training
        self.eval()
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            plain = [torch.as_tensor(lines[i], dtype=torch.float32) for i in rows]
            steps = self._normalised(pad_sequence(plain, batch_first=True).to(self.device))
            lengths = torch.tensor([len(each) for each in plain], device=self.device)
            for i, text in zip(rows, self._decode(*self(steps, lengths)), strict=True):
                texts[i] = text
        self.train(training)
        return texts

    def _decode(self, scores: Tensor, frames: Tensor) -> list[str]:
        """Returns the text of each line along its best path: neither repeats nor blanks."""
        best = scores.argmax(-1).T
        new = best != best.roll(1, dims=1)
        new[:, 0] = True
        new &= (best > 0) & valid_steps(frames, best.shape[1])
        return [self._text(ids[chosen]) for ids, chosen in zip(best, new, strict=True)]

    def _text(self, ids: Tensor) -> str:
        return "".join(self.spec.alphabet[i - 1] for i in ids.tolist())

    def _normalised(self, steps: Tensor) -> Tensor:
        return (steps - self.mean) / self.deviation

    def _denormalised(self, steps: Tensor) -> Tensor:
        return steps * self.deviation + self.mean


def frames_needed(text: Tensor, text_lengths: Tensor) -> Tensor:
    """Returns the fewest frames (B,) by which CTC can write each text.

    One for each character, and a blank between equal neighbours.

    Args:
        text: Character ids (B, U); 0 after the end of a text.
        text_lengths: Characters of each (B,).
    """
    repeats = (text[:, 1:] == text[:, :-1]) & (text[:, 1:] > 0)
    return text_lengths + repeats.sum(1)


def edit_distances(read: Sequence[str], true: Sequence[str]) -> NDArray[np.int64]:
    """Returns the Levenshtein distance (N,) of each read text from the true one.

    Raises:
        ValueError: If there are not as many of the one as of the other.
    """
    if len(read) != len(true):
        raise ValueError(f"{len(read)} texts were read, but {len(true)} are true")
    if not read:
        return np.zeros(0, np.int64)
    return edit_distance(list(read), list(true), reduction="none").numpy().astype(np.int64)


def character_error_rate(read: Sequence[str], true: Sequence[str]) -> float:
    """Returns the sum of all edit distances over the number of all true characters.

    Raises:
        ValueError: If there are not as many read as true texts, or no true character at all.
    """
    characters = sum(map(len, true))
    if not characters:
        raise ValueError("there is no true character: an error rate has no meaning")
    return float(edit_distances(read, true).sum() / characters)


def _thinned(lengths: Tensor, stride: int) -> Tensor:
    """Returns how many of so many steps a convolution with this stride keeps: rounded up."""
    return (lengths + stride - 1) // stride
