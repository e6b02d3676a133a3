"""Models that come with Unroll: trained on the synthetic pen, so that writing works at once.

``python -m pipelines.pretrain`` makes them anew; the figures of these are in
``benchmarks/README.md``.
"""

from pathlib import Path
from typing import Any

from lightning_modules.saving import load_model

FOLDER = Path(__file__).parent
PRETRAINED = ("synthesizer", "recognizer")


def load_pretrained(name: str) -> Any:
    """Loads a model that comes with Unroll, in float32, in eval mode, on the CPU.

    Args:
        name: "synthesizer" or "recognizer".
    """
    # Its weights are put into the float32 ones of a fresh model.
    return load_model(FOLDER / name)
