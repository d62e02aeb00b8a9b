"""Who is who: the cheapest pairing of tracks and detections out of a few candidates each.

Only pairs near enough to be possible are ever looked at (a k-d tree finds them, where it pays), so the work grows with the
number of objects and not with its square. The pairing is optimal: no other choice among the candidates has a lower total of
pair costs and penalties for those left alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

__all__ = ["assign", "candidates"]

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]

DENSE_CELLS = 4096  # up to this size a full matrix is faster than a sparse one


def candidates(position: F64, radius_px: F64, points: F64, *, nearest: int = 8) -> tuple[Rows, Rows, F64]:
    """Pairs of a position (N,2) and a point (M,2) no further apart than the position's own `radius_px` (N,).

    At most the `nearest` points of each position. Returns (P,) rows, (P,) columns, (P,) distances in px; ordered by
    row, then distance.
    """
    if len(position) == 0 or len(points) == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    count = min(nearest, len(points))
    if len(position) * len(points) <= DENSE_CELLS:
        x, y = position[:, 0, None] - points[:, 0], position[:, 1, None] - points[:, 1]
        apart = np.sqrt(x * x + y * y)
        near = apart <= radius_px[:, None]
        if not near.any():
            return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
        order = np.argsort(apart, axis=1, kind="stable")[:, :count]
        row, rank = np.nonzero(near[np.arange(len(near))[:, None], order])
        column = order[row, rank]
        return row, column, apart[row, column]
    reach = float(np.max(radius_px)) * (1 + 1e-9) + 1e-9
    found = cKDTree(points, compact_nodes=False, balanced_tree=False).query(
        position, k=np.arange(1, count + 1), distance_upper_bound=reach
    )
    distance, column = np.asarray(found[0], np.float64), np.asarray(found[1], np.intp)
    row, rank = np.nonzero(distance <= radius_px[:, None])
    return row, column[row, rank], distance[row, rank]


def assign(row: Rows, column: Rows, cost: F64, *, alone: float = 1.0) -> tuple[Rows, Rows]:
    """Choose among P candidate pairs so that no row or column is used twice.

    Minimises the sum of the chosen costs plus `alone` for every pair that could have been made and was not: a pair that
    costs more than `alone` is never chosen, and two cheap pairs beat one very cheap one.

    Returns:
        Rows and columns of the chosen pairs, ordered by row.
    """
    possible = cost < alone
    row, column, cost = row[possible], column[possible], cost[possible]
    if len(row) == 0:
        return row, column
    undisputed = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    disputed = ~undisputed
    chosen_row, chosen_column = row[undisputed], column[undisputed]
    if disputed.any():
        more_row, more_column = _settle(row[disputed], column[disputed], cost[disputed], alone)
        chosen_row, chosen_column = np.append(chosen_row, more_row), np.append(chosen_column, more_column)
    order = np.argsort(chosen_row)
    return chosen_row[order], chosen_column[order]


def _settle(row: Rows, column: Rows, cost: F64, alone: float) -> tuple[Rows, Rows]:
    rows, r = np.unique(row, return_inverse=True)
    columns, c = np.unique(column, return_inverse=True)
    height, width = len(rows), len(columns)
    if height * width <= DENSE_CELLS:
        matrix = np.full((height, width), alone)
        matrix[r, c] = cost
        i, j = linear_sum_assignment(matrix)
        made = matrix[i, j] < alone
    else:
        i, j = _settle_sparse(r, c, cost, height, width, alone)
        made = j < width
    return rows[i[made]], columns[j[made]]


def _settle_sparse(r: Rows, c: Rows, cost: F64, height: int, width: int, alone: float) -> tuple[Rows, Rows]:
    """Every row also gets a column of its own that means "alone", so a full matching always exists."""
    everyone = np.arange(height)
    lift = 1.0 - min(0.0, float(cost.min()))  # stored zeros would read as "no edge"; the same for all changes nothing
    weight = np.concatenate([cost, np.full(height, alone)]) + lift
    at = (np.concatenate([r, everyone]), np.concatenate([c, width + everyone]))
    graph = csr_array((weight, at), shape=(height, width + height))
    i, j = min_weight_full_bipartite_matching(graph)
    return np.asarray(i, np.intp), np.asarray(j, np.intp)
