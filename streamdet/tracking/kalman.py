"""A constant-velocity Kalman filter over all tracks at once: pure functions on columns, time in seconds.

x and y are independent and share one covariance, so a track's uncertainty is three numbers: the variances of position
and velocity and what binds them. Acceleration is white noise of finite power: predicting over 0.1 s once or over
0.05 s twice gives the same answer, so that a dropped frame or a variable frame rate changes ``dt`` and nothing else.
(Bar-Shalom, Li, Kirubarajan: Estimation with Applications to Tracking and Navigation, 6.2: continuous white noise
acceleration.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["acceleration_power", "measurement_noise_px", "predict", "start", "update"]

F64 = NDArray[np.float64]

# How long an unforeseen acceleration lasts: turns its size (px/s^2) into the power of white noise (px^2/s^3).
ACCELERATION_LASTS_S = 0.1


def measurement_noise_px(size_px: F64) -> F64:
    """(N,) standard deviation of a detection's centre: half a pixel, and more for larger boxes, whose edges wobble."""
    return np.asarray(0.5 + 0.08 * size_px)


def acceleration_power(size_px: F64, speed_px_s: F64) -> F64:
    """(N,) px^2/s^3 for objects of `size_px` at `speed_px_s`.

    A person or a car changes speed by its own size or two per second squared, whatever its speed: trusting that carries it
    through a crowd. What is small and fast is slowed by drag and turned by gravity in proportion to its speed (a shuttle
    loses half of it in a quarter of a second).
    """
    nimble = np.minimum(1.0, 20.0 / np.maximum(size_px, 1e-9)) ** 2
    acceleration = 20.0 + 2.0 * size_px + (40.0 + 3.0 * speed_px_s) * nimble
    return np.asarray(ACCELERATION_LASTS_S * acceleration**2)


def start(noise_px: F64, speed_px_s: F64) -> F64:
    """(N,3) covariance of tracks seen once: position known within `noise_px`, speed anything up to `speed_px_s`."""
    return np.stack([noise_px**2, np.zeros_like(noise_px), np.broadcast_to(speed_px_s, noise_px.shape) ** 2], axis=1)


def predict(position: F64, velocity: F64, covariance: F64, dt_s: F64 | float, power: F64) -> tuple[F64, F64]:
    """Move (N,2) positions by `dt_s` (one or (N,)) and grow their uncertainty.

    Args:
        covariance: (N,3) variance of position, covariance of position and velocity, variance of velocity.
        power: (N,) of :func:`acceleration_power`.

    Returns:
        New position (N,2) and covariance (N,3); velocity stays what it was.
    """
    dt = np.broadcast_to(np.asarray(dt_s, np.float64), (len(position),))
    place, both, pace = covariance.T
    grown = np.stack(
        [
            place + 2 * dt * both + dt**2 * pace + power * dt**3 / 3,
            both + dt * pace + power * dt**2 / 2,
            pace + power * dt,
        ],
        axis=1,
    )
    return position + velocity * dt[:, None], grown


def update(position: F64, velocity: F64, covariance: F64, measured: F64, noise_px: F64) -> tuple[F64, F64, F64]:
    """Take in (N,2) measured centres of standard deviation `noise_px` (N,). Returns position, velocity, covariance."""
    place, both, pace = covariance.T
    total = place + noise_px**2
    gain_position, gain_velocity = place / total, both / total
    miss = measured - position
    shrunk = np.stack([place * (1 - gain_position), both * (1 - gain_position), pace - gain_velocity * both], axis=1)
    return position + gain_position[:, None] * miss, velocity + gain_velocity[:, None] * miss, shrunk
