"""Sequences that show what a model does badly, one below the other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipelines.drawing import COLOURS

if TYPE_CHECKING:
    from data_modules.sequences import Sequences

#: Channels of a sequence that are drawn.
SHOWN_CHANNELS = 4


@dataclass(frozen=True)
class Gallery:
    """Some test sequences.

    Attributes:
        values: (T, C) of each, in original units.
        titles: One for each.
        channels: Names of the C channels.
    """

    values: list[NDArray[np.float64]]
    titles: list[str]
    channels: list[str]

    @classmethod
    def of(cls, data: "Sequences", rows: NDArray[np.integer], titles: list[str]) -> Self:
        """Takes sequences of the test part by their rows."""
        spec = data.spec
        values = [
            each.double().numpy() * spec.scale + spec.location
            for each in data.parts["test"].sequences(rows)
        ]
        return cls(values, titles, list(spec.channels))


def gallery_figure(gallery: Gallery, title: str) -> Figure:
    """Draws the sequences, two in a row."""
    count = len(gallery.titles)
    figure = Figure(figsize=(9.5, 0.9 + 1.7 * ((count + 1) // 2)), layout="constrained")
    grid = figure.subplots((count + 1) // 2, 2, squeeze=False, sharey=True).flat
    for axes, values, heading in zip(grid, gallery.values, gallery.titles, strict=False):
        for k, name in enumerate(gallery.channels[:SHOWN_CHANNELS]):
            axes.plot(
                np.arange(1, len(values) + 1),
                values[:, k],
                color=COLOURS[k],
                linewidth=1.2,
                marker="o" if len(values) < 3 else None,
                label=name,
            )
        axes.set_title(heading, fontsize=9, fontweight="normal", pad=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.tick_params(labelsize=8)
    for axes in list(grid)[count:]:
        axes.set_visible(False)
    left_out = len(gallery.channels) - SHOWN_CHANNELS
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=SHOWN_CHANNELS,
        frameon=False,
        fontsize=9,
        title=f"and {left_out} more channels" if left_out > 0 else None,
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure
