"""The generator below makes paths as a window of K Gaussians takes them, with known faults."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from pipelines.writing.window_path import judge, window_path

USUAL = 22.0
CENTRES = 10
WORDS = (
    "the of and a to in is you that it he was for on are as with his they I at be this have from "
    "or one had by word but not what all were we when your can said there use an each which she "
    "do how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people Mr. No, yes; 1961 first"
).split()
NARROW, WIDE = set(".,;:'!iljft1I"), set("mwMWQGHK@")
KINDS = ["skipped", "repeated", "looped", "unfinished", "rushed"]


def sentence(rng):
    text = " ".join(rng.choice(WORDS, rng.integers(3, 14)))
    return text[:70].strip()


def dwell_times(rng, text):
    """Points for each character: narrow ones have few, spaces hardly any, and all vary."""
    size = np.array([
        0.45 if c.isspace() else 0.5 if c in NARROW else 1.5 if c in WIDE else 1.0 for c in text
    ])  # fmt: skip
    pace = USUAL * rng.lognormal(0, 0.15)
    return np.maximum(pace * size * rng.lognormal(0, 0.35, len(text)), 3.0)


def walk(segments):
    """Position after each step of a window that spends given times on given stretches."""
    times = np.cumsum([0.0] + [time for _, _, time in segments])
    steps = np.arange(1, int(times[-1]) + 1)
    index = np.clip(np.searchsorted(times, steps) - 1, 0, len(segments) - 1)
    begin, end, time = np.array(segments).T
    share = (steps - times[index]) / np.maximum(time[index], 1e-9)
    return begin[index] + (end - begin)[index] * share


def window_on(rng, path, length):
    """Weights of the characters in a window of Gaussians around a path (Graves, eq. 46-51)."""
    blurred = rng.random() < 0.3
    widths = rng.uniform(0.9, 1.6, CENTRES) if blurred else rng.uniform(0.3, 0.9, CENTRES)
    beside = rng.normal(0, 0.3, CENTRES)
    noise = gaussian_filter1d(rng.normal(size=(len(path), CENTRES)), 8, axis=0) * 3
    strength = np.exp(rng.normal(0, 1, CENTRES) + 0.5 * noise)
    strength *= rng.uniform(0.5, 2) / strength.sum(1, keepdims=True)
    centres = path[:, None] + beside
    away = (centres[:, :, None] - np.arange(length + 1)) / widths[:, None]
    return np.einsum("tk,tku->tu", strength, np.exp(-(away**2) / 2))


def written(rng, kind=None):
    """Returns window, text, whether it finished, and the stretch with the fault."""
    text = sentence(rng)
    length = len(text)
    dwell = dwell_times(rng, text)
    typical = np.median(dwell)
    start, end = 0, length
    if kind == "skipped":
        visible = [i for i in range(length) if not text[i].isspace()]
        start = int(rng.choice(visible))
        end = min(start + int(rng.integers(1, 6)), length)
        dwell[start:end] *= rng.uniform(0, 0.05)
    elif kind == "looped":
        start = int(rng.integers(length))
        end = start + 1
        dwell[start] = typical * rng.uniform(6, 20)
    elif kind == "rushed":
        dwell *= rng.uniform(0.05, 0.3)
    segments = [(i - 0.5, i + 0.5, dwell[i]) for i in range(length)]
    if kind == "repeated":
        end = int(rng.integers(2, length + 1))
        start = max(0, end - int(rng.integers(1, 7)))
        start -= text[start:end].isspace()  # a space that is written twice cannot be seen
        back = (end - 0.5, start - 0.5, rng.uniform(1, 5))
        segments = segments[:end] + [back] + segments[start:]
    elif kind == "unfinished":
        start = int(rng.integers(length))
        end = start + 1
        segments = segments[:start] + [(start - 0.5, start + 0.3, rng.uniform(3, 40) * USUAL)]
    path = gaussian_filter1d(walk(segments), rng.uniform(0.3, 1.5), mode="nearest")
    return window_on(rng, path, length), text, kind != "unfinished", (start, end)


def found(verdict, kind, start, end):
    """Whether the fault is told by its kind and where it is."""
    kind = {"unfinished": "runaway", "rushed": "runaway"}.get(kind, kind)
    return any(
        problem.kind == kind and problem.start < end and problem.end > start
        for problem in verdict.problems
    )


def test_faults_are_told_from_sound_paths():
    # The thresholds were chosen on other seeds.
    rng = np.random.default_rng(0)
    each, sound = 50, 250
    told, named, astray = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), 0
    for kind in KINDS:
        for _ in range(each):
            window, text, finished, (start, end) = written(rng, kind)
            verdict = judge(window, text, finished, USUAL)
            told[kind] += not verdict.ok
            named[kind] += found(verdict, kind, start, end)
            astray += any(p.start > end or p.end < start for p in verdict.problems)
    alarms = sum(not judge(*written(rng)[:3], USUAL).ok for _ in range(sound))
    recall = sum(told.values()) / (each * len(KINDS))
    precision = sum(told.values()) / (sum(told.values()) + alarms)
    print(
        f"precision {precision:.3f}, recall {recall:.3f}, by kind {told}, named {named}, {astray}"
    )
    assert precision >= 0.95
    assert recall >= 0.95
    assert min(named.values()) >= 0.85 * each
    assert sum(named.values()) >= 0.93 * each * len(KINDS)
    assert astray <= 0.05 * each * len(KINDS)


def even(text, stretches=None, points=20):
    """A sharp window that takes equally long for each character, or goes over given stretches."""
    length = len(text)
    segments = stretches or [(-0.5, length - 0.5, points * length)]
    path = np.append(walk(segments), [length - 0.4] * 3)
    return np.exp(-((path[:, None] - np.arange(length + 1)) ** 2) / 0.5)


def told(text, stretches=None, finished=True):
    return str(judge(even(text, stretches), text, finished, 20.0))


@pytest.mark.parametrize("text", ["a", "hello", "a  b", " leading", "trailing ", "I'm $5 <b>", "é"])
def test_an_even_path_is_as_asked(text):
    verdict = judge(even(text), text, True, 20.0)
    assert verdict.ok
    assert verdict.problems == []
    assert str(verdict) == "written as asked"


def test_what_was_skipped_is_named():
    text = "oh hello you"
    go = [(-0.5, 4.5, 100), (4.5, 6.5, 0.5), (6.5, 11.5, 100)]
    assert told(text, go) == "the letters 'll' in 'hello' were skipped"
    go = [(-0.5, 4.5, 100), (4.5, 5.5, 0.5), (5.5, 11.5, 120)]
    assert told(text, go) == "the letter 'l' in 'hello' was skipped"
    assert told(text, [(-0.5, 2.5, 60), (2.5, 7.5, 1), (7.5, 11.5, 80)]) == (
        "the word 'hello' was skipped"
    )
    # The space between skipped words is told with them, the one before them is not.
    text = "all of us go on"
    assert told(text, [(-0.5, 8.5, 180), (8.5, 14.5, 2)]) == "the words 'go on' were skipped"
    assert told("1, 2", [(-0.5, 0.5, 20), (0.5, 1.5, 0.5), (1.5, 3.5, 40)]) == (
        "the character ',' in '1,' was skipped"
    )


def test_spaces_may_be_passed_quickly():
    text = "oh you"
    assert told(text, [(-0.5, 1.5, 40), (1.5, 2.5, 0.5), (2.5, 5.5, 60)]) == "written as asked"


def test_what_was_repeated_is_named():
    text = "oh hello"
    go = [(-0.5, 5.5, 120), (5.5, 3.5, 2), (3.5, 7.5, 80)]
    verdict = judge(even(text, go), text, True, 20.0)
    (problem,) = verdict.problems
    assert problem.kind == "repeated"
    assert text[problem.start : problem.end] in ("el", "ell")
    assert "in 'hello' were written again" in problem.words


def test_a_pen_that_is_caught_is_told_once_and_where():
    text = "oh hello"
    caught = [(-0.5, 3.5, 80), (3.5, 4.5, 200), (4.5, 7.5, 60)]
    assert told(text, caught) == "the pen was caught in the letter 'e' in 'hello'"
    hangs = even(text, [(-0.5, 3.5, 80), (3.5, 4.4, 400)])[:-3]
    verdict = judge(hangs, text, False, 20.0)
    assert str(verdict) == "the pen did not get past the letter 'e' in 'hello'"
    assert [problem.kind for problem in verdict.problems] == ["runaway"]


def test_what_the_pen_did_not_reach_was_not_skipped():
    text = "oh hello you and everybody else there"
    begins = [(-0.5, 3.5, 80), (3.5, 4.5, 0.5), (4.5, 7.5, 60), (7.5, 9.2, 300)]
    verdict = judge(even(text, begins)[:-3], text, False, 20.0)
    assert [problem.words for problem in verdict.problems] == [
        "the letter 'e' in 'hello' was skipped",
        "the pen did not get past the letter 'y' in 'you'",
    ]
    at_once = judge(even(" a")[:1], " a", False, 20.0)
    assert str(at_once) == "the pen did not get past the space at the start"


def test_a_slow_writer_is_no_fault_and_a_rush_is():
    text = "hello you"
    slow = judge(even(text, points=38), text, True, 20.0)
    fast = judge(even(text, points=12), text, True, 20.0)
    rush = judge(even(text, points=4), text, True, 20.0)
    assert slow.ok and fast.ok
    assert [problem.kind for problem in rush.problems] == ["runaway"]
    assert "was rushed through: 4 points a character, where 20 are usual" in str(rush)


def test_one_character_has_no_neighbours_to_be_judged_by():
    assert "caught in the letter 'a'" in told("a", [(-0.5, 0.5, 300)])


def test_thresholds_are_arguments():
    text = "oh hello"
    window = even(text, [(-0.5, 3.5, 80), (3.5, 4.5, 60), (4.5, 7.5, 60)])
    assert judge(window, text, True, 20.0).ok
    assert not judge(window, text, True, 20.0, looped=2.5).ok
    assert not judge(window, text, True, 20.0, rushed=1.2).ok
    assert not judge(window, text, True, 20.0, skipped=1.2).ok


def test_steps_without_any_weight_stay_where_the_window_was():
    window = np.eye(4)[[0, 1, 2, 3]]
    window[[0, 2]] = 0
    assert window_path(window, 0).tolist() == [1, 1, 1, 3]
    assert window_path(np.zeros((3, 4)), 0).tolist() == [0, 0, 0]


def test_a_text_of_spaces_needs_nothing():
    assert judge(np.zeros((3, 3)), "  ", True, 20.0).ok


def test_a_window_of_another_text_is_refused():
    with pytest.raises(ValueError, match="5 characters"):
        judge(np.zeros((3, 4)), "hello", True, 20.0)
