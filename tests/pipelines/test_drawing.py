import pytest
from matplotlib.figure import Figure

from pipelines.drawing import readable_log, tick


def labels(low, high):
    """Returns the numbers that a log axis shows, by their labels."""
    axes = Figure().add_subplot()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    readable_log(axes)
    axes.figure.draw_without_rendering()
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    shown = {each.label1.get_text(): each.get_loc() for each in ticks if each.label1.get_text()}
    return {text: place for text, place in shown.items() if low <= place <= high}


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.41, 0.48), (0.0031, 0.0047), (1.1, 1.9), (0.31, 0.95), (2.1, 4.9), (0.9, 1e4), (7, 8e2)],
)
def test_any_range_can_be_read(low, high):
    found = labels(low, high)
    assert len(found) >= 3
    for text, place in found.items():
        assert float(text.replace(",", "")) == pytest.approx(place)


def test_wide_ranges_have_round_numbers():
    assert set(labels(0.08, 40)) == {"0.1", "1", "10"}
    assert set(labels(0.6, 14)) == {"1", "2", "3", "5", "10"}
    assert set(labels(7, 150)) == {"10", "20", "30", "50", "100"}


def test_ticks_are_plain():
    assert [tick(each) for each in (0.00001, 0.42500000000000004, 1.25, 1000, 12500)] == [
        "0.00001",
        "0.425",
        "1.25",
        "1,000",
        "12,500",
    ]
