"""Graves' network: split into layers it equals itself step by step, and writes as it was taught."""

import torch

from lightning_modules.attention_window import one_hot
from lightning_modules.handwriting_network import HandwritingNetwork
from lightning_modules.handwriting_sampling import StepNetwork
from lightning_modules.mixture_density import MixtureDensity

TEXT = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0]])


def make():
    torch.manual_seed(1)
    network = HandwritingNetwork(5, hidden_size=6, window_components=3, pace=0.3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network.eval(), torch.randn(11, 2, 3)


def test_every_layer_is_given_the_input_and_the_window():
    """Equations 52 and 53 of Graves 2013, with cells of nn.LSTMCell."""
    network, x = make()
    hidden, windows, _, _ = network.first(x, TEXT, network.initial_state(TEXT).window)
    states = [*network.initial_state(TEXT)[1:]]
    expected = []
    for now, window, first in zip(x, windows, hidden, strict=True):
        below = first
        for number, layer in enumerate((network.second, network.third)):
            cell = torch.nn.LSTMCell(3 + 5 + 6, 6)
            cell.load_state_dict(
                {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
            )
            states[number] = cell(torch.cat([now, window, below], 1), states[number])
            below = states[number][0]
        expected.append(torch.cat([first, states[0][0], states[1][0]], 1))
    torch.testing.assert_close(network(x, TEXT)[0], torch.stack(expected))


def test_cells_begin_as_the_first_character_wants_them():
    network, x = make()
    with torch.no_grad():
        network.start.copy_(torch.arange(3 * 6 * 6).view(3, 6, 6))
    window, *others = network.initial_state(TEXT)
    for number, (hidden, cell) in enumerate([(window.hidden, window.cell), *others]):
        assert not hidden.any()
        # Rows of 6 units, 6 rows (5 characters and what they share) a layer.
        shared, first, fifth = (36 * number + 6 * row + torch.arange(6.0) for row in (0, 1, 5))
        torch.testing.assert_close(cell, torch.stack([shared + first, shared + fifth]))
    assert not window.position.any() and not window.window.any()
    # Of the text, only the first character.
    torch.testing.assert_close(network.initial_state(TEXT[:, :1]), network.initial_state(TEXT))


def test_a_fresh_network_begins_at_zero_and_learns_otherwise():
    torch.manual_seed(0)
    network = HandwritingNetwork(5, hidden_size=6)
    assert not network.start.any()
    network(torch.randn(4, 2, 3), TEXT)[0].square().sum().backward()
    learned = network.start.grad.abs().sum(2) > 0
    assert learned.tolist() == 3 * [[True, True, False, False, False, True]]


def test_weights_saved_before_there_was_a_start_begin_at_zero():
    network, x = make()
    weights = network.state_dict()
    del weights["start"]
    older = HandwritingNetwork(5, hidden_size=6, window_components=3)
    with torch.no_grad():
        older.start.normal_()
    older.load_state_dict(weights)
    with torch.no_grad():
        network.start.zero_()
    torch.testing.assert_close(older.eval()(x, TEXT)[0], network(x, TEXT)[0])
    assert "start" not in weights


def test_chunks_give_what_the_whole_gives():
    network, x = make()
    whole = network(x, TEXT)[0]
    first, state = network(x[:5], TEXT)
    second, _ = network(x[5:], TEXT, state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_padding_changes_nothing():
    network, x = make()
    alone = network(x[:7, 1:], TEXT[1:, :2])[0]
    torch.testing.assert_close(network(x, TEXT)[0][:7, 1:], alone)


def test_steps_of_sampling_equal_whole_sequences():
    """What the network says while it writes is what it says of the same line when taught."""
    network, x = make()
    head = MixtureDensity(network.feature_size, 4)
    whole, _ = network(x, TEXT)
    step = StepNetwork(network, head)
    letters = torch.cat([one_hot(TEXT, 5), torch.zeros(2, 1, 5)], dim=1).float()
    with torch.no_grad():
        for start in (0, 4):  # from the beginning, and from a carried state
            state = network.initial_state(TEXT) if not start else network(x[:start], TEXT)[1]
            lines = step.lines(state, x[start], letters)
            for t in range(start, len(x)):
                lines.x.copy_(x[t])
                numbers = lines.step()
                torch.testing.assert_close(numbers, head.linear(whole[t]), rtol=1e-4, atol=1e-5)
            hidden, _, positions, _ = network.first(x, TEXT, network.initial_state(TEXT).window)
            expected = network.first.weigh(hidden[-1], positions[-1], 5)
            torch.testing.assert_close(lines.phi, expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    network = HandwritingNetwork(5, hidden_size=6, dropout=0.5)
    x = torch.randn(4, 2, 3)
    network.eval()
    torch.testing.assert_close(network(x, TEXT)[0], network(x, TEXT)[0])
    network.train()
    assert not torch.allclose(network(x, TEXT)[0], network(x, TEXT)[0])
