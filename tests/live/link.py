"""A network link in user space between this machine and a namespace of its own: with loss, delay, and a switch.

Run as a process: joins a TUN device here (10.77.N.1) with one in the namespace (10.77.N.2) and takes commands on stdin:
``loss 5`` (per cent, both ways), ``down``, ``up``. Needs root, /dev/net/tun and iproute2: :func:`missing` says what is not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import threading
from typing import Any

TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001


def missing() -> str | None:
    """Why there can be no link here; None if there can."""
    if os.geteuid() != 0:
        return "a network link of its own needs root"
    if shutil.which("ip") is None:
        return "a network link of its own needs iproute2"
    if not os.path.exists("/dev/net/tun"):
        return "a network link of its own needs /dev/net/tun"
    made = subprocess.run(["ip", "netns", "add", "sdprobe"], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", "sdprobe"], capture_output=True, check=False)
    return None if made.returncode == 0 else "network namespaces are not allowed here"


class Link:
    """``host`` is the far end's address; put ``inside`` before a command that is to run there."""

    def __init__(self, number: int) -> None:
        self.host = f"10.77.{number}.2"
        self._space = f"sdlink{number}"
        self.inside = ["ip", "netns", "exec", self._space]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Link:
        subprocess.run(["ip", "netns", "add", self._space], check=False, capture_output=True)
        number = self.host.split(".")[2]
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._space, number], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"READY\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        subprocess.run(["ip", "netns", "del", self._space], check=False, capture_output=True)

    def __call__(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()


def _tun(name: str, address: str, space: str | None) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_NO_PI))
    there = ["-n", space] if space else []
    if space:
        subprocess.run(["ip", "link", "set", name, "netns", space], check=True)
    for words in (
        ["addr", "add", f"{address}/24", "dev", name],
        ["link", "set", name, "up"],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run(["ip", *there, *words], check=True)
    return device


def _main(space: str, number: str) -> None:
    state: dict[str, Any] = {"up": True, "loss": 0.0}
    near = _tun(f"sdn{number}", f"10.77.{number}.1", None)
    far = _tun(f"sdf{number}", f"10.77.{number}.2", space)

    def pump(source: int, target: int) -> None:
        dice = random.Random(source)
        while True:
            select.select([source], [], [])
            packet = os.read(source, 65535)
            if state["up"] and dice.random() * 100 >= state["loss"]:
                with contextlib.suppress(OSError):
                    os.write(target, packet)

    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
    print("READY", flush=True)  # noqa: T201
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word == "loss":
            state["loss"] = float(value)
        else:
            state["up"] = word == "up"


if __name__ == "__main__":
    _main(*sys.argv[1:])
