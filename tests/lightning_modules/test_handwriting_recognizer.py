"""The recogniser: padding means nothing, CTC's rules hold, it learns, and it counts honestly."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink, offsets
from data_modules.handwriting.parts import InkPart
from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from lightning_modules.architectures.base import valid_steps
from lightning_modules.handwriting_recognizer import (
    HandwritingRecognizer,
    character_error_rate,
    edit_distances,
    frames_needed,
)

SPEC = HandwritingSpec(
    alphabet=list(" abel"),
    mean=[0.1, -0.02],
    deviation=[0.3, 0.2],
    points_per_character=6.0,
    character_counts=[9] * 5,
    preparation={},
)


def make_model(seed=0, **options):
    torch.manual_seed(seed)
    small = {"hidden_size": 8, "channels": 6, "dropout": 0.0, "augmentation": 0.0}
    return HandwritingRecognizer(SPEC.to_dict(), **small | options)


def make_inks(texts, seed=1, points_a_letter=9):
    """A shape of its own for each letter, such as nobody writes."""
    shapes = np.random.default_rng(7).normal(0, 0.25, (256, points_a_letter, 2)) + [0.1, 0]
    generator = np.random.default_rng(seed)
    inks = []
    for i, text in enumerate(texts):
        steps = np.concatenate([shapes[ord(letter)] for letter in text])
        steps = steps + generator.normal(0, 0.02, steps.shape)
        lift = (np.arange(1, len(steps) + 1) % points_a_letter == 0).astype(float)
        points = np.column_stack([steps.cumsum(0), lift]).astype(np.float32)
        inks.append(Ink(text, points, f"line {i}", "form"))
    return inks


def make_batch(texts, **options):
    part = InkPart(make_inks(texts, **options), SPEC)
    return part.__getitems__(range(len(texts)))


def learn(model, batch, steps, rate=0.02):
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        loss = model.training_step(batch, 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("strides", [(1,), (2,), (3,), (2, 2)])
@pytest.mark.parametrize("junk", [0.0, 7.0])
def test_padding_changes_nothing(strides, junk):
    model = make_model(strides=strides, num_layers=2).eval()
    together = make_batch(["abel", "a", "all ball", "be"])
    steps = together.targets.clone()
    steps[~valid_steps(together.lengths, steps.shape[1])] = junk
    scores, frames = model(steps, together.lengths)
    for row, length in enumerate(together.lengths.tolist()):
        alone, (count,) = model(together.targets[row : row + 1, :length], torch.tensor([length]))
        assert len(alone) == count == frames[row]
        torch.testing.assert_close(scores[:count, row], alone[:, 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(scores.isfinite(), torch.ones_like(scores, dtype=torch.bool))


def test_every_frame_hears_both_ends():
    model = make_model(strides=[2]).eval()
    batch = make_batch(["abel"])
    steps = batch.targets.clone().requires_grad_()
    scores, _ = model(steps, batch.lengths)
    for frame in (0, len(scores) - 1):
        (gradient,) = torch.autograd.grad(scores[frame, 0, 1], steps, retain_graph=True)
        assert gradient[0, 0].abs().sum() > 0 and gradient[0, -1].abs().sum() > 0


def test_a_place_on_the_page_means_nothing_and_the_height_of_a_letter_does():
    model = make_model()
    batch = make_batch(["abel la"])
    valid = valid_steps(batch.lengths, batch.targets.shape[1]).unsqueeze(1)
    heights = model._heights(batch.targets, valid)[0, 0]
    y = torch.from_numpy(make_inks(["abel la"])[0].points[1:, 1])
    reach = 30  # five characters of six points
    expected = [y[i] - y[max(0, i - reach) : i + reach + 1].mean() for i in range(len(y))]
    torch.testing.assert_close(heights, torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
def test_gradients_reach_every_parameter(augmentation):
    model = make_model(augmentation=augmentation, dropout=0.1)
    model.training_step(make_batch(["abel", "all"]), 0)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_small_step_down_the_gradient_lowers_the_loss():
    model, batch = make_model(), make_batch(["abel", "all"])
    before = model.training_step(batch, 0)["loss"].item()
    learn(model, batch, 1, rate=0.001)
    assert model.training_step(batch, 0)["loss"].item() < before


def test_the_loss_is_the_nats_of_a_character():
    model, batch = make_model(strides=[2]), make_batch(["abel", "la"])
    total = 0.0
    for row in range(2):
        length, count = batch.lengths[row], batch.text_lengths[row]
        scores, _ = model(batch.targets[row : row + 1, :length], length[None])
        total += torch.nn.functional.ctc_loss(
            scores, batch.text[row : row + 1, :count], (len(scores),), (int(count),),
            reduction="sum",
        ).item()  # fmt: skip
    assert model.training_step(batch, 0)["loss"].item() == pytest.approx(total / 6, rel=1e-5)


def test_it_learns_two_lines_by_heart_doubled_letters_too():
    texts = ["all ball", "bell label"]
    model, batch = make_model(hidden_size=24, channels=16, strides=[2]), make_batch(texts)
    learn(model, batch, 150)
    lines = [offsets(ink.points)[1:] for ink in make_inks(texts)]
    assert model.read(lines) == texts


def test_reading_is_validation_without_batches(make_trainer, loader):
    texts = ["abel", "a", "all ball", "be", "bell ab"]
    model, batch = make_model(strides=[2]), make_batch(texts)
    learn(model, batch, 90)  # fresh weights read nothing at all
    lines = [offsets(ink.points)[1:] for ink in make_inks(texts)]
    read = model.read(lines)
    assert read == [model.read([line])[0] for line in lines]
    assert len(set(read)) > 1, "the test must tell lines apart"
    batches = [make_batch(texts[:2]), make_batch(texts[2:], seed=3)]
    lines = [offsets(ink.points)[1:] for ink in make_inks(texts[:2]) + make_inks(texts[2:], seed=3)]
    (found,) = make_trainer().validate(model, loader(batches), verbose=False)
    rate = character_error_rate(model.read(lines), texts)
    assert found["validation_character_error_rate"] == pytest.approx(rate, rel=1e-5)
    nats = sum(
        model.training_step(each, 0)["loss"].item() * int(each.text_lengths.sum())
        for each in batches
    )
    characters = sum(map(len, texts))
    assert found["validation_nats_per_character"] == pytest.approx(nats / characters, rel=1e-4)
    assert found["validation_unalignable_lines"] == 0


def test_reading_leaves_the_model_as_it_was_and_takes_any_number_of_lines():
    model = make_model(dropout=0.5).train()
    lines = [offsets(ink.points)[1:] for ink in make_inks(["abel"])]
    assert model.read(lines) == model.read(lines), "no dropout"
    assert model.training
    assert model.read([]) == []
    assert model.read([np.zeros((0, 3), np.float32)]) == [""]
    assert len(model.read(lines * 65)) == 65


def test_a_path_loses_repeats_and_then_blanks():
    model = make_model()
    path = torch.tensor([[5, 5, 0, 5, 2, 2, 1, 3], [0, 0, 3, 3, 0, 4, 4, 4]]).T
    scores = torch.nn.functional.one_hot(path, 6).float()
    assert model._decode(scores, torch.tensor([8, 8])) == ["lla b", "be"]
    assert model._decode(scores, torch.tensor([3, 2])) == ["l", ""], "the rest is padding"


def test_frames_that_ctc_needs():
    text = torch.tensor([[2, 5, 5, 0, 0], [5, 5, 5, 5, 2], [1, 2, 1, 2, 0], [3, 0, 0, 0, 0]])
    assert frames_needed(text, torch.tensor([3, 5, 4, 1])).tolist() == [4, 8, 4, 1]


def test_lines_with_too_few_frames_are_counted_and_left_out(make_trainer, loader):
    model = make_model(strides=[2, 2])
    good = make_batch(["abel"])
    short = make_inks(["a"])[0].points[:6]
    part = InkPart([make_inks(["abel"])[0], Ink("allab", short, "short", "form")], SPEC)
    both = part.__getitems__([0, 1])
    loss = model.training_step(both, 0)["loss"]
    assert loss.item() == pytest.approx(model.training_step(good, 0)["loss"].item(), rel=1e-5)
    (found,) = make_trainer().validate(model, loader([both]), verbose=False)
    assert found["validation_unalignable_lines"] == 1
    assert found["validation_nats_per_character"] == pytest.approx(loss.item(), rel=1e-5)
    # Five characters of nine are wrong at least: what cannot be aligned cannot be read either.
    assert found["validation_character_error_rate"] >= 3 / 9


def test_strides_too_great_for_the_data_are_refused():
    enough = SimpleNamespace(loader=lambda part: {"train": [make_batch(["all", "abel"])]}[part])
    make_model(strides=[2, 2]).start_from(enough)
    with pytest.raises(UserError, match=r"model.strides: \[16\] leave 2 of 2 .*smaller strides"):
        make_model(strides=[16]).start_from(enough)


@pytest.mark.parametrize(
    "options", [{"strides": []}, {"strides": [0]}, {"channels": 0}, {"augmentation": -1.0}]
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_model(**options)


def test_distances_by_hand():
    read = ["kitten", "", "abc", "same", "ab", "aab"]
    true = ["sitting", "abc", "", "same", "ba", "ab"]
    assert edit_distances(read, true).tolist() == [3, 3, 3, 0, 2, 1]
    assert character_error_rate(read, true) == pytest.approx(12 / 18)
    assert character_error_rate(["abcdef"], ["x"]) == 6, "may be more than all"
    assert edit_distances([], []).shape == (0,)
    with pytest.raises(ValueError, match="1 texts were read, but 2"):
        edit_distances(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="no true character"):
        character_error_rate(["a"], [""])


def test_bfloat16_reads_what_float32_reads():
    model, batch = make_model(strides=[2]).eval(), make_batch(["abel", "all ball"])
    exact, frames = model(batch.targets, batch.lengths)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = model(batch.targets, batch.lengths)
        loss = model.training_step(batch, 0)["loss"]
    assert rough.dtype == loss.dtype == torch.float32
    valid = valid_steps(frames, len(exact)).T
    torch.testing.assert_close(rough[valid], exact[valid], rtol=0, atol=0.03)
    assert (rough != exact).any(), "or nothing ran in bfloat16"
    assert loss.item() == pytest.approx(model.training_step(batch, 0)["loss"].item(), rel=0.01)


def test_a_checkpoint_reads_alike(tmp_path, make_trainer, loader):
    model = make_model(augmentation=1.0, optimization={"schedule": "constant"})
    trainer = make_trainer(max_epochs=1)
    batches = loader([make_batch(["abel", "all"])])
    trainer.fit(model, batches, batches)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = HandwritingRecognizer.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.hparams == model.hparams
    batch = make_batch(["abel", "all"])
    model.eval(), loaded.eval()
    assert torch.equal(
        loaded(batch.targets, batch.lengths)[0], model(batch.targets, batch.lengths)[0]
    )


def test_training_sees_other_hands_and_validation_the_true_ones():
    model, batch = make_model(augmentation=1.0), make_batch(["abel", "all ball"])
    torch.manual_seed(0)
    losses = {model.training_step(batch, 0)["loss"].item() for _ in range(3)}
    assert len(losses) == 3
    plain = make_model(augmentation=0.0)
    for each in (model, plain):
        each.validation_step(batch, 0)
    assert model.nats.compute() == plain.nats.compute()


def test_only_targets_are_read():
    model, batch = make_model(), make_batch(["abel", "all"])
    other = StrokeBatch(*batch)._replace(inputs=torch.full_like(batch.inputs, torch.nan))
    assert model.training_step(batch, 0)["loss"] == model.training_step(other, 0)["loss"]
    longer = pad_sequence([*batch.targets, torch.zeros(99, 3)], batch_first=True)[:2]
    padded = batch._replace(targets=longer)
    torch.testing.assert_close(
        model.training_step(batch, 0)["loss"], model.training_step(padded, 0)["loss"]
    )
