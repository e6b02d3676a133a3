"""Tasks as LightningModules, and the architectures under them."""

from lightning_modules.forecaster import Forecaster

__all__ = ["Forecaster"]
