"""The hand-off between threads: bounded, never hanging, nothing lost but what is counted."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from streamdet.mailbox import Closed, Mailbox


def test_order_is_kept_and_the_rest_is_readable_after_close() -> None:
    box: Mailbox[int] = Mailbox(8)
    for item in range(5):
        box.put(item)
    box.close()
    assert [box.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(Closed):
        box.get()
    with pytest.raises(Closed):
        box.put(9)


def test_newest_wins_drops_the_oldest_and_counts() -> None:
    box: Mailbox[int] = Mailbox(2, newest_wins=True)
    for item in range(10):
        box.put(item)
    assert box.dropped == 8
    assert [box.get(), box.get()] == [8, 9]


def test_a_full_mailbox_blocks_until_there_is_room() -> None:
    box: Mailbox[int] = Mailbox(1)
    box.put(1)
    with pytest.raises(TimeoutError):
        box.put(2, timeout_s=0.02)
    writer = threading.Thread(target=box.put, args=(3,))
    writer.start()
    assert box.get() == 1
    writer.join(2)
    assert not writer.is_alive()
    assert box.get() == 3


@pytest.mark.parametrize("waiting", ["put", "get"])
def test_close_wakes_whoever_waits(waiting: str) -> None:
    box: Mailbox[int] = Mailbox(1)
    seen: list[type[BaseException]] = []

    def wait() -> None:
        try:
            if waiting == "put":
                box.put(1)
                box.put(2)
            else:
                box.get()
        except Closed as error:
            seen.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    box.close(discard=True)
    thread.join(2)
    assert not thread.is_alive()
    assert seen == [Closed]


def test_get_times_out() -> None:
    with pytest.raises(TimeoutError, match="nothing arrived"):
        Mailbox[int](1).get(timeout_s=0.01)


def test_nothing_is_lost_between_many_threads() -> None:
    box: Mailbox[int] = Mailbox(3)
    taken: list[int] = []

    def write(start: int) -> None:
        for item in range(start, start + 500):
            box.put(item)

    def read() -> None:
        try:
            while True:
                taken.append(box.get())
        except Closed:
            pass

    writers = [threading.Thread(target=write, args=(k * 500,)) for k in range(4)]
    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join(10)
    box.close()
    for thread in readers:
        thread.join(10)
    assert sorted(taken) == list(range(2000))


def test_a_lingering_reader_is_woken_for_several_items_or_when_it_has_lingered_or_at_the_end() -> None:
    box: Mailbox[int] = Mailbox(8)
    seen: list[tuple[int, int]] = []

    def read() -> None:
        with contextlib.suppress(Closed):
            while True:
                item = box.get(linger_s=60.0)
                seen.append((item, len(box)))

    reader = threading.Thread(target=read)
    reader.start()
    while box._awaited == 1:  # until it lingers
        time.sleep(0.01)
    for item in range(3):
        box.put(item)
    time.sleep(0.1)
    assert not seen
    box.put(3)
    while len(seen) < 4:
        time.sleep(0.01)
    assert [left for _, left in seen] == [3, 2, 1, 0]
    box.put(4)
    box.close()
    reader.join(10)
    assert [item for item, _ in seen] == [0, 1, 2, 3, 4]
    short: Mailbox[int] = Mailbox(8)
    short.put(1)
    assert short.get(linger_s=60.0) == 1
    threading.Timer(0.05, short.put, [2]).start()
    assert short.get(linger_s=0.1) == 2
