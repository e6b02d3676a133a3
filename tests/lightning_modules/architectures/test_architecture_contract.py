"""Every architecture through every law of the contract.

A new architecture is one row of ARCHITECTURES.
"""

import io
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import architectures
from lightning_modules.architectures import Architecture, detach_state, map_state

F = 3
TARGETS = {"target_channels": [0, 2]}
STACKS = ("ElmanRNN", "LSTM", "GRU", "LayerNormRNN", "LayerNormLSTM", "PeepholeLSTM")

ARCHITECTURES: dict[str, tuple[str, dict]] = {
    "autoregressive": ("Autoregressive", {**TARGETS, "order": 5}),
    "autoregressive_1": ("Autoregressive", {**TARGETS, "order": 1}),
    "tdnn": ("TDNN", {}),
    "tdnn_relu": (
        "TDNN",
        {"hidden_sizes": [6, 5, 4], "delays": [3, 0, 2], "activation": "relu", "dropout": 0.3},
    ),
    "tcn": ("TCN", {"channels": 6, "dilations": [1, 2, 4]}),
    "tcn_any_dilations": (
        "TCN",
        {
            "channels": 12,
            "kernel_size": 2,
            "dilations": [3, 2],
            "dropout": 0.3,
            "weight_norm": True,
        },
    ),
    "narx": ("NARX", TARGETS),
    "narx_short_inputs": (
        "NARX",
        {**TARGETS, "input_delays": 1, "output_delays": 4, "hidden_sizes": [7], "dropout": 0.3},
    ),
    "narx_short_outputs": (
        "NARX",
        {**TARGETS, "input_delays": 6, "output_delays": 2, "activation": "sigmoid"},
    ),
    "nar": ("NARX", {"target_channels": [0, 1, 2], "input_delays": 9, "output_delays": 4}),
    **{name: (name, {"hidden_size": 6}) for name in STACKS},
    **{f"{name}_1_layer": (name, {"hidden_size": 6, "num_layers": 1}) for name in STACKS},
    **{
        f"{name}_3_layers": (
            name,
            {"hidden_size": 5, "num_layers": 3, "dropout": 0.2, "batch_norm": True},
        )
        for name in STACKS
    },
    "ElmanRNN_relu": ("ElmanRNN", {"hidden_size": 6, "nonlinearity": "relu"}),
    **{f"{name}_dropout": (name, {"hidden_size": 6, "recurrent_dropout": 0.3}) for name in STACKS},
    "conv_gru": ("ConvGRU", {"channels": 4, "hidden_size": 5}),
    "conv_gru_stride_3": (
        "ConvGRU",
        {"kernel_size": 3, "stride": 3, "hidden_size": 5, "dropout": 0.2, "batch_norm": True},
    ),
    "conv_gru_stride_1": ("ConvGRU", {"kernel_size": 5, "stride": 1, "num_layers": 1}),
    "simple_wavenet": ("SimpleWaveNet", {"channels": 12}),
    "simple_wavenet_dropout": ("SimpleWaveNet", {"dilations": [1, 3], "dropout": 0.3}),
    "wavenet": ("WaveNet", {"residual_channels": 6, "skip_channels": 5}),
    "wavenet_kernel_3": (
        "WaveNet",
        {"dilations": [1, 4], "stacks": 1, "kernel_size": 3, "dropout": 0.3},
    ),
}
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def build(name: str, dtype: torch.dtype = torch.float64) -> Architecture:
    """Builds a row, in evaluation mode; no parameter or statistic is left at a neutral value."""
    class_name, arguments = ARCHITECTURES[name]
    torch.manual_seed(7)
    model = getattr(architectures, class_name)(F, **arguments).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
    return model.to(dtype)


def inputs(batch: int = 4, steps: int = 23, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(batch * 1000 + steps)
    return torch.randn(batch, steps, F, generator=generator, dtype=torch.float64).to(dtype)


def in_chunks(model: Architecture, x: Tensor, sizes: list[int]) -> tuple[Tensor, tuple]:
    state, parts = None, []
    for chunk in x.split(sizes, dim=1):
        features, state = model(chunk, state)
        parts.append(features)
    return torch.cat(parts, dim=1), state


def tensors(state: tuple) -> Iterator[Tensor]:
    for part in state:
        if isinstance(part, tuple):
            yield from tensors(part)
        else:
            yield part


def assert_same_state(actual: tuple, expected: tuple) -> None:
    pairs = list(zip(tensors(actual), tensors(expected), strict=True))
    assert pairs
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_the_table_holds_every_architecture():
    exported = {
        name
        for name in architectures.__all__
        if isinstance(getattr(architectures, name), type)
        and issubclass(getattr(architectures, name), Architecture)
    }
    assert {class_name for class_name, _ in ARCHITECTURES.values()} == exported - {"Architecture"}


@every_architecture
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 16, 23, 40])
def test_the_last_features_are_those_of_the_last_step(name, steps):
    model, x = build(name), inputs(steps=steps)
    torch.testing.assert_close(model.last_features(x), model(x)[0][:, -1:])


@every_architecture
@pytest.mark.parametrize(
    "sizes", [[1] * 23, [5, 1, 9, 8], [22, 1], [7, 0, 16], [2, 2, 19]], ids=str
)
def test_chunking(name, sizes):
    model, x = build(name), inputs()
    whole, end = model(x)
    assert whole.abs().sum() > 0
    chunked, chunked_end = in_chunks(model, x, sizes)
    torch.testing.assert_close(chunked, whole)
    assert_same_state(chunked_end, end)


@every_architecture
def test_causality(name):
    model, x = build(name), inputs()
    before, _ = model(x)
    seen = model.output_steps(x.shape[1])
    for step in range(x.shape[1]):
        changed = x.clone()
        changed[:, step] += 1
        after, _ = model(changed)
        torch.testing.assert_close(after[:, seen < step], before[:, seen < step])
        if (seen >= step).any():
            assert not torch.allclose(after, before), "the input is not used at all"


@every_architecture
def test_alignment(name):
    model, x = build(name), inputs()
    features, _ = model(x)
    seen = model.output_steps(x.shape[1])
    assert seen.dtype == torch.long
    assert features.shape == (len(x), len(seen), model.feature_size)
    assert (seen.diff() == model.stride).all()
    for number, step in enumerate(seen.tolist()):
        changed = x.clone()
        changed[:, step] += 1
        assert not torch.allclose(model(changed)[0][:, number], features[:, number])


@every_architecture
def test_alignment_of_a_carried_state(name):
    model, x = build(name), inputs()
    whole = model.output_steps(x.shape[1])
    for first in (0, 1, 2, 3, 4, 9):
        _, state = model(x[:, :first])
        features, _ = model(x[:, first:], state)
        seen = model.output_steps(x.shape[1] - first, state)
        assert features.shape[1] == len(seen)
        torch.testing.assert_close(seen + first, whole[whole >= first])


@every_architecture
def test_padding(name):
    model, x = build(name), inputs(batch=6)
    lengths = torch.tensor([23, 1, 0, 12, 7, 15])
    padded = x.clone()
    for sequence, length in zip(padded, lengths, strict=True):
        sequence[length:] = torch.nan
    features, state = model(padded, lengths=lengths)
    assert features.shape[1] == len(model.output_steps(23))
    for number, length in enumerate(lengths.tolist()):
        one = slice(number, number + 1)
        alone, _ = model(x[one, :length])
        torch.testing.assert_close(features[one, : alone.shape[1]], alone)
        assert (features[one, alone.shape[1] :] == 0).all()
        # The state is the one at the true end: going on from it continues the sequence.
        more = inputs(batch=1, steps=9)
        state_of_one = map_state(lambda part, one=one: part[one], state)
        continued, _ = model(more, state_of_one)
        whole, _ = model(torch.cat([x[one, :length], more], dim=1))
        torch.testing.assert_close(torch.cat([alone, continued], dim=1), whole)


@every_architecture
def test_padding_of_a_carried_state(name):
    model, x = build(name), inputs(batch=3)
    first, lengths = torch.tensor([5, 11, 8]), torch.tensor([6, 12, 0])
    if model.stride == 2:
        first = torch.tensor([5, 11, 7])
    _, state = model(x[:, :11], lengths=first)
    following = torch.stack([row[start : start + 12] for row, start in zip(x, first, strict=True)])
    features, end = model(following, state, lengths)
    for number, (start, length) in enumerate(zip(first.tolist(), lengths.tolist(), strict=True)):
        one = slice(number, number + 1)
        head, state_of_one = model(x[one, :start])
        tail, end_of_one = model(x[one, start : start + length], state_of_one)
        torch.testing.assert_close(features[one, : tail.shape[1]], tail)
        assert (features[one, tail.shape[1] :] == 0).all()
        assert_same_state(map_state(lambda part, one=one: part[one], end), end_of_one)


@every_architecture
def test_full_lengths_change_nothing(name):
    model, x = build(name), inputs()
    features, state = model(x)
    with_lengths, state_with_lengths = model(x, lengths=torch.full((4,), 23, dtype=torch.int32))
    torch.testing.assert_close(with_lengths, features)
    assert_same_state(state_with_lengths, state)


@every_architecture
def test_padding_does_not_reach_gradients(name):
    model, lengths = build(name).train(), torch.tensor([23, 9, 15, 18])
    x = inputs()
    x[torch.arange(23) >= lengths.unsqueeze(1)] = torch.nan
    x.requires_grad_()
    model(x, lengths=lengths)[0].pow(2).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert x.grad.isfinite().all()


@every_architecture
def test_receptive_field(name):
    model = build(name)
    steps = 23 if model.receptive_field is None else 2 * model.receptive_field + 5
    x = inputs(batch=8, steps=steps)
    last = model(x)[0][:, -1]

    def changes(step: int) -> bool:
        changed = x.clone()
        changed[:, step] += 1
        return not torch.equal(model(changed)[0][:, -1], last)

    if model.receptive_field is None:
        assert changes(0)
    else:
        assert changes(steps - model.receptive_field)
        assert not any(changes(step) for step in range(steps - model.receptive_field))


@every_architecture
@pytest.mark.parametrize("training", [False, True])
def test_gradients_reach_every_parameter(name, training):
    model = build(name).train(training)
    torch.manual_seed(0)
    x = inputs().requires_grad_()
    model(x)[0].pow(2).sum().backward()
    assert x.grad.abs().sum() > 0
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@every_architecture
def test_gradients_are_those_of_finite_differences(name):
    model, x = build(name), inputs(batch=2, steps=11).requires_grad_()
    weights = torch.randn(model(x)[0].shape, generator=torch.Generator().manual_seed(1)).double()

    def loss() -> Tensor:
        """Depends on the features and on the final state."""
        features, state = model(x)
        ends = [part.pow(2).sum() for part in tensors(state) if part.is_floating_point()]
        return (features * weights).sum() + torch.stack(ends).sum()

    loss().backward()
    for parameter_name, parameter in [("x", x), *model.named_parameters()]:
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter += 1e-6 * direction
            above = loss()
            parameter -= 2e-6 * direction
            below = loss()
            parameter += 1e-6 * direction
        slope = (above - below) / 2e-6
        expected = (parameter.grad * direction).sum()
        torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-6, msg=parameter_name)


@every_architecture
def test_gradients_run_back_through_the_state(name):
    model, x = build(name), inputs()
    x.requires_grad_()
    features, _ = in_chunks(model, x, [9, 14])
    (chunked,) = torch.autograd.grad(features.pow(2).sum(), x)
    (whole,) = torch.autograd.grad(model(x)[0].pow(2).sum(), x)
    torch.testing.assert_close(chunked, whole)


@every_architecture
def test_a_detached_state_stops_gradients(name):
    model, x = build(name), inputs()
    x.requires_grad_()
    _, state = model(x[:, :9])
    features, _ = model(x[:, 9:], detach_state(state))
    (gradient,) = torch.autograd.grad(features.pow(2).sum(), x)
    assert (gradient[:, :9] == 0).all()
    assert gradient[:, 9:].abs().sum() > 0


@every_architecture
def test_one_optimisation_step_lowers_the_loss(name):
    model, x = build(name), inputs(batch=16)
    head = nn.Linear(model.feature_size, 1).double()
    target = x[:, model.output_steps(23), :1].roll(-1, dims=1)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=1e-4)

    def loss() -> Tensor:
        return nn.functional.mse_loss(head(model(x)[0]), target)

    before = loss()
    before.backward()
    optimizer.step()
    assert loss() < before


@every_architecture
def test_reload(name):
    model, x = build(name), inputs()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    class_name, arguments = ARCHITECTURES[name]
    torch.manual_seed(1234)
    other = getattr(architectures, class_name)(F, **arguments).double().eval()
    if model.state_dict():
        assert not torch.equal(other(x)[0], model(x)[0])
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x)[0], model(x)[0])


@every_architecture
def test_no_state_equals_zeros(name):
    model, x = build(name), inputs()
    features, state = model(x)
    zeros = map_state(torch.zeros_like, state)
    from_zeros, end = model(x, zeros)
    torch.testing.assert_close(from_zeros, features)
    assert_same_state(end, state)
    assert_same_state(map_state(torch.zeros_like, model.initial_state(x)), zeros)


@every_architecture
def test_single_and_double_precision_agree(name):
    double, _ = build(name)(inputs())
    single, state = build(name, torch.float32)(inputs(dtype=torch.float32))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)
    assert all(part.dtype == torch.float32 for part in tensors(state) if part.is_floating_point())


@every_architecture
def test_bfloat16_autocast_runs_and_agrees(name):
    model, x = build(name, torch.float32), inputs(dtype=torch.float32).requires_grad_()
    expected, _ = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        features, state = model(x)
        model(x, state)
    torch.testing.assert_close(features.float(), expected, rtol=0.2, atol=0.3)
    features.float().pow(2).sum().backward()


@every_architecture
def test_inputs_are_left_as_they_were(name):
    model, x = build(name), inputs()
    _, state = model(x)
    copies = x.clone(), map_state(Tensor.clone, state)
    model(x, state, torch.tensor([20, 20, 20, 20]))
    assert torch.equal(x, copies[0])
    assert_same_state(state, copies[1])


@every_architecture
def test_wrong_arguments_are_explained(name):
    model, x = build(name), inputs()
    _, state = model(x)
    with pytest.raises(ValueError, match=r"shape \(batch, steps, 3\), got \(4, 23, 2\)"):
        model(x[:, :, :2])
    with pytest.raises(ValueError, match=r"shape \(batch, steps, 3\)"):
        model(x[0])
    with pytest.raises(ValueError, match="belongs to 4 sequences but x holds 2"):
        model(x[:2], state)
    with pytest.raises(ValueError, match="lengths must lie between 0 and the 23 steps"):
        model(x, lengths=torch.tensor([1, 2, 3, 24]))
    with pytest.raises(ValueError, match="one whole number for each of the 4"):
        model(x, lengths=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="one whole number for each of the 4"):
        model(x, lengths=torch.ones(4))
