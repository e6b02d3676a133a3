"""Options of the architectures: initial values, dropout, batch normalisation, messages."""

import pytest
import torch
from torch import nn

from lightning_modules.architectures import (
    GRU,
    LSTM,
    NARX,
    TDNN,
    Autoregressive,
    ConvGRU,
    ElmanRNN,
    LayerNormLSTM,
    LayerNormRNN,
    PeepholeLSTM,
    SimpleWaveNet,
    WaveNet,
)
from lightning_modules.architectures.cells import VariationalDropout
from lightning_modules.architectures.recurrent import NativeLayer

STACKS = [ElmanRNN, LSTM, GRU, LayerNormRNN, LayerNormLSTM, PeepholeLSTM]


@pytest.mark.parametrize("architecture", STACKS)
def test_recurrent_weights_of_each_gate_are_orthogonal(architecture):
    model = architecture(3, hidden_size=8, num_layers=2)
    matrices = [p for name, p in model.named_parameters() if "recurrent" in name or "_hh" in name]
    matrices = [p for p in matrices if p.dim() == 2]
    assert len(matrices) == 2
    for matrix in matrices:
        for block in matrix.split(8):
            torch.testing.assert_close(block @ block.t(), torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [1.0, 2.5])
def test_forget_bias(value):
    native = LSTM(3, hidden_size=4, forget_bias=value)
    for layer in native.layers:
        total = layer.recurrence.bias_ih_l0 + layer.recurrence.bias_hh_l0
        assert total.tolist() == [0.0] * 4 + [value] * 4 + [0.0] * 8
    for model in (PeepholeLSTM(3, 4, forget_bias=value), LayerNormLSTM(3, 4, forget_bias=value)):
        for layer in model.layers:
            assert layer.bias.tolist() == [0.0] * 4 + [value] * 4 + [0.0] * 8


def test_layer_norm_lstm_sees_the_size_of_a_single_channel():
    torch.manual_seed(0)
    model = LayerNormLSTM(1, hidden_size=8, num_layers=1)
    small, _ = model(torch.full((1, 1, 1), 0.1))
    large, _ = model(torch.full((1, 1, 1), 1.0))
    assert (small - large).abs().max() > 0.05


@pytest.mark.parametrize("architecture", [LayerNormRNN, LayerNormLSTM])
def test_recurrent_dropout_of_units(architecture, monkeypatch):
    model = architecture(2, hidden_size=16, num_layers=1, recurrent_dropout=0.5)
    masks = []
    draw = VariationalDropout.mask

    def spy(self, hidden):
        masks.append(draw(self, hidden))
        return masks[-1]

    monkeypatch.setattr(VariationalDropout, "mask", spy)
    x = torch.randn(3, 12, 2)
    features, _ = model.train()(x)
    (mask,) = masks  # one for all 12 steps ...
    assert mask.shape == (3, 16)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(mask[0], mask[1])  # ... and its own for each sequence
    assert not torch.equal(model(x)[0], features)
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])
    assert masks[-1] is None

    # The mask acts on h[t - 1], at every step: the same as weights with its columns scaled.
    model.train()
    torch.manual_seed(5)
    dropped, _ = model(x[:1])
    torch.manual_seed(5)
    mask = draw(model.layers[0].recurrent_dropout, torch.zeros(1, 16))
    model.eval()
    with torch.no_grad():
        model.layers[0].weight_recurrent *= mask
    torch.testing.assert_close(model(x[:1])[0], dropped)


DROPPING_WEIGHTS = [ElmanRNN, LSTM, GRU, PeepholeLSTM]


def recurrent_weights(model):
    """The matrix of U h[t-1] of each layer."""
    names = ("weight_recurrent", "recurrence.weight_hh_l0")
    return [p for name, p in model.layers.named_parameters() if name.partition(".")[2] in names]


@pytest.mark.parametrize("architecture", DROPPING_WEIGHTS)
@pytest.mark.parametrize("lengths", [None, torch.tensor([12, 5, 9])], ids=["whole", "padded"])
def test_recurrent_dropout_of_weights(architecture, lengths):
    torch.manual_seed(0)
    model = architecture(2, hidden_size=8, num_layers=2, recurrent_dropout=0.4).train()
    x = torch.randn(3, 12, 2)
    torch.manual_seed(5)
    features, _ = model(x, lengths=lengths)
    features.pow(2).sum().backward()
    assert not torch.equal(model(x, lengths=lengths)[0], features)

    # The same as a network whose weights lack these entries and are larger otherwise ...
    torch.manual_seed(5)
    scales = [nn.functional.dropout(torch.ones_like(w), 0.4) for w in recurrent_weights(model)]
    assert len(scales) == 2 and 0.3 < (torch.stack(scales) == 0).float().mean() < 0.5
    other = architecture(2, hidden_size=8, num_layers=2)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for weight, scale in zip(recurrent_weights(other), scales, strict=True):
            weight *= scale
    expected, _ = other(x, lengths=lengths)
    torch.testing.assert_close(features, expected)
    # ... down to the gradient, of which dropped entries get none.
    expected.pow(2).sum().backward()
    for ours, theirs, scale in zip(
        recurrent_weights(model), recurrent_weights(other), scales, strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad * scale)
        assert (ours.grad != 0).sum() == (scale != 0).sum()

    # One mask for all sequences, and none in evaluation mode, which nothing is left behind for.
    alike, _ = model(x[:1].expand(3, -1, -1))
    torch.testing.assert_close(alike[0], alike[2])
    plain = architecture(2, hidden_size=8, num_layers=2)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x, lengths=lengths)[0], plain(x, lengths=lengths)[0])


@pytest.mark.parametrize("architecture", [ElmanRNN, GRU])
def test_recurrent_dropout_of_the_native_layer_is_that_of_our_loop(architecture):
    layer = architecture(2, hidden_size=8, num_layers=1, recurrent_dropout=0.4).layers[0]
    x = torch.randn(3, 12, 2)
    outputs = []
    for forward in (type(layer).forward, NativeLayer.forward):
        torch.manual_seed(5)
        outputs.append(forward(layer, x, layer.initial_state(x), None)[0])
    torch.testing.assert_close(*outputs)
    assert not torch.allclose(outputs[0], layer.eval()(x, layer.initial_state(x), None)[0])


@pytest.mark.parametrize("architecture", [*STACKS, ConvGRU, SimpleWaveNet, WaveNet, TDNN])
def test_dropout_is_ordinary_and_between_layers(architecture):
    model = architecture(2, dropout=0.4).train()
    assert any(isinstance(module, nn.Dropout) and module.p == 0.4 for module in model.modules())
    x = torch.randn(3, 20, 2)
    assert not torch.equal(model(x)[0], model(x)[0])
    assert not (model(x)[0] == 0).all(dim=1).any() or architecture in (SimpleWaveNet, WaveNet)
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


@pytest.mark.parametrize("architecture", STACKS)
def test_batch_norm_ignores_padding(architecture):
    torch.manual_seed(0)
    model = architecture(2, hidden_size=4, num_layers=2, batch_norm=True)
    one_layer = architecture(2, hidden_size=4, num_layers=1)
    one_layer.layers[0].load_state_dict(model.layers[0].state_dict())
    x, lengths = torch.randn(3, 10, 2), torch.tensor([10, 4, 7])
    hidden, _ = one_layer.eval()(x, lengths=lengths)
    valid = torch.cat([row[:length] for row, length in zip(hidden, lengths, strict=True)])
    model.train()(x, lengths=lengths)
    norm = model.norms[0]
    torch.testing.assert_close(norm.running_mean, 0.1 * valid.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * valid.var(0))

    model.train()
    features, _ = model(x, lengths=lengths)
    longer = torch.cat([x, torch.full((3, 5, 2), 1e6)], dim=1)
    with_more_padding, _ = model(longer, lengths=lengths)
    torch.testing.assert_close(with_more_padding[:, :10], features)


def test_conv_gru_output_steps():
    model = ConvGRU(1)
    assert model.output_steps(10).tolist() == [3, 5, 7, 9]
    assert model.output_steps(3).tolist() == []
    _, state = model(torch.zeros(2, 6, 1))  # outputs at 3 and 5; the next at 7
    assert model.output_steps(5, state).tolist() == [1, 3]


def test_conv_gru_refuses_to_go_on_at_different_phases():
    model = ConvGRU(1).eval()
    _, state = model(torch.randn(2, 8, 1), lengths=torch.tensor([8, 7]))
    with pytest.raises(ValueError, match=r"different phases of the stride \(\[2, 3\] inputs pend"):
        model(torch.randn(2, 8, 1), state)
    _, state = model(torch.randn(2, 8, 1), lengths=torch.tensor([8, 6]))
    model(torch.randn(2, 8, 1), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(0), "input_size must be a whole number of at least 1, got 0"),
        (lambda: LSTM(1, hidden_size=2.5), "hidden_size must be a whole number"),
        (lambda: GRU(1, num_layers=0), "num_layers must be a whole number of at least 1"),
        (lambda: GRU(1, num_layers=True), "num_layers must be a whole number"),
        (lambda: GRU(1, dropout=1.0), "dropout is the probability .* got 1.0"),
        (lambda: GRU(1, num_layers=1, dropout=0.5), "write dropout: 0.0, or num_layers"),
        (lambda: GRU(1, num_layers=1, batch_norm=True), "write batch_norm: false, or num_layers"),
        (lambda: ElmanRNN(1, nonlinearity="gelu"), "nonlinearity must be one of tanh, relu"),
        (lambda: LSTM(1, recurrent_dropout=1.0), "recurrent_dropout is the probability"),
        (lambda: PeepholeLSTM(1, recurrent_dropout=2), "recurrent_dropout is the probability"),
        (lambda: LayerNormRNN(1, hidden_size=1), "hidden_size must be .* at least 2"),
        (lambda: LayerNormLSTM(1, hidden_size=1), "hidden_size must be .* at least 2"),
        (lambda: LayerNormLSTM(1, recurrent_dropout=-0.1), "recurrent_dropout is the probability"),
        (lambda: TDNN(1, delays=[4]), r"2 hidden layers: write delays: \[4, 4\], got \[4\]"),
        (lambda: TDNN(1, delays=[4, -1]), r"delays\[1\] must be .* at least 0, got -1"),
        (lambda: TDNN(1, hidden_sizes=[]), r"hidden_sizes must be a list such as \[4, 4\]"),
        (lambda: TDNN(1, activation="swish"), "activation must be one of tanh, relu, sigmoid"),
        (lambda: NARX(2, [2]), "target_channels must name different input channels from 0 to 1"),
        (lambda: NARX(2, [0, 0]), "target_channels must name different"),
        (lambda: NARX(2, []), "target_channels must be a list"),
        (lambda: NARX(2, [0], output_delays=0), "output_delays must be .* at least 1"),
        (lambda: Autoregressive(1, [0], order=0), "order must be .* at least 1"),
        (lambda: ConvGRU(1, kernel_size=2, stride=3), "write stride: 2 or less"),
        (lambda: SimpleWaveNet(1, dilations=[0]), r"dilations\[0\] must be .* at least 1"),
        (lambda: SimpleWaveNet(1, dilations="12"), "dilations must be a list"),
        (lambda: WaveNet(1, kernel_size=1), "kernel_size must be .* at least 2"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()
