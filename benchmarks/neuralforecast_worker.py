"""Trains forecasters of neuralforecast on a csv, for ``benchmarks.etth``.

Run with the interpreter of an environment that has neuralforecast; nothing of Unroll is imported.
Reads a csv of scaled values, a column a series, and prints one JSON line: the mean squared error
over all windows of the last ``--test`` rows, and the seconds of training and forecasting together.
The loss is the mean squared error and the learning rate 0.001 (NLinear's own default, 0.0001, is
for 5,000 steps); everything else is as neuralforecast has it by default, but the sizes that the
benchmark fixes: window, horizon, steps, threads.
"""

import argparse
import json
import logging
import time

import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MSE
from neuralforecast.models import LSTM, NHITS, TCN, NLinear

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MODELS = {"nlinear": NLinear, "tcn": TCN, "nhits": NHITS, "lstm": LSTM}


def long_format(values: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per series and step."""
    values.columns.name = "unique_id"
    values.index = pd.date_range("2000-01-01", periods=len(values), freq="h", name="ds")
    return values.stack().rename("y").reset_index()


def main() -> None:
    """Trains one model and tells how it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("values", help=".csv of scaled values")
    parser.add_argument("--model", choices=list(MODELS), required=True)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--validation", type=int, required=True, help="Rows before those of test.")
    parser.add_argument("--test", type=int, required=True, help="Last rows of the file.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    frame = long_format(pd.read_csv(options.values))
    clock = CLOCKS[options.clock]
    start = clock()
    model = MODELS[options.model](
        h=options.horizon,
        input_size=options.window,
        max_steps=options.steps,
        loss=MSE(),
        learning_rate=0.001,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        alias="forecast",
    )
    forecasts = NeuralForecast([model], freq="h").cross_validation(
        frame, n_windows=None, val_size=options.validation, test_size=options.test, step_size=1
    )
    seconds = clock() - start
    error = (forecasts["forecast"] - forecasts["y"]).pow(2).mean()
    windows = int(forecasts["cutoff"].nunique())
    found = {"mse": float(error), "seconds": seconds, "windows": windows}
    print(json.dumps(found | {"step_windows": model.windows_batch_size}))


if __name__ == "__main__":
    main()
