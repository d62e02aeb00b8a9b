"""The ring is bounded, starts with a key frame, and takes whatever a camera sends."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from source_clips import encode, moving_bgr

from streamdet.coded.parameters import parameter_sets
from streamdet.recording.ring import PacketRing


class Sent:
    """A packet as PyAV gives it."""

    def __init__(self, data: bytes, pts: int | None, dts: int | None, *, key: bool = False, duration: int = 1) -> None:
        self.pts, self.dts, self.is_keyframe, self.duration, self._data = pts, dts, key, duration, data

    def __bytes__(self) -> bytes:
        return self._data


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = encode(tmp_path_factory.mktemp("ring") / "a.mp4", moving_bgr((160, 120), 4))
    with av.open(str(path)) as container:
        yield container.streams.video[0]


def filled(stream: Any, *, seconds: float, max_bytes: int, count: int, group: int, size: int = 1000) -> PacketRing:
    ring = PacketRing(seconds, max_bytes)
    ring.opened(stream, 0)
    step = round(Fraction(1, 25) / stream.time_base)
    for index in range(count):
        ring.packet(Sent(bytes(size), index * step, index * step, key=index % group == 0), index / 25)
    return ring


def test_it_keeps_the_seconds_asked_for_and_hardly_more(stream: Any) -> None:
    ring = filled(stream, seconds=4, max_bytes=1 << 30, count=1000, group=25)
    kept = ring.since(-1)
    assert kept[0].key
    assert 4 <= kept[-1].at_s - kept[0].at_s <= 5
    assert [p.number for p in kept] == list(range(kept[0].number, 1000))
    assert ring.size == sum(len(p.data) for p in kept)


@pytest.mark.parametrize(("group", "size"), [(25, 1000), (25, 20_000), (1000, 3000), (1, 5000)])
def test_it_never_holds_more_bytes_than_allowed(stream: Any, group: int, size: int) -> None:
    ring = PacketRing(10, 200_000)
    ring.opened(stream, 0)
    most = 0
    for index in range(2000):
        ring.packet(Sent(bytes(size), index * 512, index * 512, key=index % group == 0), index / 25)
        most = max(most, sum(len(p.data) for p in ring.since(-1)))
        assert ring.size <= 200_000
    assert most <= 200_000
    kept = ring.since(-1)
    assert not kept or kept[0].key


def test_a_group_that_is_too_big_is_given_up_until_the_next_key_frame(stream: Any) -> None:
    ring = filled(stream, seconds=10, max_bytes=50_000, count=150, group=100)
    assert ring.too_big == 1
    kept = ring.since(-1)
    assert kept[0].number == 100
    assert len(kept) == 50


def test_before_the_first_key_frame_nothing_is_kept(stream: Any) -> None:
    ring = PacketRing(5, 1 << 20)
    ring.opened(stream, 0)
    for index in range(10):
        ring.packet(Sent(b"x", index * 512, index * 512, key=index == 7), index / 25)
    assert [p.key for p in ring.since(-1)] == [True, False, False]


@pytest.mark.parametrize(
    "stamps",
    [
        [(None, None)] * 6,
        [(0, 0), (512, 512), (512, 512), (500, 500), (1536, 1536), (2048, 2048)],
        [(0, None), (512, None), (1024, None), (1536, None), (2048, None), (2560, None)],
        [(None, 0), (None, 512), (None, 1024), (None, 1536), (None, 2048), (None, 2560)],
        [(100, 512), (200, 1024), (1024, 1024), (1, 1500), (1, 1501), (1, 1502)],
    ],
)
def test_stamps_missing_repeated_or_backward_come_out_in_order(stream: Any, stamps: list[tuple[Any, Any]]) -> None:
    ring = PacketRing(5, 1 << 20)
    ring.opened(stream, 0)
    for index, (pts, dts) in enumerate(stamps):
        ring.packet(Sent(b"x", pts, dts, key=index == 0), index / 25)
    kept = ring.since(-1)
    assert len(kept) == 6
    assert all(later.dts > earlier.dts for earlier, later in itertools.pairwise(kept))
    assert all(later.at_s > earlier.at_s for earlier, later in itertools.pairwise(kept))
    assert all(packet.pts >= packet.dts for packet in kept)


@pytest.mark.parametrize("jump", [-40_000, 10_000_000])
def test_a_jump_of_the_stamps_begins_a_new_run_on_the_same_clock(stream: Any, jump: int) -> None:
    ring = PacketRing(60, 1 << 20)
    ring.opened(stream, 0)
    for index in range(20):
        stamp = 50_000 + index * 512 + (jump if index >= 10 else 0)
        ring.packet(Sent(b"x", stamp, stamp, key=index % 5 == 0), index / 25)
    kept = ring.since(-1)
    assert [p.run.number for p in kept] == [1] * 10 + [2] * 10
    assert kept[10].at_s - kept[9].at_s == pytest.approx(1 / 25, abs=2e-3)


def test_a_new_connection_is_a_new_run_and_time_goes_on(stream: Any) -> None:
    ring = PacketRing(60, 1 << 20)
    for epoch, start_s in enumerate((100.0, 107.5)):
        ring.opened(stream, epoch)
        for index in range(5):
            ring.packet(Sent(b"x", index * 512, index * 512, key=index == 0), start_s + index / 25)
    kept = ring.since(-1)
    assert [(p.run.number, p.run.epoch) for p in kept] == [(1, 0)] * 5 + [(2, 1)] * 5
    assert kept[5].at_s - kept[4].at_s == pytest.approx(7.5 - 4 / 25)
    found = ring.at(512, 0)
    assert found is not None
    assert found.number == 1
    assert ring.at(512, 2) is None


def test_parameter_sets_are_found_in_key_frames(tmp_path: Path) -> None:
    for codec, name, options, count in (
        ("h264", "libx264", {"bf": "0"}, 2),
        ("hevc", "libx265", {"x265-params": "log-level=none"}, 3),
    ):
        path = encode(tmp_path / f"{codec}.ts", moving_bgr((160, 120), 10), codec=name, options=options)
        with av.open(str(path)) as container:
            packets = [(p.is_keyframe, bytes(p)) for p in container.demux(video=0) if p.size]
        sets = parameter_sets(codec, packets[0][1])
        assert sets.count(b"\0\0\0\1") == count
        assert all(not parameter_sets(codec, data) for key, data in packets if not key)
    assert parameter_sets("h264", b"") == b""
    assert parameter_sets("h264", bytes(3)) == b""
    assert parameter_sets("mjpeg", packets[0][1]) == b""
