import numpy as np
import pytest

from pipelines.writing.page import lay_out


def letters(count, start=0.0, slope=0.0):
    """Connected arches, one body height tall, on a baseline y = slope * x; every fifth hangs."""
    points = []
    for i in range(count):
        angle = np.linspace(0, np.pi, 12)
        depth = 1.0 if i % 5 == 4 else 0.0
        x = start + i + 0.4 * (1 - np.cos(angle))
        y = -np.sin(angle) + depth * np.linspace(0, 1, 12) ** 4
        points.append(np.stack([x, y, np.eye(12)[-1]], axis=1))
    line = np.concatenate(points)
    line[:, 1] += slope * line[:, 0]
    return line


@pytest.fixture
def make_letters():
    return letters


@pytest.fixture
def dot():
    return np.array([[3.0, -1.0, 1.0]])


@pytest.fixture
def page(dot):
    """Two lines with an empty one between them, and a dot at the end."""
    lines = [letters(8), np.zeros((0, 3)), np.concatenate([letters(4), dot])]
    return lay_out(["minimum <b> & é", "", "nun."], lines)
