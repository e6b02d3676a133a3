"""What the baselines have in common whose answers come with split-conformal intervals."""

from collections.abc import Callable
from typing import Any

from lightning_modules.fitted_model import FittedModel


class ConformalBaseline(FittedModel):
    """Base of the baselines with intervals.

    What intervals are made of depends on the task: a subclass is also of their class, such as
    ``ConformalIntervals``.

    Args:
        spec: ``to_dict()`` of the specification of the data.
        coverage: Nominal coverage of the intervals.

    Raises:
        ValueError: The nominal coverage is no share.
    """

    #: Makes room for the margins; of the intervals' class.
    add_conformal_margin: Callable[[], None]

    def __init__(self, spec: dict[str, Any], coverage: float = 0.9) -> None:
        super().__init__(spec)
        self.coverage = coverage
        self.add_conformal_margin()

    @property
    def init_args(self) -> dict[str, Any]:
        """Plain values with which the class is built anew; the rest is in the state dict."""
        return super().init_args | {"coverage": self.coverage}
