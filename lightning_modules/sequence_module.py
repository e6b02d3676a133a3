"""What all tasks share that tell something of a whole sequence: input stage, encoder and head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data_modules.split_data import SplitDataModule
from lightning_modules.head import Activation, make_head
from lightning_modules.input_stage import InputStage
from lightning_modules.optimization import OptimizedModule
from lightning_modules.sequence_encoder import Pooling, SequenceEncoder

# B batch, T steps of the longest sequence, O outputs

_SEQUENCES_A_BATCH = 256


class SequenceModule(OptimizedModule):
    """Reads a sequence into one vector, and tells something from it.

    Args:
        embedding: The input stage.
        outputs: Numbers that are told of a sequence (O).
        architecture: ``{class_path, init_args}`` of the architecture.
        bidirectional: Whether to read backwards too.
        pooling: What stands for a sequence.
        head_sizes: Units of each layer between that and the outputs.
        head_activations: What follows each of them.
        head_dropout: Probability of dropping an input of each layer of the head.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If options contradict one another, the data or the architecture.
    """

    def __init__(
        self,
        embedding: InputStage,
        outputs: int,
        architecture: dict[str, Any],
        bidirectional: bool,
        pooling: Pooling,
        head_sizes: list[int] | None,
        head_activations: list[Activation] | None,
        head_dropout: float,
        optimization: dict[str, Any] | None,
    ) -> None:
        super().__init__(optimization)
        self.embedding = embedding
        self.told = outputs
        self.encoder = SequenceEncoder(
            architecture, embedding.channels, embedding.max_length, bidirectional, pooling
        )
        self.head = make_head(
            self.encoder.channels, head_sizes, head_activations, head_dropout, outputs
        )

    # Training ---------------------------------------------------------------------------------

    def start_from(self, data: SplitDataModule) -> None:
        """Takes from the data what the input stage starts from."""
        self.embedding.start_from(data)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns those of the input stage, if they ever train, with their own learning rate."""
        own = list(self.embedding.parameters())
        others = [p for p in self.parameters() if all(p is not each for each in own)]
        groups: list[dict[str, Any]] = [{"params": others}]
        if self.embedding.ever_trains:
            rate = self.optimization.learning_rate * self.embedding.learning_rate_factor
            groups.append({"params": own, "lr": rate})
        return groups

    @property
    def trains_in_parts(self) -> bool:  # type: ignore[override]  # the base has a constant
        """Whether there are epochs in which the input stage does not train, and others."""
        return bool(self.embedding.first_trained_epoch)

    def on_train_start(self) -> None:
        """Freezes or thaws the input stage, also in the middle of an epoch."""
        super().on_train_start()
        self.embedding.start_epoch(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Freezes or thaws the input stage."""
        super().on_train_epoch_start()
        self.embedding.start_epoch(self.current_epoch)

    # From sequences to outputs ----------------------------------------------------------------

    def outputs(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Computes what the head tells.

        Args:
            inputs: (B, T, ...) of a batch; what stands after an end is never looked at.
            lengths: (B,) steps of each sequence, from 0 to T.

        Returns:
            (B, O).
        """
        outputs: Tensor = self.head(self.encoder(self.embedding(inputs), lengths))
        return outputs

    def attention_weights(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Returns the weight of each step (B, T): :meth:`SequenceEncoder.attention_weights`."""
        return self.encoder.attention_weights(self.embedding(inputs), lengths)

    @torch.no_grad()
    def outputs_of(self, sequences: Sequence[Any]) -> Tensor:
        """Computes the outputs of any number of sequences, dropping nothing.

        Args:
            sequences: The tokens of each text, or scaled values (T, C), uncut.

        Returns:
            (N, O), on the CPU.
        """
        mode = self.training
        self.eval()
        inputs = [self.embedding.tensor(each) for each in sequences]
        by_length = sorted(range(len(inputs)), key=lambda row: len(inputs[row]))
        results = []
        for start in range(0, len(inputs), _SEQUENCES_A_BATCH):
            rows = by_length[start : start + _SEQUENCES_A_BATCH]
            lengths = torch.tensor([len(inputs[row]) for row in rows], device=self.device)
            padded = pad_sequence([inputs[row] for row in rows], True).to(self.device)
            results.append(self.outputs(padded, lengths).float().cpu())
        self.train(mode)
        if not results:
            return torch.empty(0, self.told)
        return torch.cat(results)[torch.tensor(by_length).argsort()]
