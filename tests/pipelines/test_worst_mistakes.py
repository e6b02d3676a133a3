import numpy as np

from pipelines.worst_mistakes import worst_mistakes

TEXTS = ["right", "wrong & sure", "wrong", "half <b>", "wrong & sure too"]
LABELS = np.array([0, 1, 0, 1, 0])
OF_CLASS_1 = np.array([[0.1, 0.1, 0.6, 0.9, 0.9], [0.2, 0.0, 0.8, 0.0, 0.9]])
PROBABILITIES = np.stack([1 - OF_CLASS_1, OF_CLASS_1], axis=2)


def test_the_surest_mistakes_come_first():
    found = worst_mistakes(TEXTS, LABELS, PROBABILITIES, ["bad", "good"])
    assert list(found.columns) == ["text", "label", "predicted", "confidence", "seeds wrong"]
    assert found.iloc[0].tolist() == ["wrong & sure", "good", "bad", 0.95, "2 of 2"]
    assert found["text"].tolist() == ["wrong & sure", "wrong & sure too", "wrong", "half <b>"]
    assert np.allclose(found["confidence"], [0.95, 0.9, 0.7, 0.55])
    # The seeds disagree: together they are wrong, one of them is right.
    assert found["seeds wrong"].tolist() == ["2 of 2", "2 of 2", "2 of 2", "1 of 2"]


def test_no_more_are_listed_than_asked_for_or_than_there_are():
    found = worst_mistakes(TEXTS, LABELS, PROBABILITIES, ["bad", "good"], count=2)
    assert found["text"].tolist() == ["wrong & sure", "wrong & sure too"]
    none = worst_mistakes(TEXTS[:1], LABELS[:1], PROBABILITIES[:, :1], ["bad", "good"])
    assert none.empty and len(none.columns) == 5
