"""The pairing against every possible pairing, and against a full matrix at sizes where that is hopeless."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from streamdet.tracking import assignment
from streamdet.tracking.assignment import assign, candidates


def _total(row, column, cost, chosen_row, chosen_column, alone):
    price = {(int(i), int(j)): float(c) for i, j, c in zip(row, column, cost)}
    pairs = list(zip(chosen_row.tolist(), chosen_column.tolist()))
    assert len(set(chosen_row.tolist())) == len(pairs) == len(set(chosen_column.tolist()))
    return sum(price[pair] - alone for pair in pairs)


def _brute_force(row, column, cost, alone):
    """The lowest total over all ways to give each row one of the columns or none."""
    price = {(int(i), int(j)): float(c) for i, j, c in zip(row, column, cost)}
    rows, columns = sorted(set(row.tolist())), sorted(set(column.tolist()))
    slots = columns + [None] * len(rows)
    return (
        min(
            sum(min(0.0, price.get((i, j), alone) - alone) for i, j in zip(rows, choice) if j is not None)
            for choice in permutations(slots, len(rows))
        )
        if rows
        else 0.0
    )


@pytest.mark.parametrize("dense_cells", [4096, 0], ids=["dense", "sparse"])
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.floats(0.2, 1))
def test_no_pairing_is_cheaper(dense_cells: int, seed: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    row, column = np.nonzero(rng.random((height, width)) < share)
    cost = rng.choice([0.0, 0.25, 0.5, 0.9, 1.2], len(row)) + rng.choice([0, 1], len(row)) * rng.random(len(row)) * 0.1
    before, assignment.DENSE_CELLS = assignment.DENSE_CELLS, dense_cells
    try:
        chosen = assign(row, column, cost)
    finally:
        assignment.DENSE_CELLS = before
    assert _total(row, column, cost, *chosen, 1.0) == pytest.approx(_brute_force(row, column, cost, 1.0))


def test_sparse_equals_full_matrix_in_a_crowd() -> None:
    rng = np.random.default_rng(1)
    here, there = rng.uniform(0, 600, (700, 2)), rng.uniform(0, 600, (650, 2))
    row, column, distance = candidates(here, np.full(700, 60.0), there, nearest=650)
    cost = distance / 60
    full = np.ones((700, 650))
    full[row, column] = cost
    i, j = linear_sum_assignment(full)
    best = (full[i, j] - 1).sum()
    assert _total(row, column, cost, *assign(row, column, cost), 1.0) == pytest.approx(best)


def test_candidates_are_those_within_each_ones_own_radius() -> None:
    rng = np.random.default_rng(2)
    here, there, radius = rng.uniform(0, 100, (40, 2)), rng.uniform(0, 100, (30, 2)), rng.uniform(0, 60, 40)
    row, column, distance = candidates(here, radius, there, nearest=30)
    gap = np.linalg.norm(here[:, None] - there[None], axis=2)
    assert set(zip(row.tolist(), column.tolist())) == set(zip(*np.nonzero(gap <= radius[:, None])))
    np.testing.assert_allclose(distance, gap[row, column])
    few = candidates(here, radius, there, nearest=3)
    assert np.bincount(few[0]).max() == 3
    for i in range(40):
        np.testing.assert_allclose(np.sort(few[2][few[0] == i]), np.sort(gap[i][gap[i] <= radius[i]])[:3])


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (5, 0), (3, 1), (1, 1)])
def test_few_or_none(n: int, m: int) -> None:
    row, column, distance = candidates(np.zeros((n, 2)), np.full(n, 5.0), np.ones((m, 2)))
    chosen = assign(row, column, distance / 5)
    assert len(chosen[0]) == min(n, m)


def test_zero_radius_still_finds_the_very_same_point() -> None:
    row, _, _ = candidates(np.zeros((1, 2)), np.zeros(1), np.zeros((1, 2)))
    assert len(row) == 1
