"""Laws of encoding, with every architecture that can read text: padding, direction, pooling."""

import pytest
import torch
from torch import nn

from lightning_modules.architectures import LSTM
from lightning_modules.pooling import POOLINGS
from lightning_modules.sequence_encoder import SequenceEncoder, reverse

LENGTHS = torch.tensor([11, 1, 0, 4, 7, 2])
MASK = torch.arange(11) < LENGTHS.unsqueeze(1)
every_pooling = pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])


@pytest.fixture
def make_encoder(configure):
    """An encoder of vectors (..., 3) in double precision; no parameter is zero."""

    def make(name="LSTM", init_args=None, **options):
        torch.manual_seed(0)
        encoder = SequenceEncoder(
            configure(name, init_args), input_size=3, max_length=11, **options
        )
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return encoder.double().eval()

    return make


@pytest.fixture
def make_both_ways(make_encoder, text_architecture):
    """Encoders of an architecture in each way that it can read."""

    def make(pooling):
        ways = [False] if text_architecture == "ConvGRU" else [False, True]
        return [make_encoder(text_architecture, bidirectional=b, pooling=pooling) for b in ways]

    return make


def texts():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 11, 3, generator=generator, dtype=torch.float64)


def test_reverse():
    x = torch.arange(1, 13).view(3, 4, 1)
    turned = reverse(x, torch.tensor([4, 3, 0]))
    assert turned.squeeze(2).tolist() == [[4, 3, 2, 1], [7, 6, 5, 8], [9, 10, 11, 12]]
    assert torch.equal(reverse(turned, torch.tensor([4, 3, 0])), x)
    assert reverse(x[:, :0], torch.tensor([0, 0, 0])).shape == (3, 0, 1)


@every_pooling
def test_padding_changes_nothing_and_gets_no_gradient(pooling, make_both_ways):
    for encoder in make_both_ways(pooling):
        x = texts().requires_grad_()
        encoded = encoder(x, LENGTHS)
        weights = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(2)).double()
        (encoded * weights).sum().backward()
        assert (x.grad[~MASK] == 0).all()
        assert (x.grad[0].abs().sum(1) > 0).any()
        of_parameters = [parameter.grad for parameter in encoder.parameters()]
        encoder.zero_grad()
        other = texts().masked_fill(~MASK.unsqueeze(2), 100.0)
        longer = torch.cat([other, other], dim=1)
        again = encoder(longer, LENGTHS)
        torch.testing.assert_close(again, encoded)
        (again * weights).sum().backward()
        for parameter, expected in zip(encoder.parameters(), of_parameters, strict=True):
            torch.testing.assert_close(parameter.grad, expected)


@every_pooling
def test_a_text_is_encoded_as_it_is_alone(pooling, make_both_ways):
    for encoder in make_both_ways(pooling):
        encoded = encoder(texts(), LENGTHS)
        assert encoded.shape == (6, encoder.channels)
        for row, length in enumerate(LENGTHS.tolist()):
            alone = encoder(texts()[row : row + 1, :length], LENGTHS[row : row + 1])
            torch.testing.assert_close(alone[0], encoded[row])
        assert (encoded[2] == 0).all() and (encoded[0] != 0).any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_direction_is_pooled_in_the_order_in_which_it_reads(pooling, make_both_ways):
    encoder = make_both_ways(pooling)[-1]
    encoded = encoder(texts(), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        text = texts()[row : row + 1, :length]
        readings = [encoder.architecture(text)[0]]
        if encoder.backward_architecture is not None:
            readings.append(encoder.backward_architecture(text.flip(1))[0])
        whole = torch.ones(1, readings[0].shape[1], dtype=torch.bool)
        expected = torch.cat([POOLINGS[pooling](each, whole) for each in readings], dim=1)
        torch.testing.assert_close(encoded[row : row + 1], expected)


def test_attention_sees_both_directions_of_a_token_together(make_encoder):
    encoder = make_encoder(bidirectional=True, pooling="attention")
    weights = encoder.attention_weights(texts(), LENGTHS)
    assert (weights[~MASK] == 0).all()
    text = texts()[3:4, :4]
    forwards, _ = encoder.architecture(text)
    backwards, _ = encoder.backward_architecture(text.flip(1))
    features = torch.cat([forwards, backwards.flip(1)], dim=2)
    units = torch.tanh(encoder.attention.hidden(features))
    expected = (units @ encoder.attention.context).softmax(1)
    torch.testing.assert_close(weights[3:4, :4], expected)
    torch.testing.assert_close(
        encoder(texts(), LENGTHS)[3], (expected.unsqueeze(2) * features).sum(1)[0]
    )


def test_two_directions_are_two_networks(make_encoder):
    encoder = make_encoder("LSTM", {"hidden_size": 4}, bidirectional=True)
    assert isinstance(encoder.backward_architecture, LSTM)
    first, second = encoder.architecture.state_dict(), encoder.backward_architecture.state_dict()
    assert first.keys() == second.keys()
    assert not any(torch.equal(first[name], second[name]) for name in first)
    # A palindrome tells them apart by their weights alone.
    with torch.no_grad():
        encoder.backward_architecture.load_state_dict(first)
    x = texts()[:1, :5]
    palindrome = torch.cat([x, x.flip(1)], dim=1)
    forwards, backwards = encoder(palindrome, torch.tensor([10])).chunk(2, dim=1)
    torch.testing.assert_close(forwards, backwards)


def test_in_training_batch_statistics_come_from_tokens_only(make_encoder):
    outputs, statistics = [], []
    for padding in (0.0, 50.0):
        encoder = make_encoder("GRU", {"hidden_size": 4, "batch_norm": True}, bidirectional=True)
        encoder.train()
        outputs.append(encoder(texts().masked_fill(~MASK.unsqueeze(2), padding), LENGTHS))
        statistics += [m.running_mean for m in encoder.modules() if isinstance(m, nn.BatchNorm1d)]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(statistics[:2], statistics[2:])
    assert (statistics[0] != 0).all()


def test_a_text_too_short_for_a_strided_architecture_gives_zeros(make_encoder):
    encoder = make_encoder("ConvGRU", {"kernel_size": 4, "channels": 3, "hidden_size": 5})
    encoded = encoder(texts(), LENGTHS)
    assert [bool((row == 0).all()) for row in encoded] == [False, True, True, False, False, True]
    assert (encoder(texts()[:, :3], LENGTHS.clamp(max=3)) == 0).all()


@pytest.mark.parametrize(
    ("name", "init_args", "options", "message"),
    [
        ("LSTM", {}, {"pooling": "sum"}, "model.pooling is 'sum': it must be one of last, mean, m"),
        ("ConvGRU", {}, {"bidirectional": True}, "strides over 2 .* use model.bidirectional: fal"),
        (
            "ConvGRU",
            {"kernel_size": 12},
            {},
            "no output for a sequence of 11 steps, which is",
        ),
        ("NARX", {}, {}, "feeds on the observed outputs.*choose another architecture"),
        ("Autoregressive", {}, {}, "feeds on the observed outputs.*choose another architecture"),
    ],
)
def test_messages(name, init_args, options, message, make_encoder):
    with pytest.raises(ValueError, match=message):
        make_encoder(name, init_args, **options)


def test_only_attention_has_weights(make_encoder):
    with pytest.raises(ValueError, match="model.pooling is max: only attention has weights"):
        make_encoder(pooling="max").attention_weights(texts(), LENGTHS)
