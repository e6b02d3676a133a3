"""What every model has that is fitted to the training part in one go: the baselines."""

from typing import Any

import torch
from torch import Tensor, nn


class FittedModel(nn.Module):
    """Base of the models without gradient steps.

    Numbers that were learned are buffers, so that :func:`lightning_modules.saving.save_model` and
    ``load_model`` keep a fitted model with :attr:`init_args`, and nothing is pickled.

    Args:
        spec: ``to_dict()`` of the specification of the data.

    Attributes:
        spec: That specification.
        fitted: Whether ``fit`` has run, or a fitted state was loaded: () bool.
    """

    #: Names the task, as those of the networks do.
    task: str
    #: Class of the specification.
    specification: Any
    fitted: Tensor

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = self.specification.from_dict(spec)
        self.register_buffer("fitted", torch.tensor(False))

    @classmethod
    def obstacle(cls, data: Any) -> str | None:
        """Returns why the model makes no sense for data that are set up; None where it does."""
        return None

    @property
    def init_args(self) -> dict[str, Any]:
        """Plain values with which the class is built again, so that the state dict fits."""
        return {"spec": self.spec.to_dict()}

    @property
    def parameter_count(self) -> int:
        """Numbers learned from the training part; choices such as a length do not count."""
        raise NotImplementedError

    def check_data(self, data: Any) -> None:
        """Raises a ValueError if data, set up, are others than those of the specification."""
        if data.spec.to_dict() != self.spec.to_dict():
            raise ValueError(
                f"{type(self).__name__} was built with another specification than that of the "
                "data: build it with data.spec.to_dict()"
            )

    def check_fitted(self) -> None:
        """Raises a ValueError if the model is not fitted."""
        if not self.fitted:
            raise ValueError(
                f"{type(self).__name__} is not fitted: call fit(data), or load a fitted state"
            )
