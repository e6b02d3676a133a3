"""Writing: the seed decides, lines of a batch do not disturb each other, and every line ends."""

import dataclasses

import numpy as np
import pytest
import torch

from data_modules import UserError
from data_modules.handwriting.ink import Ink
from data_modules.handwriting.specification import HandwritingSpec
from lightning_modules import HandwritingSynthesizer

SPEC = HandwritingSpec(
    alphabet=[" ", "a", "b", "c"],
    mean=[0.1, 0.0],
    deviation=[0.5, 0.4],
    points_per_character=5.0,
    character_counts=[1, 1, 1, 1],
    preparation={"deskew": True, "smooth": True, "max_points": 1200, "max_characters": 75},
)


def make(pace=5.0):
    torch.manual_seed(0)
    spec = dataclasses.replace(SPEC, points_per_character=pace)
    return HandwritingSynthesizer(
        spec.to_dict(), hidden_size=8, window_components=3, mixture_components=3
    )


def same(one, other):
    np.testing.assert_allclose(one.offsets, other.offsets, atol=1e-4)
    np.testing.assert_allclose(one.window, other.window, atol=1e-4)
    return one.finished == other.finished


def test_the_seed_decides():
    model = make()
    first, again = (model.write(["abc", "ba"], seeds=[3, 4]) for _ in range(2))
    assert all(same(*pair) for pair in zip(first, again, strict=True))
    other = model.write(["abc"], seeds=[5])[0]
    assert other.offsets.shape != first[0].offsets.shape or not np.allclose(
        other.offsets, first[0].offsets
    )


def test_a_line_does_not_depend_on_the_others_of_its_batch():
    model = make()
    together = model.write(["abc cab", "b", "aaaa"], seeds=[3, 4, 5])
    for text, seed, sample in zip(["abc cab", "b", "aaaa"], [3, 4, 5], together, strict=True):
        assert same(model.write([text], seeds=[seed])[0], sample)


def test_lines_end_with_a_lift_after_the_window_has_passed():
    samples = make().write(["abc", "a", "bb cc aa"] * 5)
    assert {sample.finished for sample in samples} == {True}
    for sample in samples:
        assert sample.offsets[-1, 2] == 1
        assert sample.window.shape == (len(sample.offsets), len(sample.text) + 1)
        peak, (last, beyond) = sample.window.argmax(1), sample.window[:, -2:].T
        passed = np.maximum.accumulate(peak == len(sample.text))
        leaving = (peak >= len(sample.text) - 1) & (beyond >= 0.08 * (last + beyond))
        # At the first lift after either, and at none before.
        assert np.flatnonzero((passed | leaving) & (sample.offsets[:, 2] > 0)).tolist() == [
            len(sample.offsets) - 1
        ]


def test_a_window_too_narrow_to_see_anything_ends_beyond_the_text():
    model = make()
    with torch.no_grad():
        model.network.first.bias_window[1] = 12.0
    for sample in model.write(["abc", "a"]):
        assert sample.finished and sample.window.max() < 1


def test_a_window_that_stands_still_ends_at_the_cap():
    model = make()
    with torch.no_grad():
        model.network.first.bias_window[2] = -30.0
    short, long = model.write(["ab", "ab" * 10])
    assert not short.finished and not long.finished
    for sample in (short, long):
        cap = 2.5 * 5 * len(sample.text) + 30
        assert cap <= len(sample.offsets) < cap + 33


def test_more_legibility_is_less_chance():
    """At a very high one, the seed no longer matters where the components are the same."""
    model = make()

    def spread(legibility):
        lines = model.write(["abcabc"] * 20, legibility)
        return np.std([line.offsets[:10, :2] for line in lines], axis=0).mean()

    assert spread(3.0) < 0.5 * spread(0.0)


def test_offsets_are_in_body_heights():
    """The same weights, with data of twice the deviation, write twice as large."""
    model, larger = make(), make()
    larger.spec = dataclasses.replace(SPEC, mean=[0.2, 0.0], deviation=[1.0, 0.8])
    small, large = (each.write(["abc"])[0].offsets for each in (model, larger))
    np.testing.assert_allclose(large[:, :2], 2 * small[:, :2], rtol=1e-4)


def test_a_style_is_gone_on_from():
    model = make()
    points = np.cumsum(np.random.default_rng(0).normal(0.1, 0.3, (20, 2)), axis=0)
    points = np.column_stack([points, np.arange(20) == 19]).astype(np.float32)
    style = Ink("ab", points, "k", "f")
    plain = model.write(["cab"])[0]
    primed = model.write(["cab"], style=style)[0]
    assert primed.window.shape == (len(primed.offsets), 4), "only its own characters"
    assert not np.allclose(primed.offsets[:4], plain.offsets[:4])
    again = model.write(["b", "cab"], style=style, seeds=[7, 0])[1]
    assert same(again, primed)
    assert primed.continues and not plain.continues


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: model.write(["abx"]), "'x' in 'abx' cannot be written"),
        (lambda model: model.write(["ab", ""]), "empty text"),
        (lambda model: model.write(["ab"], legibility=-1), "legibility is -1"),
    ],
)
def test_what_cannot_be_written_is_refused(call, said):
    with pytest.raises(UserError, match=said):
        call(make())


def test_writing_leaves_the_model_as_it_was():
    model = make().train()
    before = torch.get_rng_state()
    model.write(["abc"])
    assert model.training and torch.equal(torch.get_rng_state(), before)
