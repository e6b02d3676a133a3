import re

import numpy as np
import pytest

from data_modules.errors import UserError
from pipelines.writing.gcode import to_gcode
from pipelines.writing.page import Line, Page


def plotted(program):
    """What a plotter draws: the points it passes with the pen down, stroke by stroke."""
    strokes, down, place = [], False, (0.0, 0.0)
    for line in program.splitlines():
        if line.startswith(";"):
            continue
        words = dict(re.findall(r"([A-Z])(-?[\d.]+)", line))
        assert re.fullmatch(r"([A-Z]-?\d+(\.\d+)?)( [A-Z]-?\d+(\.\d+)?)*", line)
        if "Z" in words:
            lowered = float(words["Z"]) <= 0
        elif "M" in words and words["M"] in "35":
            lowered = words["M"] == "3"
        else:
            lowered = down
        if lowered and not down:
            strokes.append([place])
        down = lowered
        if "X" in words:
            place = (float(words["X"]), float(words["Y"]))
            assert down == (words["G"] == "1")
            if down:
                strokes[-1].append(place)
    assert not down
    return [np.array(stroke) for stroke in strokes]


@pytest.mark.parametrize("lift", ["z", "servo"])
def test_a_plotter_draws_the_strokes(page, lift):
    strokes = plotted(to_gcode(page, body_height=2, lift=lift, down=0))
    assert len(strokes) == len(page.strokes)
    for drawn, stroke in zip(strokes, page.strokes, strict=True):
        # Upwards from the bottom left corner, in millimetres.
        expected = stroke * [2, -2] + [0, 2 * page.height]
        fine = np.concatenate([
            np.linspace(a, b, 30) for a, b in zip(drawn, drawn[1:], strict=False)
        ])  # fmt: skip
        assert np.linalg.norm(expected[:, None] - fine, axis=2).min(1).max() < 0.1
        assert np.allclose(drawn[[0, -1]], expected[[0, -1]], atol=0.001)


def test_units_feeds_and_end(page):
    lines = to_gcode(page, draw_feed=900, travel_feed=4000, up=5, down=-0.2).splitlines()
    commands = [line for line in lines if not line.startswith(";")]
    assert commands[:3] == ["G21", "G90", "G1 Z5 F4000"]
    assert commands[-3:] == ["G1 Z5 F4000", "G0 X0 Y0", "M2"]
    assert "G1 Z-0.2 F4000" in commands
    assert any(re.fullmatch(r"G1 X\S+ Y\S+ F900", line) for line in commands)


def test_a_servo_is_waited_for(page):
    program = to_gcode(page, lift="servo", down=90)
    assert program.count("M3 S90\nG4 P0.15\n") == len(page.strokes)
    assert program.count("M5\nG4 P0.15\n") == len(page.strokes) + 1
    assert "Z" not in program.split("G21")[1]


def test_a_text_cannot_command():
    text = "(a) ; M3 S90\rG1 Z-9\x85%é\n\nb"
    program = to_gcode(Page([Line(text, [np.array([[0, 0], [1, 1.0]])])], 3, 3))
    head = program.split("G21")[0]
    assert all(line.startswith("; ") for line in head.splitlines())
    assert not set("()%\r\x85") & set(program)
    assert program.isascii()
    assert plotted(program)[0].shape[1] == 2


@pytest.mark.parametrize(
    "options, name",
    [
        ({"lift": "laser"}, "lift"),
        ({"up": 0.0}, "up"),
        ({"draw_feed": 0.0}, "draw_feed"),
        ({"travel_feed": float("nan")}, "travel_feed"),
    ],
)
def test_wrong_options_are_named(page, options, name):
    with pytest.raises(UserError, match=name):
        to_gcode(page, **options)
