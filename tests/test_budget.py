"""Who may use how much of the detector: shares, and a bound on what a turn can last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.budget import Budget, allot


@pytest.mark.parametrize(
    ("wanted", "shares", "most", "given"),
    [
        ([3, 3], [1, 1], 100, [3, 3]),
        ([10, 10], [1, 1], 10, [5, 5]),
        ([10, 10], [3, 1], 8, [6, 2]),
        ([2, 10], [1, 1], 10, [2, 8]),  # what one leaves, the other gets
        ([10, 10, 10], [1, 1, 1], 0, [1, 1, 1]),  # nobody gets nothing
        ([0, 5], [1, 1], 3, [0, 3]),
        ([], [], 5, []),
    ],
)
def test_tiles_are_divided_by_share(wanted: list[int], shares: list[float], most: int, given: list[int]) -> None:
    assert allot(wanted, shares, most) == given


@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(0.1, 10)), max_size=12),
    st.integers(0, 200),
)
def test_no_tile_is_lost_and_none_is_given_twice(rows: list[tuple[int, float]], most: int) -> None:
    wanted, shares = [want for want, _ in rows], [share for _, share in rows]
    got = allot(wanted, shares, most)
    assert all(min(want, 1) <= mine <= want for want, mine in zip(wanted, got, strict=True))
    least = sum(min(want, 1) for want in wanted)
    assert sum(got) == min(sum(wanted), max(most, least))


def test_a_turn_is_as_long_as_the_fastest_camera_asks_for() -> None:
    budget = Budget()
    assert budget.turn_s([1 / 25, 1 / 5, None]) == pytest.approx(1 / 25)
    assert budget.turn_s([1 / 500]) == pytest.approx(0.02)
    assert budget.turn_s([2.0]) == pytest.approx(0.1)
    assert Budget(turn_s=0.3).turn_s([1 / 25]) == pytest.approx(0.3)


def test_costs_are_learned_and_one_hiccup_teaches_nothing() -> None:
    budget = Budget()
    for cost_s in [0.01] * 10 + [3.0] + [0.01] * 10:
        budget.tile.add(cost_s)
        budget.frame.add(0.005)
    assert budget.tiles(2, 0.1) == 8  # 0.9 * 100 ms - 2 * 5 ms, in tiles of 10 ms
    assert budget.streams(20, 0.1) == 6
    assert budget.streams(20, 0.001) == 1
