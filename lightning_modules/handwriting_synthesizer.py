"""Handwriting synthesis: a text in, pen strokes out (Graves 2013, section 5)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from data_modules.errors import UserError
from data_modules.handwriting.alphabet import encode
from data_modules.handwriting.ink import Ink
from data_modules.handwriting.specification import StrokeBatch
from lightning_modules.handwriting_model import HandwritingModel
from lightning_modules.handwriting_network import HandwritingNetwork
from lightning_modules.handwriting_sampling import Sample, write_lines
from lightning_modules.mixture_density import MixtureDensity
from lightning_modules.weight_noise import AdaptiveWeightNoise, make_weight_noise


class HandwritingSynthesizer(HandwritingModel):
    """Foresees a pen that writes a known text, and so can write.

    Args:
        spec: What the model must know of the data: :meth:`HandwritingSpec.to_dict`.
        hidden_size: Hidden units of each of the three LSTM layers.
        window_components: Gaussians of the window on the text.
        mixture_components: Gaussians of the next point's distribution.
        dropout: Probability of dropping a hidden unit on its way to the next layer and out.
        weight_noise: Standard deviation of the noise on all weights while training (0.075 in
            the paper); see :mod:`lightning_modules.weight_noise`.
        adaptive_weight_noise: Learn the deviation of each weight's noise, from ``weight_noise`` on.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If an option is out of its range.
    """

    is_whole = True

    def __init__(
        self,
        spec: dict[str, Any],
        hidden_size: int = 400,
        window_components: int = 10,
        mixture_components: int = 20,
        dropout: float = 0.0,
        weight_noise: float = 0.0,
        adaptive_weight_noise: bool = False,
        optimization: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(spec, optimization)
        self.save_hyperparameters()
        self.network = HandwritingNetwork(
            alphabet_size=len(self.spec.alphabet),
            hidden_size=hidden_size,
            window_components=window_components,
            pace=1 / self.spec.points_per_character,
            dropout=dropout,
        )
        self.head = MixtureDensity(self.network.feature_size, mixture_components)
        self.noise = make_weight_noise(self, weight_noise, adaptive_weight_noise)

    def features(self, batch: StrokeBatch) -> Tensor:
        """Returns the features (B, T, 3 H) of each step."""
        features: Tensor = self.network(batch.inputs.transpose(0, 1), batch.text)[0]
        return features.transpose(0, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Reads weights; in those saved before there was a start, it has no noise to learn either.

        See :class:`HandwritingNetwork`, whose first weight the start is.
        """
        noise = f"{prefix}noise.log_deviation"
        if f"{prefix}network.start" not in state_dict and isinstance(
            self.noise, AdaptiveWeightNoise
        ):
            fresh = self.noise.log_deviation.detach()[: self.network.start.numel()]
            saved = state_dict.get(noise, fresh[:0])
            state_dict[noise] = torch.cat([fresh.to(saved), saved])
        super()._load_from_state_dict(state_dict, prefix, *others)

    @torch.inference_mode()
    def write(
        self,
        texts: Sequence[str],
        legibility: float = 0.5,
        seeds: Sequence[int] | None = None,
        style: Ink | None = None,
    ) -> list[Sample]:
        """Writes lines of text; see :func:`lightning_modules.handwriting_sampling.write_lines`.

        Args:
            texts: One line each, of known characters; at least one character.
            legibility: Graves' probability bias, 0 or more.
            seeds: Of each line; None for 0, 1, ...
            style: A prepared line in whose style to go on, with its text.

        Raises:
            UserError: If a character is unknown, a text empty, or the legibility below 0.
        """
        if not legibility >= 0:
            raise UserError(f"legibility is {legibility}: write 0 or more, such as 0.5.")
        if not all(texts):
            raise UserError("there is an empty text: give each line one character or more.")
        primed = None
        if style is not None:
            primed = (encode(f"{style.text} ", self.spec.alphabet).tolist(), style)
        mode = self.training
        self.eval()
        written = write_lines(
            self.network,
            self.head,
            self.spec,
            [encode(text, self.spec.alphabet).tolist() for text in texts],
            legibility,
            list(range(len(texts))) if seeds is None else seeds,
            primed,
        )
        self.train(mode)
        return [
            Sample(text, *line, continues=style is not None)
            for text, line in zip(texts, written, strict=True)
        ]
