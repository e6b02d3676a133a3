"""Architectures against independent references: native layers, convolutions, least squares."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_modules.architectures import (
    GRU,
    LSTM,
    Autoregressive,
    ElmanRNN,
    PeepholeLSTM,
    SimpleWaveNet,
    WaveNet,
)


def inputs(steps: int = 17, channels: int = 3) -> Tensor:
    return torch.randn(
        5, steps, channels, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


@pytest.mark.parametrize(
    ("ours", "native", "options"),
    [
        (ElmanRNN, nn.RNN, {}),
        (ElmanRNN, nn.RNN, {"nonlinearity": "relu"}),
        (LSTM, nn.LSTM, {}),
        (GRU, nn.GRU, {}),
    ],
)
def test_native(ours, native, options):
    model = ours(3, hidden_size=6, num_layers=2, **options).double()
    reference = native(3, 6, 2, batch_first=True, **options).double()
    for number, layer in enumerate(model.layers):
        for name, parameter in layer.recurrence.named_parameters():
            parameter.data = getattr(reference, name.replace("l0", f"l{number}")).data.clone()
    ours_x, reference_x = inputs().requires_grad_(), inputs().requires_grad_()
    features, state = model(ours_x)
    expected, expected_state = reference(reference_x)
    torch.testing.assert_close(features, expected)
    if not isinstance(expected_state, tuple):
        expected_state = (expected_state,)
    for number, layer_state in enumerate(state):
        for part, expected_part in zip(layer_state, expected_state, strict=True):
            torch.testing.assert_close(part, expected_part[number])
    features.pow(2).sum().backward()
    expected.pow(2).sum().backward()
    torch.testing.assert_close(ours_x.grad, reference_x.grad)
    for number, layer in enumerate(model.layers):
        for name, parameter in layer.recurrence.named_parameters():
            other = getattr(reference, name.replace("l0", f"l{number}"))
            torch.testing.assert_close(parameter.grad, other.grad)


def copy_lstm_into_peephole(reference: nn.LSTM, model: PeepholeLSTM) -> None:
    for number, layer in enumerate(model.layers):
        layer.weight_input.data = getattr(reference, f"weight_ih_l{number}").data.clone()
        layer.weight_recurrent.data = getattr(reference, f"weight_hh_l{number}").data.clone()
        biases = [getattr(reference, f"bias_{kind}_l{number}").data for kind in ("ih", "hh")]
        layer.bias.data = biases[0] + biases[1]


def test_peephole_lstm_without_peepholes_is_the_lstm():
    model = PeepholeLSTM(3, hidden_size=6, num_layers=2).double()
    reference = nn.LSTM(3, 6, 2, batch_first=True).double()
    copy_lstm_into_peephole(reference, model)
    features, state = model(inputs())
    expected, (hidden, cell) = reference(inputs())
    torch.testing.assert_close(features, expected)
    for number, (h, c) in enumerate(state):
        torch.testing.assert_close((h, c), (hidden[number], cell[number]))
    features.pow(2).sum().backward()
    expected.pow(2).sum().backward()
    torch.testing.assert_close(model.layers[0].weight_input.grad, reference.weight_ih_l0.grad)
    torch.testing.assert_close(model.layers[1].weight_recurrent.grad, reference.weight_hh_l1.grad)
    torch.testing.assert_close(model.layers[0].bias.grad, reference.bias_hh_l0.grad)
    with torch.no_grad():
        model.layers[0].peepholes += 0.5
    assert not torch.allclose(model(inputs())[0], expected)


def test_autoregressive_with_least_squares_reads_off_the_coefficients():
    generator = np.random.default_rng(0)
    coefficients, steps = np.array([0.6, -0.5, 0.2]), 4000
    series = np.zeros(steps)
    for t in range(3, steps):
        series[t] = coefficients @ series[t - 3 : t][::-1] + generator.normal(scale=0.1)
    features, _ = Autoregressive(1, [0], order=3)(torch.from_numpy(series).view(1, -1, 1))
    fitted = torch.linalg.lstsq(features[0, 3:-1], torch.from_numpy(series[4:, None])).solution
    lags = np.column_stack([series[3 - k : -1 - k] for k in range(3)])
    expected = np.linalg.lstsq(lags, series[4:], rcond=None)[0]
    np.testing.assert_allclose(fitted[:, 0].numpy(), expected, rtol=1e-8)
    np.testing.assert_allclose(expected, coefficients, atol=0.05)


def as_conv1d(layer: nn.Module) -> nn.Conv1d:
    """The same causal convolution on `nn.Conv1d`, whose taps run from the oldest to the newest."""
    outputs = layer.linear.out_features
    convolution = nn.Conv1d(layer.input_size, outputs, layer.kernel_size, dilation=layer.dilation)
    taps = layer.linear.weight.data.view(outputs, layer.kernel_size, layer.input_size)
    convolution.weight.data = taps.flip(1).transpose(1, 2).contiguous()
    convolution.bias.data = layer.linear.bias.data
    return convolution


def convolve(layer: nn.Module, x: Tensor) -> Tensor:
    return as_conv1d(layer)(nn.functional.pad(x, (layer.span, 0)))


def test_simple_wavenet_is_a_stack_of_convolutions():
    model = SimpleWaveNet(3, channels=7).double()
    x = inputs(40).transpose(1, 2)
    for layer in model.layers:
        x = torch.relu(convolve(layer, x))
    torch.testing.assert_close(model(inputs(40))[0], x.transpose(1, 2))


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_wavenet_is_figure_4_of_the_paper(kernel_size):
    model = WaveNet(3, residual_channels=6, skip_channels=5, kernel_size=kernel_size).double()
    x = convolve(model.entry, inputs(40).transpose(1, 2))
    total = torch.zeros(5, 5, 40, dtype=torch.float64)
    for number, (gated, mix) in enumerate(zip(model.gated, model.mixes, strict=True)):
        gates = convolve(gated, x)
        z = torch.tanh(gates[:, :6]) * torch.sigmoid(gates[:, 6:])
        total = total + mix(z.transpose(1, 2)).transpose(1, 2)[:, -5:]
        if number < len(model.gated) - 1:
            x = x + mix(z.transpose(1, 2)).transpose(1, 2)[:, :6]
    expected = torch.relu(model.output(torch.relu(total.transpose(1, 2))))
    torch.testing.assert_close(model(inputs(40))[0], expected)
    by_steps, state = [], None
    for step in inputs(40).split(1, dim=1):
        features, state = model(step, state)
        by_steps.append(features)
    torch.testing.assert_close(torch.cat(by_steps, dim=1), expected)
