"""Two directions, whatever the padding: the same as torch's own layer on packed sequences."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_modules.architectures.base import valid_steps
from lightning_modules.bidirectional_lstm import BidirectionalLSTM


def test_it_is_torchs_bidirectional_layer_on_packed_sequences():
    torch.manual_seed(0)
    mine, theirs = BidirectionalLSTM(3, 4, 2), nn.LSTM(3, 4, 2, bidirectional=True)
    with torch.no_grad():
        for number in range(2):
            for layers, suffix in ((mine.onward, ""), (mine.back, "_reverse")):
                for name, parameter in layers[number].named_parameters():
                    wanted = name.replace("l0", f"l{number}{suffix}")
                    getattr(theirs, wanted).copy_(parameter)
    x, lengths = torch.randn(9, 4, 3), torch.tensor([9, 1, 5, 7])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0])
    valid = valid_steps(lengths, 9).T
    found = mine(x, lengths)
    assert found.shape == (9, 4, 8) and mine.feature_size == 8
    torch.testing.assert_close(found[valid], expected[valid])


def test_dropout_falls_away_in_evaluation():
    torch.manual_seed(0)
    layer = BidirectionalLSTM(3, 4, dropout=0.5)
    x, lengths = torch.randn(9, 2, 3), torch.tensor([9, 5])
    assert (layer(x, lengths) == 0).any()
    layer.eval()
    assert torch.equal(layer(x, lengths), layer(x, lengths)) and (layer(x, lengths) != 0).all()


@pytest.mark.parametrize(
    "options", [{"hidden_size": 0}, {"num_layers": 0}, {"dropout": 1.0}, {"dropout": -0.1}]
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BidirectionalLSTM(3, **{"hidden_size": 4} | options)
