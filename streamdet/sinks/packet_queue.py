"""What waits between the encoder and one taker of its packets: a short queue that drops to the next key frame when it is full."""

from __future__ import annotations

import threading
from collections import deque

from streamdet.coded.packet import CodedPacket
from streamdet.mailbox import Closed

__all__ = ["PacketQueue"]


class PacketQueue:
    """Holds at most `most_s` of film. Whoever is slower loses pictures (``dropped``), never time: latency stays what it is.

    A packet that cannot be decoded without one that was dropped is dropped too. ``put`` never waits, unless `patient`: then it
    waits for room instead (a recording being worked through).
    """

    def __init__(self, most_s: float, *, patient: bool = False) -> None:
        self._patient = patient
        self.dropped = 0
        self._most_s = most_s
        self._packets: deque[CodedPacket] = deque()
        self._changed = threading.Condition()
        self._needs_key = True
        self._closed = False

    def put(self, packet: CodedPacket) -> None:
        with self._changed:
            if self._patient:
                self._changed.wait_for(lambda: self._closed or not self._is_full(packet))
            if self._closed:
                return
            if self._is_full(packet):
                self.dropped += len(self._packets)
                self._packets.clear()
                self._needs_key = True
            if self._needs_key and not packet.key:
                self.dropped += 1
                return
            self._needs_key = False
            self._packets.append(packet)
            self._changed.notify_all()

    def _is_full(self, packet: CodedPacket) -> bool:
        return bool(self._packets) and packet.at_s - self._packets[0].at_s > self._most_s

    def get(self, timeout_s: float) -> CodedPacket | None:
        """The oldest packet, or None after `timeout_s`. Raises Closed when there is none and none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._packets or self._closed, timeout_s)
            if self._packets:
                self._changed.notify_all()
                return self._packets.popleft()
            if self._closed:
                raise Closed
            return None

    def clear(self) -> None:
        """Begin anew, with a key frame."""
        with self._changed:
            self._packets.clear()
            self._needs_key = True

    def close(self, *, discard: bool = False) -> None:
        with self._changed:
            self._closed = True
            if discard:
                self._packets.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._packets)
