import pytest
import torch

from lightning_modules.pooling import POOLINGS, AttentionPooling

FEATURES = torch.tensor(
    [
        [[1.0, -4.0], [3.0, -2.0], [2.0, -9.0]],
        [[5.0, -1.0], [7.0, 7.0], [8.0, 8.0]],
        [[6.0, 6.0], [7.0, 7.0], [8.0, 8.0]],
    ]
)
MASK = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])


def make_attention():
    torch.manual_seed(0)
    pooling = AttentionPooling(2)
    torch.nn.init.normal_(pooling.context)
    torch.nn.init.normal_(pooling.hidden.bias)
    return pooling


EVERY = {**POOLINGS, "attention": make_attention()}
every_pooling = pytest.mark.parametrize("pool", EVERY.values(), ids=EVERY)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("last", [[2.0, -9.0], [5.0, -1.0], [0.0, 0.0]]),
        ("mean", [[2.0, -5.0], [5.0, -1.0], [0.0, 0.0]]),
        ("max", [[3.0, -2.0], [5.0, -1.0], [0.0, 0.0]]),
    ],
)
def test_values(name, expected):
    assert POOLINGS[name](FEATURES, MASK).tolist() == expected


@every_pooling
def test_what_does_not_belong_to_a_text_changes_nothing_and_gets_no_gradient(pool):
    features = FEATURES.clone().requires_grad_()
    pooled = pool(features, MASK)
    pooled.square().sum().backward()
    assert (features.grad[~MASK] == 0).all()
    assert features.grad[MASK].abs().sum() > 0 and features.grad.isfinite().all()
    other = FEATURES.masked_fill(~MASK.unsqueeze(2), 1e6)
    assert torch.equal(pool(other, MASK), pooled)


@every_pooling
def test_more_padding_changes_nothing(pool):
    longer = torch.cat([FEATURES, torch.full((3, 4, 2), 1e6)], dim=1)
    mask = torch.cat([MASK, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(pool(longer, mask), pool(FEATURES, MASK))


@every_pooling
def test_texts_without_any_feature_give_zeros(pool):
    features = torch.empty(3, 0, 2, requires_grad=True)
    pooled = pool(features, torch.empty(3, 0, dtype=torch.bool))
    assert pooled.tolist() == [[0.0, 0.0]] * 3
    assert pool(FEATURES, MASK & False).tolist() == [[0.0, 0.0]] * 3


def test_the_attention_of_each_text_is_equations_5_to_7():
    pooling = make_attention()
    weights = pooling.weights(FEATURES, MASK)
    for row, count in enumerate([3, 1]):
        text = FEATURES[row, :count]
        units = torch.tanh(text @ pooling.hidden.weight.T + pooling.hidden.bias)
        scores = (units @ pooling.context).exp()
        expected = scores / scores.sum()
        torch.testing.assert_close(weights[row, :count], expected)
        pooled = pooling(FEATURES, MASK)[row]
        torch.testing.assert_close(pooled, (expected.unsqueeze(1) * text).sum(0))
    assert (weights[~MASK] == 0).all()
    assert len(set(weights[0].tolist())) == 3


def test_fresh_attention_is_the_mean():
    torch.testing.assert_close(
        AttentionPooling(2)(FEATURES, MASK), POOLINGS["mean"](FEATURES, MASK)
    )
