"""A panel made by known equations: daily demand at places of three kinds."""

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_modules.csv_table import CsvTable
from data_modules.typed_table import TypedTable

#: How demand varies over a week, from Monday, at each kind of place: shares of the level.
WEEKS = {
    "office": (0.25, 0.3, 0.3, 0.25, 0.1, -0.6, -0.6),
    "shop": (-0.15, -0.15, -0.1, 0.0, 0.15, 0.35, -0.1),
    "station": (0.1, 0.05, 0.05, 0.1, 0.2, -0.2, -0.3),
}
#: Shares of the level: what a promotion adds, what a degree more the day before adds, noise.
PROMOTION, DEGREE, NOISE = 0.4, 0.015, 0.08
#: Degrees by which weather varies from day to day; how much of it, and of noise, lasts to the next.
WEATHER, LASTING_WEATHER, LASTING_NOISE = 2.0, 0.8, 0.6


@dataclasses.dataclass(frozen=True)
class GeneratedPanel:
    """The panel, and what is known of it.

    Attributes:
        table: Columns unique_id, ds, y, promotion, temperature, kind.
        levels: The level of each series, by its name.
    """

    table: CsvTable
    levels: dict[str, float]

    def floor(self, horizon: int, names: Sequence[str], scales: np.ndarray) -> np.ndarray:
        """Returns the least mean squared error of each step ahead (H).

        Who knows all equations, promotions to come and all that has been still errs by the noise
        that comes, and from the second step on by the weather that comes.

        Args:
            horizon: Steps ahead (H).
            names: The series that are forecast (S).
            scales: The unit of errors in each (S).
        """
        levels = np.array([self.levels[name] for name in names])
        ahead = np.arange(horizon)
        noise = NOISE**2 * np.cumsum(LASTING_NOISE ** (2 * ahead))
        weather = (DEGREE * WEATHER) ** 2 * np.cumsum(LASTING_WEATHER ** (2 * ahead))
        shares = noise + np.concatenate([[0.0], weather[:-1]])
        return np.mean((levels / scales) ** 2) * shares


def generated_panel(series: int, steps: int, seed: int) -> GeneratedPanel:
    """Makes the daily demand at places of three kinds.

    Demand is a level of its own at each place, times one plus: the week of its kind, a yearly wave,
    a slow trend, promotions (known ahead), yesterday's weather (known when it has come), and noise
    of which a part lasts to the next day.

    Args:
        series: Number of places.
        steps: Days of each.
        seed: Of everything random.
    """
    random = np.random.default_rng(seed)
    days = pd.date_range("2023-01-02", periods=steps, freq="D")
    year = 2 * np.pi * days.day_of_year.to_numpy() / 365.25
    kinds = np.array(list(WEEKS))[random.integers(len(WEEKS), size=series)]
    level = np.exp(random.normal(5, 1, (series, 1)))
    week = np.array([np.array(WEEKS[kind])[days.day_of_week] for kind in kinds])
    wave = 0.15 * np.sin(year + random.uniform(0, 0.6, (series, 1)))
    trend = random.normal(0, 0.1, (series, 1)) * np.arange(steps) / 365.25
    promotion = (random.random((series, steps)) < 0.1).astype(np.float64)
    weather = _lasting(random.normal(0, WEATHER, (series, steps)), LASTING_WEATHER)
    temperature = 12 - 9 * np.cos(year) + weather
    before = np.concatenate([np.zeros((series, 1)), weather[:, :-1]], axis=1)
    noise = _lasting(random.normal(0, NOISE, (series, steps)), LASTING_NOISE)
    share = 1 + week + wave + trend + PROMOTION * promotion + DEGREE * before + noise
    names = [f"place {number + 1}" for number in range(series)]
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(names, steps),
            "ds": np.tile(days.to_numpy(), series),
            "y": (level * share).round(3).ravel(),
            "promotion": promotion.ravel(),
            "temperature": temperature.round(1).ravel(),
            "kind": np.repeat(kinds, steps),
        }
    )
    table = TypedTable.of(frame, "the generated panel")
    return GeneratedPanel(table, dict(zip(names, level[:, 0].tolist(), strict=True)))


def _lasting(shocks: np.ndarray, share: float) -> np.ndarray:
    """Returns series (S, T) in which a share of each value lasts to the next step."""
    values = shocks.copy()
    for step in range(1, values.shape[1]):
        values[:, step] += share * values[:, step - 1]
    return values


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the panel as a CSV file, but for its last days, of which what is known goes apart."""
    parser = argparse.ArgumentParser(
        prog="python -m data_modules.generated_panel",
        description="Writes daily demand at 40 places, as an example of a panel.",
    )
    parser.add_argument("history", help="CSV file that receives all days but the last ones.")
    parser.add_argument("future", help="CSV file that receives what is known of the last days.")
    parser.add_argument("--days", type=int, default=7, help="How many days are the last ones.")
    options = parser.parse_args(arguments)
    frame = generated_panel(40, 730, 0).table.cells
    ahead = frame.groupby("unique_id").cumcount(ascending=False) < options.days
    frame[~ahead].to_csv(options.history, index=False)
    frame.loc[ahead, ["unique_id", "ds", "promotion"]].to_csv(options.future, index=False)


if __name__ == "__main__":
    main()
