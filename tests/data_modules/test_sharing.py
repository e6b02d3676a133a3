import pytest
import torch

from data_modules import sharing
from data_modules.errors import UserError
from data_modules.sharing import EvaluationShare, Idle, TrainingShare


class Rows:
    def __getitems__(self, rows):
        return list(rows)


def each_process(monkeypatch, count, make):
    """Returns what every one of so many processes makes."""
    made = []
    for rank in range(count):
        monkeypatch.setattr(sharing, "world", lambda rank=rank: (rank, count))
        made.append(make())
    return made


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
def test_every_row_is_worked_on_once(monkeypatch, count, size):
    batch = list(range(10, 10 + size))
    shares = each_process(monkeypatch, count, lambda: TrainingShare(Rows()).__getitems__(batch))
    working = [share for share in shares if not isinstance(share, Idle)]
    assert sorted(sum(working, [])) == batch
    assert len(working) == min(count, size)
    assert max(map(len, working)) - min(map(len, working)) <= 1
    # Whoever has none takes part with a row that does not count.
    assert all(share.batch == [10] for share in shares if isinstance(share, Idle))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_row_is_evaluated_once(monkeypatch, count):
    batches = [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    shares = each_process(monkeypatch, count, lambda: EvaluationShare(batches))
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(9))
    assert all(len(share) == len(list(share)) and all(share) for share in shares)


def test_a_process_without_anything_to_evaluate_is_refused(monkeypatch):
    monkeypatch.setattr(sharing, "world", lambda: (0, 4))
    with pytest.raises(UserError, match="fewer devices, or a larger data.evaluation_batch_size"):
        EvaluationShare([[0, 1, 2], [3]])


def test_random_numbers_of_each_process_are_its_own(monkeypatch):
    torch.manual_seed(1)
    states = [sharing.random_state()]
    first = torch.rand(3)
    torch.manual_seed(2)
    states.append(sharing.random_state())
    second = torch.rand(3)
    for rank, expected in enumerate((first, second)):
        monkeypatch.setattr(sharing, "world", lambda rank=rank: (rank, 2))
        sharing.set_random_state(states)
        assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    monkeypatch.setattr(sharing, "world", lambda: (2, 3))  # one that was not there before
    sharing.set_random_state(states)
    assert torch.equal(torch.rand(3), expected)


def test_one_process_speaks_with_itself():
    assert sharing.world() == (0, 1)
    assert sharing.from_first("a") == "a"
    assert sharing.from_all("a") == ["a"]
