import lightning as L
import pytest
import torch
from matplotlib.image import imread

from pipelines.handwriting_task import HandwritingTask


@pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:The number of training batches .* logging interval")
@pytest.mark.parametrize("kind", ["predictor", "synthesizer"])
def test_writing_during_training_changes_nothing_but_the_folder(kind, pen, tmp_path):
    data = pen.lines(batch_size=5)
    weights = []
    for folder in (tmp_path / "traced", None):
        model = getattr(pen, kind)(data).train()
        trace = [HandwritingTask().trace(2, folder)] if folder else []
        torch.manual_seed(0)
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            callbacks=trace,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, datamodule=data)
        weights.append([each.detach().clone() for each in model.parameters()])
    drawn = sorted(file.name for file in (tmp_path / "traced").iterdir())
    assert drawn == ["step_00002.png", "step_00004.png"]
    first, last = (imread(tmp_path / "traced" / name) for name in drawn)
    assert first.shape != last.shape or (first != last).any()
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
