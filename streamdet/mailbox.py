"""The only hand-off between threads: bounded, closable, carries the first error to whoever reads."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Closed", "Mailbox"]

T = TypeVar("T")


class Closed(Exception):
    """The mailbox was closed: no more items will come (get) or be taken (put)."""


class Mailbox(Generic[T]):
    """A queue of at most `capacity` items.

    When full, ``put`` waits (a file: every frame) or, with `newest_wins`, throws the oldest away and counts it in
    ``dropped`` (a live stream). ``close()`` lets readers take what is left; ``close(discard=True)`` drops it.
    """

    def __init__(self, capacity: int, *, newest_wins: bool = False) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._newest_wins = newest_wins
        self._changed = threading.Condition()
        self._closed = False
        self._awaited = 1  # items that have to be there before a waiting reader is woken
        self.dropped = 0

    def put(self, item: T, *, timeout_s: float | None = None) -> None:
        """Hand `item` over. Raises Closed, or TimeoutError after `timeout_s` of waiting for room."""
        with self._changed:
            if self._newest_wins:
                while len(self._items) >= self._capacity:
                    self._items.popleft()
                    self.dropped += 1
            elif not self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity, timeout_s):
                raise TimeoutError(f"mailbox still full after {timeout_s} s")
            if self._closed:
                raise Closed
            self._items.append(item)
            if len(self._items) >= self._awaited:
                self._changed.notify_all()

    def get(self, *, timeout_s: float | None = None, linger_s: float = 0.0) -> T:
        """Take the oldest item. Raises Closed when closed and empty, TimeoutError after `timeout_s`.

        Where there is none, a reader may linger until the mailbox is half full: it is woken, and takes the interpreter from
        whoever fills it, once for several items.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            if linger_s and not self._items and not self._closed:
                self._awaited = max(1, self._capacity // 2)
                self._changed.wait_for(lambda: self._closed or len(self._items) >= self._awaited, linger_s)
                self._awaited = 1
            while not self._items:
                if self._closed:
                    raise Closed
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"nothing arrived within {timeout_s} s")
                self._changed.wait(left)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """No more items will be taken. Idempotent; wakes everybody."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        return len(self._items)
