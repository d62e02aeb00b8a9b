"""The wrapper that brings a source back, without a camera: pauses, epochs, states."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from streamdet.config import LiveConfig
from streamdet.errors import SourceLostError, SourceOpenError, SourceRefusedError
from streamdet.sources.reconnect import Reconnecting
from streamdet.types import Frame, Picture, SourceInfo

GREY = np.full((8, 8), 128, np.uint8)
QUICK = LiveConfig(retry_first_s=0.02, retry_most_s=0.05, refused_retry_s=0.05, stalled_s=0.2)


class Connection:
    """One connection: opens or not, gives `count` frames, then ends as told (None: silence until closed)."""

    def __init__(
        self, epoch: int, count: int = 3, end: BaseException | None = None, refuse: BaseException | None = None
    ):
        self.epoch, self._count, self._end, self._refuse = epoch, count, end, refuse
        self.info = SourceInfo("cam", "rtsp://cam", (8, 8), 25.0, live=True)
        self.counts = {"decoded": 0, "tainted": 0}
        self.warnings: list[str] = []
        self.closed = threading.Event()

    def __enter__(self) -> Self:
        if self._refuse is not None:
            raise self._refuse
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            self.counts["decoded"] += 1
            picture = Picture(GREY, bgr=np.repeat(GREY[..., None], 3, 2))
            yield Frame("cam", index, index / 25, picture, time.monotonic(), epoch=self.epoch)
        if self._end is not None:
            raise self._end
        self.closed.wait(10)


class Script:
    """Gives one connection after another; what is beyond the list repeats the last."""

    def __init__(self, *plans: dict[str, object]) -> None:
        self.plans = plans
        self.made: list[Connection] = []

    def __call__(self, epoch: int) -> Connection:
        plan = self.plans[min(len(self.made), len(self.plans) - 1)]
        self.made.append(Connection(epoch, **plan))  # type: ignore[arg-type]
        return self.made[-1]


def source_of(script: Script, config: LiveConfig = QUICK, **options: bool) -> Reconnecting:
    return Reconnecting(script, stream="cam", uri="rtsp://cam", config=config, **{"patient": True, **options})


LOST = SourceLostError("rtsp://cam was lost")


def taken(source: Reconnecting, count: int) -> list[Frame]:
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            source.close()
    return frames


def test_every_return_is_an_epoch_and_the_count_of_frames_goes_on() -> None:
    losses: list[int] = []
    with source_of(Script({"end": LOST})) as source:
        source.on_loss = lambda: losses.append(source.index)
        frames = taken(source, 9)
    assert [(frame.epoch, frame.index) for frame in frames] == [
        (0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (2, 6), (2, 7), (2, 8),
    ]  # fmt: skip
    assert losses == [3, 6]
    assert source.reconnects == 2
    assert source.counts["decoded"] == 9
    assert source.state == "closed"


def test_what_never_opened_is_no_epoch() -> None:
    script = Script({"refuse": SourceOpenError("no")}, {"refuse": SourceOpenError("no")}, {"end": LOST})
    with source_of(script) as source:
        frames = taken(source, 3)
    assert {frame.epoch for frame in frames} == {0}
    assert [connection.epoch for connection in script.made] == [0, 0, 0]


def test_a_connection_without_frames_is_no_epoch() -> None:
    with source_of(Script({"end": LOST}, {"count": 0, "end": LOST}, {"end": LOST})) as source:
        assert {frame.epoch for frame in taken(source, 6)} == {0, 1}


def test_the_first_failure_is_the_callers_unless_it_is_patient() -> None:
    with pytest.raises(SourceOpenError), source_of(Script({"refuse": SourceOpenError("no")}), patient=False):
        pass


def test_pauses_grow_with_the_outage_and_never_beyond_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LiveConfig(retry_first_s=0.1, retry_most_s=2.0)
    source = source_of(Script({"end": LOST}), config)
    waits: list[float] = []
    monkeypatch.setattr(source._wake, "wait", lambda seconds: waits.append(seconds))
    for gone_s in (0.0, 1.0, 4.0, 100.0):
        source._gone_since_s = time.monotonic() - gone_s
        source._wait()
    for waited, meant in zip(waits, (0.1, 0.25, 1.0, 2.0), strict=True):
        assert 0.79 * meant <= waited <= 1.21 * meant


def test_refused_is_a_state_of_its_own_asked_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script({"refuse": SourceRefusedError("the password is wrong")})
    source = source_of(script, LiveConfig(retry_first_s=0.01, retry_most_s=0.02, refused_retry_s=60))
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    until_s = time.monotonic() + 10
    while source.state != "refused":
        assert time.monotonic() < until_s
        time.sleep(0.01)
    time.sleep(0.3)
    assert source.reason == "the password is wrong"
    assert len(script.made) == 1
    source.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_server_that_is_starting_up_is_not_taken_for_one_that_refuses() -> None:
    script = Script({"end": LOST}, {"refuse": SourceRefusedError("no such path")}, {"end": LOST})
    with source_of(script, LiveConfig(retry_first_s=0.02, retry_most_s=0.05, refused_retry_s=60)) as source:
        assert {frame.epoch for frame in taken(source, 6)} == {0, 1}


def test_gone_for_too_long_it_gives_up() -> None:
    script = Script({"end": LOST}, {"refuse": SourceOpenError("nothing listens there")})
    config = LiveConfig(retry_first_s=0.02, retry_most_s=0.05, give_up_s=0.2)
    with (
        source_of(script, config) as source,
        pytest.raises(SourceLostError, match="nothing listens there; it has been"),
    ):
        list(source)


def test_paused_it_lets_go_and_resumed_it_is_a_new_epoch() -> None:
    script = Script({})
    seen: list[Frame] = []
    with source_of(script) as source:
        losses: list[bool] = []
        source.on_loss = lambda: losses.append(True)
        thread = threading.Thread(target=lambda: seen.extend(source))
        thread.start()
        for epoch in range(3):
            until_s = time.monotonic() + 10
            while len(seen) < 3 * (epoch + 1):
                assert time.monotonic() < until_s
                time.sleep(0.01)
            source.pause()
            while source.state != "paused":
                assert time.monotonic() < until_s
                time.sleep(0.01)
            assert all(connection.closed.is_set() for connection in script.made)
            source.resume()
        source.close()
        thread.join(5)
    assert [frame.epoch for frame in seen[:9]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(losses) == 3


def test_silence_is_called_stalled() -> None:
    source = source_of(Script({}))
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    until_s = time.monotonic() + 10
    while source.state != "stalled":
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert source.reason is not None
    assert "gave no picture for" in source.reason
    source.close()
    thread.join(5)
