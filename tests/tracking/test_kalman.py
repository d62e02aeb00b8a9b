"""The filter against a plain matrix Kalman filter, and the properties time in seconds needs."""

from __future__ import annotations

import numpy as np
import pytest

from streamdet.tracking import kalman


def _matrix_filter(x, p, dt, power, measured, noise):
    """One axis, textbook matrices."""
    f = np.array([[1, dt], [0, 1]])
    q = power * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    x, p = f @ x, f @ p @ f.T + q
    h = np.array([[1.0, 0.0]])
    s = h @ p @ h.T + noise**2
    k = p @ h.T / s
    return x + (k * (measured - h @ x)).ravel(), (np.eye(2) - k @ h) @ p


def test_same_as_a_matrix_filter() -> None:
    rng = np.random.default_rng(3)
    n = 20
    position, velocity = rng.uniform(0, 500, (n, 2)), rng.normal(0, 300, (n, 2))
    noise = rng.uniform(0.5, 5, n)
    covariance = kalman.start(noise, 800.0)
    states = [[np.array([position[i, a], velocity[i, a]]) for a in (0, 1)] for i in range(n)]
    spreads = [[np.diag([noise[i] ** 2, 800.0**2]) for a in (0, 1)] for i in range(n)]
    for _ in range(15):
        dt, power, measured = rng.uniform(0.01, 0.2, n), rng.uniform(10, 1e5, n), rng.uniform(0, 500, (n, 2))
        position, covariance = kalman.predict(position, velocity, covariance, dt, power)
        position, velocity, covariance = kalman.update(position, velocity, covariance, measured, noise)
        for i in range(n):
            for a in (0, 1):
                states[i][a], spreads[i][a] = _matrix_filter(
                    states[i][a], spreads[i][a], dt[i], power[i], measured[i, a], noise[i]
                )
                np.testing.assert_allclose([position[i, a], velocity[i, a]], states[i][a], rtol=1e-6, atol=1e-6)
                p = spreads[i][a]
                np.testing.assert_allclose(covariance[i], [p[0, 0], p[0, 1], p[1, 1]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("parts", [2, 7])
def test_time_may_be_cut_into_any_parts(parts: int) -> None:
    position, velocity = np.array([[10.0, 20.0]]), np.array([[300.0, -50.0]])
    covariance, power = np.array([[4.0, 3.0, 900.0]]), np.array([5e4])
    once = kalman.predict(position, velocity, covariance, 0.2, power)
    for _ in range(parts):
        position, covariance = kalman.predict(position, velocity, covariance, 0.2 / parts, power)
    np.testing.assert_allclose(position, once[0])
    np.testing.assert_allclose(covariance, once[1])


def test_two_hits_give_the_speed_and_variance_stays_positive() -> None:
    position, velocity = np.array([[0.0, 0.0]]), np.zeros((1, 2))
    covariance = kalman.start(np.array([1.0]), 2000.0)
    for step in range(1, 2000):
        power = kalman.acceleration_power(np.array([8.0]), np.hypot(*velocity.T))
        position, covariance = kalman.predict(position, velocity, covariance, 1 / 30, power)
        position, velocity, covariance = kalman.update(
            position, velocity, covariance, np.array([[80.0 * step, 0.0]]), np.array([1.0])
        )
        if step == 1:
            assert velocity[0, 0] == pytest.approx(2400, rel=0.01)
        place, both, pace = covariance[0]
        assert place > 0
        assert pace > 0
        assert place * pace > both**2
    assert velocity[0, 0] == pytest.approx(2400, rel=1e-3)


def test_no_tracks_at_all() -> None:
    none = np.zeros((0, 2))
    position, covariance = kalman.predict(none, none, np.zeros((0, 3)), 0.1, np.zeros(0))
    assert position.shape == (0, 2)
    assert covariance.shape == (0, 3)
    assert kalman.update(none, none, covariance, none, np.zeros(0))[2].shape == (0, 3)
