"""What a model of the pen that knows no text makes when left to itself (Graves 2013, figure 11)."""

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.handwriting.ink import from_offsets
from data_modules.handwriting.parts import denormalise
from lightning_modules.handwriting_baselines import HandwritingBaseline
from lightning_modules.handwriting_predictor import HandwritingPredictor


@torch.no_grad()
def scribble(
    model: HandwritingPredictor | HandwritingBaseline, points: int = 400, seed: int = 0
) -> NDArray[np.float32]:
    """Lets a pen go on from where the model has put it, point by point.

    Args:
        model: Fitted.
        points: How many.
        seed: Decides everything that chance decides.

    Returns:
        Points (points + 1, 3) in body heights: the first is where the pen was put down. Fewer if
        the model runs away from its own points without bound.
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    last = start = torch.zeros(1, 3, device=next(iter(model.state_dict().values())).device)
    state, drawn = None, []
    for _ in range(points):
        if isinstance(model, HandwritingBaseline):
            mixture = model.next_point(last)
        else:
            features, state = model.network(last.unsqueeze(1), state)
            mixture = model.head(features[:, 0])
        chance = torch.cat(
            [torch.rand(1, 2, generator=generator), torch.randn(1, 2, generator=generator)], dim=1
        )
        last = mixture.sample(chance.to(last.device))
        drawn.append(last)
    steps = denormalise(torch.cat(drawn).cpu().numpy(), model.spec)
    # A badly trained model may run away from its own points, further than numbers go.
    broken = ~np.isfinite(np.cumsum(steps, axis=0)).all(axis=1)
    steps = steps[: broken.argmax()] if broken.any() else steps
    steps[-1:, 2] = 1
    return from_offsets(np.concatenate([start.cpu().numpy(), steps]))
