"""What systemd wants to hear of a service (sd_notify(3)): a datagram to the socket it names, nothing where it names none."""

from __future__ import annotations

import os
import socket

__all__ = ["notify", "watchdog_s"]


def notify(*lines: str) -> bool:
    """Send e.g. ``READY=1``. False if nobody wants to hear it; never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # abstract
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
            there.sendto("\n".join(lines).encode(), address)
        return True
    except OSError:
        return False


def watchdog_s() -> float | None:
    """How often systemd wants to hear ``WATCHDOG=1`` at least (None: not at all)."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdigit() and int(text) else None
