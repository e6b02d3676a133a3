"""One process of trainings that several share: ``worker.py FOLDER``, under torchrun or alone.

Trains every configuration of ``FOLDER/configs.json`` and leaves, from the main process, its weights
and metrics as ``FOLDER/<processes>/<name>.pt``.
"""

import json
import os
import sys
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

from pipelines.devices import is_main
from pipelines.experiment import build_data
from pipelines.fitting import fit


class Recorder(Callback):
    """Keeps what was logged, and which rows this process worked on."""

    def __init__(self):
        self.logged, self.rows = {}, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if hasattr(batch, "index"):  # an idle process works on a row that does not count
            self.rows += batch.index.tolist() if not hasattr(batch, "batch") else []

    def on_train_epoch_end(self, trainer, pl_module):
        self.logged |= {name: float(value) for name, value in trainer.callback_metrics.items()}


def main(folder):
    count = int(os.environ.get("WORLD_SIZE", 1))
    out = folder / str(count)
    out.mkdir(exist_ok=True)
    for name, config in json.loads((folder / "configs.json").read_text()).items():
        config["trainer"] |= {"devices": int(os.environ.get("LOCAL_WORLD_SIZE", 1))}
        config["trainer"] |= {"num_nodes": count // config["trainer"]["devices"]}
        recorder, data = Recorder(), build_data(config["data"])
        own = out / f"fit-{name}-{os.environ.get('RANK', 0)}"
        fitted = fit(config, data, own, callbacks=[recorder])
        rows = [recorder.rows]
        if count > 1:
            rows = [None] * count
            torch.distributed.all_gather_object(rows, recorder.rows)
        if is_main():
            torch.save(
                {
                    "weights": fitted.model.state_dict(),
                    "metrics": fitted.metrics,
                    "curve": fitted.curves["validation"],
                    "logged": recorder.logged,
                    "rows": sorted(row for share in rows for row in share),
                },
                out / f"{name}.pt",
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
