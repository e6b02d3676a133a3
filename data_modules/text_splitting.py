"""How labelled texts are divided: by whole groups, by class, by seed.

Shapes: N texts, G groups, K classes, P parts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def connected_groups(*keys: np.ndarray) -> np.ndarray:
    """Numbers the groups of texts which must not be divided.

    Two texts that share any key are in one group, and so are those that share one with either.

    Args:
        keys: One or more arrays of keys (N,), such as hashes of text and of author. A key of 0
            is none, and joins nothing.

    Returns:
        Number of each text's group (N,), int64, counted from 0 in the order of first appearance.
    """
    count = len(keys[0])
    nodes = count
    rows, columns = [], []
    for key in keys:
        used = np.flatnonzero(key)
        _, codes = np.unique(key[used], return_inverse=True)
        rows.append(used)
        columns.append(nodes + codes)
        nodes += int(codes.max(initial=-1)) + 1
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    _, first, group = np.unique(component[:count], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[group]


def divide(
    groups: np.ndarray, labels: np.ndarray, shares: Sequence[float], seed: int
) -> list[np.ndarray]:
    """Divides texts among parts by whole groups, each class in the same shares.

    Groups of several texts are placed one by one, the largest first, where they fill the greatest
    need; the groups of one text then fill what is left of each class.

    Args:
        groups: Number of each text's group (N,).
        labels: Number of each text's class (N,).
        shares: Share of each part (P), which sum to 1.
        seed: Decides which texts go where.

    Returns:
        Row numbers of each part, in rising order.
    """
    generator = np.random.default_rng(seed)
    classes = int(labels.max(initial=0)) + 1  # one, of no texts at all
    count = int(groups.max(initial=-1)) + 1
    counts = np.zeros((count, classes), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    sizes = counts.sum(axis=1)
    # Shuffled first, so that the seed decides among groups of one size.
    order = generator.permutation(count)
    order = order[np.argsort(-sizes[order], kind="stable")]
    target = np.asarray(shares)[:, None] * counts.sum(axis=0)  # (P, K)
    need = target.copy()
    target = np.maximum(target, 1e-9)
    part_of = np.empty(count, dtype=np.int64)
    several = int((sizes > 1).sum())
    for group in order[:several]:
        of_class = counts[group]
        part = int((((need - of_class) / target) @ of_class).argmax())
        part_of[group] = part
        need[part] -= of_class
    single = order[several:]
    class_of = counts[single].argmax(axis=1)
    rounding = np.zeros(len(shares))
    for number in range(classes):
        members = single[class_of == number]
        wanted = np.maximum(need[:, number], 0)
        wanted = wanted if wanted.sum() > 0 else np.asarray(shares)
        exact = np.cumsum(wanted) / wanted.sum() * len(members)
        # What rounding takes from a part in one class it gets in the next.
        ends = np.maximum.accumulate(np.rint(exact + rounding).clip(0, len(members)))
        rounding += exact - ends
        for part, chunk in enumerate(np.split(members, ends[:-1].astype(int))):
            part_of[chunk] = part
    return [np.flatnonzero(part_of[groups] == part) for part in range(len(shares))]


def subsample(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draws the same share of each class.

    Args:
        labels: Number of each text's class (N,).
        fraction: Share to keep.
        seed: Decides which.

    Returns:
        Row numbers, in rising order; at least one of each class.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for number in range(int(labels.max(initial=-1)) + 1):
        members = np.flatnonzero(labels == number)
        size = min(len(members), max(1, round(fraction * len(members))))
        chosen.append(generator.permutation(members)[:size])
    return np.sort(np.concatenate(chosen))


def split_digest(description: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> str:
    """Identifies split data: 16 hexadecimal digits, the same in every process.

    Args:
        description: Sources and classes, in plain values.
        rows: Row numbers of each part in its source.
    """
    sizes = {part: len(numbers) for part, numbers in rows.items()}
    text = json.dumps({"data": description, "rows": sizes}, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for part in sorted(rows):
        digest.update(np.ascontiguousarray(rows[part], dtype="<i8").tobytes())
    return digest.hexdigest()[:16]
