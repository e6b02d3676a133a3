"""Constant weights against numbers worked out by hand, from the equations in the docstrings."""

import torch
from torch import Tensor, nn

from lightning_modules.architectures import (
    GRU,
    NARX,
    TDNN,
    Autoregressive,
    ElmanRNN,
    LayerNormLSTM,
    LayerNormRNN,
    PeepholeLSTM,
    SimpleWaveNet,
    WaveNet,
)


def fill(module: nn.Module, **values: list) -> None:
    """Sets every parameter of a module, by its name."""
    assert set(values) == {name for name, _ in module.named_parameters()}
    for name, value in values.items():
        parameter = module.get_parameter(name)
        parameter.data = torch.tensor(value, dtype=torch.float64).view(parameter.shape)


def sequence(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def assert_features(actual: Tensor, expected: list) -> None:
    expected_tensor = torch.tensor(expected, dtype=torch.float64).view(actual.shape)
    torch.testing.assert_close(actual, expected_tensor, rtol=1e-9, atol=1e-12)


def test_autoregressive_features_are_lag_major():
    x = torch.tensor([[[1.0, 10.0, 100.0], [2.0, 20.0, 200.0], [3.0, 30.0, 300.0]]])
    features, _ = Autoregressive(3, target_channels=[2, 0], order=2)(x)
    expected = [[[100.0, 1.0, 0.0, 0.0], [200.0, 2.0, 100.0, 1.0], [300.0, 3.0, 200.0, 2.0]]]
    assert torch.equal(features, torch.tensor(expected))


def test_elman():
    model = ElmanRNN(1, hidden_size=1, num_layers=1).double()
    fill(
        model.layers[0].recurrence,
        weight_ih_l0=[0.5],
        weight_hh_l0=[-0.8],
        bias_ih_l0=[0.3],
        bias_hh_l0=[-0.2],
    )
    features, _ = model(sequence(1, -2, 0.5))
    assert_features(features, [0.5370495669980353, -0.8691612348802324, 0.7799837243560451])


def test_gru():
    model = GRU(1, hidden_size=1, num_layers=1).double()
    fill(
        model.layers[0].recurrence,
        weight_ih_l0=[0.5, -0.3, 0.8],
        weight_hh_l0=[0.25, 0.6, -0.4],
        bias_ih_l0=[0.1, 0.2, 0.3],
        bias_hh_l0=[0.05, -0.1, 0.15],
    )
    features, _ = model(sequence(1, -2, 0.5))
    assert_features(features, [0.45812843462463815, 0.09585593958045172, 0.3696291870722946])


def test_peephole_lstm():
    model = PeepholeLSTM(1, hidden_size=1, num_layers=1).double()
    fill(
        model.layers[0],
        weight_input=[0.5, -0.3, 0.8, 0.2],
        weight_recurrent=[0.25, 0.6, -0.4, 0.7],
        bias=[0.1, 1.0, -0.2, 0.05],
        peepholes=[0.3, -0.2, 0.4],
    )
    features, (((hidden, cell),)) = model(sequence(1, -2, 0.5))
    assert_features(features, [0.19874970345925663, -0.007177828097847497, 0.05762737008955411])
    assert_features(hidden, [0.05762737008955411])
    assert_features(cell, [0.10580487169064759])


def test_layer_norm_rnn():
    model = LayerNormRNN(1, hidden_size=3, num_layers=1).double()
    fill(
        model.layers[0],
        weight_input=[1, 2, 4],
        weight_recurrent=[[0.5, 0, 0], [0, -1, 0], [0, 0, 2]],
        bias=[0, 0.5, 0],
        gain=[1, 0.5, 2],
        shift=[0, 0.1, -0.1],
    )
    features, _ = model(sequence(1, -1))
    expected = [
        [-0.8410470626814046, 0.09966799462495582, 0.9819548709530479],
        [0.7717450258614841, 0.25976400541656836, -0.992815346625938],
    ]
    assert_features(features, expected)


def test_layer_norm_lstm():
    model = LayerNormLSTM(1, hidden_size=2, num_layers=1).double()
    fill(
        model.layers[0],  # rows: input, input, forget, forget, output, output, candidate, candidate
        weight_input=[0.5, -0.3, 0.8, 0.2, -0.6, 0.4, 1, -1],
        bias_input=[0.1, 0, -0.1, 0.2, 0, 0.3, -0.2, 0.1],
        weight_recurrent=[
            [0.2, -0.1], [0.3, 0.5], [-0.4, 0.1], [0.6, 0.2],
            [0.1, 0.1], [-0.5, 0.3], [0.7, -0.2], [0, 0.4],
        ],
        bias=[0, 0, 1, 1, 0, 0, 0.1, -0.1],
        gain_input=[1, 0.5] * 4,
        gain_recurrent=[0.5, 1] * 4,
        gain_cell=[1, 2],
        shift_cell=[0.1, -0.3],
    )  # fmt: skip
    features, ((_, cell),) = model(sequence(1, -0.5, 2))
    expected = [
        [0.18048539036663688, -0.5909996106775244],
        [0.5665159991440665, -0.2633413619359166],
        [0.18903098726437423, -0.22046208404556242],
    ]
    assert_features(features, expected)
    assert_features(cell, [0.5907219700770191, -0.6818435460845496])


def test_tdnn():
    model = TDNN(1, hidden_sizes=[1, 1], delays=[1, 2]).double()
    fill(model.layers[0].linear, weight=[0.5, -1], bias=[0.1])
    fill(model.layers[1].linear, weight=[1, 0.5, 0.25], bias=[-0.2])
    features, _ = model(sequence(1, 2, -1, 0.5))
    expected = [0.3248408307045617, 0.16662453006976516, -0.7614170667554018, 0.20422054991509916]
    assert_features(features, expected)


def test_narx():
    model = NARX(2, [1], input_delays=2, output_delays=3, hidden_sizes=[1]).double()
    fill(model.network[0], weight=[0.5, -0.25, 1, 0.5, -0.5], bias=[0.1])
    known, observed = sequence(1, -1, 2, 0), sequence(0.5, 0.25, -1, 1)
    features, _ = model(torch.cat([known, observed], dim=2))
    expected = [0.8004990217606297, -0.14888503362331798, 0.221278467898444, -0.02499479296842068]
    assert_features(features, expected)


def test_simple_wavenet():
    model = SimpleWaveNet(1, channels=1, dilations=[1, 2]).double()
    fill(model.layers[0].linear, weight=[0.5, 0.25], bias=[0.1])
    fill(model.layers[1].linear, weight=[1, -0.5], bias=[0.05])
    features, _ = model(sequence(1, 2, -1, 0.5))
    assert_features(features, [0.65, 1.4, 0, 0])


def test_wavenet():
    model = WaveNet(1, residual_channels=1, skip_channels=1, dilations=[1, 2], stacks=1).double()
    fill(model.entry.linear, weight=[0.5, 0.25], bias=[0.1])
    for gated in model.gated:
        fill(gated.linear, weight=[[1, -0.5], [0.3, 0.2]], bias=[0, 0.1])
    fill(model.mixes[0], weight=[0.6, 0.9], bias=[0.05, -0.1])
    fill(model.mixes[1], weight=[-0.7], bias=[0.2])
    fill(model.output, weight=[1.5], bias=[0.25])
    features, _ = model(sequence(1, 2, -1, 0.5))
    expected = [0.39261956557770283, 0.4502295745154534, 0.25, 0.824338432663716]
    assert_features(features, expected)
