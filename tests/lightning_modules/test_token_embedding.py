import pytest
import torch

from lightning_modules.token_embedding import TokenEmbedding


@pytest.fixture
def make_embedding(make_text_spec):
    def make(**options):
        torch.manual_seed(0)
        return TokenEmbedding(make_text_spec(), **options)

    return make


@pytest.fixture
def tokens():
    """(40, 9) ids from 2 to 11, the last four columns padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 12, (40, 9), generator=generator)
    ids[:, 5:] = 0
    return ids


def test_a_fresh_one_is_small_random_and_zero_for_padding(make_embedding):
    weight = make_embedding().table.weight
    assert weight.shape == (12, 5)
    assert (weight[0] == 0).all()
    assert 0.05 < weight[1:].std() < 0.15


@pytest.mark.parametrize("vectors", ["tuned", "frozen", "frozen_then_tuned"])
def test_given_vectors_are_used_but_for_padding(vectors, make_embedding):
    embedding = make_embedding(vectors=vectors)
    trains = embedding.table.weight.requires_grad
    given = torch.arange(60.0).view(12, 5) + 1
    embedding.use_vectors(given)
    assert torch.equal(embedding(torch.tensor([[3, 11]]))[0], given[[3, 11]])
    assert (embedding.table.weight[0] == 0).all()
    assert embedding.table.weight.requires_grad is trains
    assert given[0].tolist() == [1, 2, 3, 4, 5]  # the caller's are left as they were


def test_vectors_that_do_not_fit_are_refused(make_embedding):
    embedding = make_embedding()
    for shape in [(11, 5), (12, 4), (60,)]:
        with pytest.raises(ValueError, match=r"shape \(12, 5\).* not"):
            embedding.use_vectors(torch.ones(shape))
    with pytest.raises(ValueError, match="finite"):
        embedding.use_vectors(torch.full((12, 5), torch.nan))


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ("tuned", [True, True, True, True]),
        ("frozen", [False, False, False, False]),
        ("frozen_then_tuned", [False, False, True, True]),
    ],
)
def test_the_epochs_in_which_it_trains(vectors, expected, make_embedding):
    embedding = make_embedding(vectors=vectors, thaw_epoch=2)
    seen = []
    for epoch in range(4):
        embedding.start_epoch(epoch)
        seen.append(embedding.table.weight.requires_grad)
    assert seen == expected
    assert embedding.ever_trains is any(expected)


def test_padding_gets_no_gradient(make_embedding, tokens):
    embedding = make_embedding()
    embedding(tokens).sum().backward()
    gradient = embedding.table.weight.grad
    assert (gradient[0] == 0).all() and (gradient[2:] > 0).all()


def test_word_dropout_makes_tokens_unknown(make_embedding, tokens):
    embedding = make_embedding(word_dropout=0.25)
    embedding.use_vectors(torch.arange(12.0).unsqueeze(1).expand(12, 5))  # each id its own vector
    assert torch.equal(embedding.eval()(tokens)[:, :, 0].long(), tokens)
    embedding.train()
    torch.manual_seed(4)
    seen = embedding(tokens)[:, :, 0].long()
    torch.manual_seed(4)
    dropped = torch.rand(40, 9) < 0.25
    assert torch.equal(seen, torch.where(dropped & (tokens != 0), 1, tokens))
    assert 0.15 < (seen[:, :5] == 1).float().mean() < 0.35
    assert (seen[:, 5:] == 0).all()
    assert not torch.equal(embedding(tokens)[:, :, 0].long(), seen)


def test_dropout_takes_a_dimension_from_all_tokens_of_a_text(make_embedding, tokens):
    embedding = make_embedding(dropout=0.2)
    plain = embedding.eval()(tokens)[:, :5]
    dropped = embedding.train()(tokens)[:, :5]
    scale = dropped / plain
    torch.testing.assert_close(scale, scale[:, :1].expand_as(scale))
    kept = scale[:, 0] > 0.5
    torch.testing.assert_close(scale[:, 0], kept * 1.25)
    assert 0.7 < kept.float().mean() < 0.9
    assert len({tuple(row) for row in kept.tolist()}) > 5  # each text its own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": "fixed"}, "model.vectors is 'fixed': it must be one of tuned, frozen, froz"),
        ({"vectors": "frozen_then_tuned", "thaw_epoch": 0}, "model.thaw_epoch is 0: .*at least 1"),
        ({"word_dropout": 1.0}, "model.word_dropout is the probability"),
        ({"dropout": -0.1}, "model.embedding_dropout is the probability"),
    ],
)
def test_messages(options, message, make_embedding):
    with pytest.raises(ValueError, match=message):
        make_embedding(**options)
