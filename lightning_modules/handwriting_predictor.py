"""Handwriting prediction: any architecture foresees the pen, without a text (Graves 2013, 4)."""

from typing import Any

from torch import Tensor

from data_modules.handwriting.specification import StrokeBatch
from lightning_modules.building import build_architecture
from lightning_modules.handwriting_model import HandwritingModel
from lightning_modules.mixture_density import MixtureDensity
from lightning_modules.weight_noise import make_weight_noise


class HandwritingPredictor(HandwritingModel):
    """Foresees where a pen goes next from where it has been.

    Args:
        spec: What the model must know of the data: :meth:`HandwritingSpec.to_dict`.
        architecture: ``{class_path, init_args}`` of the architecture. Those that feed on observed
            targets get dx, dy and the lift as such.
        mixture_components: Gaussians of the next point's distribution.
        weight_noise: Standard deviation of the noise on all weights while training (0.075 in
            the paper); see :mod:`lightning_modules.weight_noise`.
        adaptive_weight_noise: Learn the deviation of each weight's noise, from ``weight_noise`` on.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If options contradict one another, or the architecture strides.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        architecture: dict[str, Any],
        mixture_components: int = 20,
        weight_noise: float = 0.0,
        adaptive_weight_noise: bool = False,
        optimization: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(spec, optimization)
        self.save_hyperparameters()
        self.network = build_architecture(architecture, input_size=3, target_channels=[0, 1, 2])
        if self.network.stride > 1:
            raise ValueError(
                f"{type(self.network).__name__} returns a feature every {self.network.stride} "
                "steps, but every point of a stroke is foreseen; choose another architecture, or "
                "stride 1."
            )
        self.head = MixtureDensity(self.network.feature_size, mixture_components)
        self.noise = make_weight_noise(self, weight_noise, adaptive_weight_noise)

    def features(self, batch: StrokeBatch) -> Tensor:
        """Returns the features (B, T, H) of each step."""
        lengths = batch.lengths if self.training and self.network.normalises else None
        features: Tensor = self.network(batch.inputs, lengths=lengths)[0]
        return features
