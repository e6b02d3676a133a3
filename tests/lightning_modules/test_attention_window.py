"""The windowed LSTM: the loops worked out by hand equal the equations, step by step."""

import pytest
import torch

from lightning_modules.attention_window import WindowedLSTM, WindowState, one_hot

TEXT = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0]])


def make(pace=0.3):
    torch.manual_seed(0)
    layer = WindowedLSTM(input_size=3, hidden_size=7, alphabet_size=5, components=4, pace=pace)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x = torch.randn(9, 2, 3, requires_grad=True)
    state = WindowState(
        *((0.3 * torch.randn_like(part)).abs().requires_grad_() for part in layer.initial_state(2))
    )
    return layer, x, state


def stepwise(layer, x, text, state):
    """Equations 46 to 51 and the LSTM, one step after the other."""
    hidden, cell, position, window = state
    letters = one_hot(text, layer.alphabet_size).to(x)
    u = torch.arange(1, text.shape[1] + 1).to(x)
    outputs, cells, windows, positions, weights = [], [], [], [], []
    for now in x:
        sums = now @ layer.weight_input.t() + layer.bias
        sums = sums + torch.cat([hidden, window], 1) @ layer.weight_recurrent.t()
        i, f, o, g = sums.chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        moves = (hidden @ layer.weight_window.t() + layer.bias_window.flatten()).exp()
        a, b, k = moves.chunk(3, dim=1)
        position = position + k
        bells = torch.exp(-b[..., None] * (position[..., None] - u) ** 2)
        phi = (a[..., None] * bells).sum(1)
        window = torch.einsum("bu,bua->ba", phi, letters)
        for row, value in zip(
            (outputs, cells, windows, positions, weights),
            (hidden, cell, window, position, phi),
            strict=True,
        ):
            row.append(value)
    return [torch.stack(row) for row in (outputs, cells, windows, positions, weights)]


def test_it_equals_the_equations():
    layer, x, state = make()
    hidden, windows, positions, last = layer(x, TEXT, state)
    expected = stepwise(layer, x, TEXT, state)
    torch.testing.assert_close(hidden, expected[0])
    torch.testing.assert_close(last.cell, expected[1][-1])
    torch.testing.assert_close(windows, expected[2])
    torch.testing.assert_close(positions, expected[3])
    torch.testing.assert_close(layer.weigh(hidden, positions, 4), expected[4])


def test_its_gradients_are_those_of_autograd():
    layer, x, state = make()
    wanted = [*layer.parameters(), x, *state]
    weights = [torch.randn(9, 2, size) for size in (7, 5)]
    into_cell = torch.randn(2, 7)

    def loss(hidden, cell, windows):
        parts = (hidden * weights[0]).sum() + (windows * weights[1]).sum()
        return parts + (cell * into_cell).sum()

    hidden, windows, _, last = layer(x, TEXT, state)
    ours = torch.autograd.grad(loss(hidden, last.cell, windows), wanted)
    outputs, cells, expected, *_ = stepwise(layer, x, TEXT, state)
    theirs = torch.autograd.grad(loss(outputs, cells[-1], expected), wanted)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("used", ["hidden", "windows"])
def test_its_gradients_are_right_where_one_output_is_unused(used):
    layer, x, state = make()
    hidden, windows, _, _ = layer(x, TEXT, state)
    ours = torch.autograd.grad((hidden if used == "hidden" else windows).square().sum(), x)[0]
    outputs, _, expected, *_ = stepwise(layer, x, TEXT, state)
    theirs = torch.autograd.grad((outputs if used == "hidden" else expected).square().sum(), x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_positions_only_grow():
    layer, x, state = make()
    positions = layer(x, TEXT, state)[2]
    assert (positions.diff(dim=0) > 0).all()


def test_chunks_give_what_the_whole_gives():
    layer, x, state = make()
    whole = layer(x, TEXT, state)[0]
    first, _, _, between = layer(x[:4], TEXT, state)
    second = layer(x[4:], TEXT, between)[0]
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_padding_of_the_text_changes_nothing():
    layer, x, state = make()
    alone = layer(x[:, 1:], TEXT[1:, :2], WindowState(*(part[1:] for part in state)))
    padded = layer(x, TEXT, state)
    torch.testing.assert_close(padded[0][:, 1:], alone[0])


def test_a_fresh_window_moves_at_the_pace():
    torch.manual_seed(0)
    layer = WindowedLSTM(3, 64, 5, components=10, pace=0.05)
    positions = layer(torch.randn(200, 8, 3), torch.ones(8, 10, dtype=torch.long))[2]
    assert positions[-1].mean() == pytest.approx(200 * 0.05, rel=0.25)


def test_under_autocast_it_is_close_to_float32():
    layer, x, state = make()
    exact = layer(x, TEXT, state)[0]
    with torch.autocast("cpu", torch.bfloat16):
        hidden, windows, positions, _ = layer(x, TEXT, state)
    assert {hidden.dtype, windows.dtype, positions.dtype} == {torch.float32}
    assert not torch.equal(hidden, exact)
    torch.testing.assert_close(hidden, exact, rtol=0, atol=0.02)
    hidden.sum().backward()
    assert layer.weight_recurrent.grad.dtype == torch.float32
    assert torch.isfinite(layer.weight_recurrent.grad).all()


def test_options_are_checked():
    with pytest.raises(ValueError, match="pace must be above 0"):
        WindowedLSTM(3, 4, 5, pace=0.0)
    with pytest.raises(ValueError, match="hidden_size must be a whole number"):
        WindowedLSTM(3, 0, 5)
