"""The layers from what stands for a sequence to what is told of it."""

from typing import Literal

from torch import nn

from lightning_modules.architectures.base import check_choice, check_probability, check_size
from lightning_modules.architectures.delays import initialise_linear

Activation = Literal["relu", "tanh", "sigmoid", "gelu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}


def make_head(
    inputs: int,
    sizes: list[int] | None,
    activations: list[Activation] | None,
    dropout: float,
    outputs: int,
) -> nn.Sequential:
    """Makes the layers from pooled features to outputs; for the options see the classifier.

    Raises:
        ValueError: If an option is out of its range, or the two lists differ in length.
    """
    sizes = [check_size(f"model.head_sizes[{i}]", size) for i, size in enumerate(sizes or [])]
    names: list[str] = ["relu"] * len(sizes) if activations is None else [*activations]
    for i, name in enumerate(names):
        check_choice(f"model.head_activations[{i}]", name, list(ACTIVATIONS))
    if len(names) != len(sizes):
        raise ValueError(
            f"model.head_activations names {len(names)} activations, but model.head_sizes has "
            f"{len(sizes)} layers: write one for each."
        )
    check_probability("model.head_dropout", dropout)
    layers: list[nn.Module] = []
    for size, name in [*zip(sizes, names, strict=True), (outputs, "linear")]:
        linear = nn.Linear(inputs, size)
        initialise_linear(linear, name)
        layers += [nn.Dropout(dropout), linear, ACTIVATIONS.get(name, nn.Identity)()]
        inputs = size
    return nn.Sequential(*layers[:-1])
