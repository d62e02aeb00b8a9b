"""Packets shown to a tap are the camera's own: all of them, unchanged, in order; and a tap that fails harms nobody."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import Any

import av
import pytest
from rtsp_server import RtspServer
from source_clips import encode, moving_bgr

from streamdet.config import SourceConfig
from streamdet.sources import tap
from streamdet.sources.video import VideoSource


class Keeper:
    def __init__(self) -> None:
        self.opened_with: list[tuple[str, int, bytes]] = []
        self.packets: list[tuple[int | None, int | None, bool, bytes]] = []
        self.times: list[float] = []

    def opened(self, stream: Any, epoch: int) -> None:
        self.opened_with.append((stream.codec_context.name, epoch, bytes(stream.codec_context.extradata or b"")))

    def packet(self, packet: Any, captured_s: float) -> None:
        self.packets.append((packet.pts, packet.dts, packet.is_keyframe, bytes(packet)))
        self.times.append(captured_s)


def stored(path: Path) -> list[tuple[int | None, int | None, bool, bytes]]:
    with av.open(str(path)) as container:
        return [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in container.demux(video=0) if p.size]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("tap") / "a.mp4", moving_bgr((160, 120), 60), options={"g": "10"})


def test_every_packet_is_shown_once_unchanged(clip: Path) -> None:
    keeper = Keeper()
    with VideoSource(str(clip), stream="a", config=SourceConfig(), tap=keeper, epoch=3) as source:
        frames = list(source)
    assert len(frames) == 60
    assert {frame.epoch for frame in frames} == {3}
    assert [(name, epoch) for name, epoch, _ in keeper.opened_with] == [("h264", 3)]
    assert keeper.packets == stored(clip)
    assert keeper.times == sorted(keeper.times)


def test_a_damaged_file_is_shown_once_too(clip: Path, tmp_path: Path) -> None:
    """Decoding starts again with a second decoder; the packets are not shown a second time."""
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = b"\xff" * 400
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    keeper = Keeper()
    with VideoSource(str(bad), stream="a", config=SourceConfig(), tap=keeper) as source:
        list(source)
    assert keeper.packets == stored(bad)


@pytest.mark.parametrize("again_after_s", [3600.0, 0.0])
def test_a_failing_tap_is_left_alone_for_a_while_with_one_warning(
    clip: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, again_after_s: float
) -> None:
    class Broken(Keeper):
        def packet(self, packet: Any, captured_s: float) -> None:
            super().packet(packet, captured_s)
            if len(self.packets) in (7, 9):
                raise OSError("no room")

    monkeypatch.setattr(tap, "AGAIN_AFTER_S", again_after_s)
    wanted = stored(clip)
    broken = Broken()
    with (
        caplog.at_level(logging.WARNING),
        VideoSource(str(clip), stream="court", config=SourceConfig(), tap=broken) as source,
    ):
        assert len(list(source)) == 60
    assert len([r for r in caplog.records if "court: its packets are not recorded for" in r.getMessage()]) == 1
    assert broken.packets[:7] == wanted[:7]
    keys = [number for number, packet in enumerate(wanted) if packet[2] and number >= 7]
    if again_after_s:
        assert len(broken.packets) == 7
        return
    assert keys, "the clip has one key packet only"
    assert broken.packets[7] == wanted[keys[0]]
    assert len(broken.opened_with) >= 2


def test_packets_of_a_live_stream(tmp_path: Path) -> None:
    options = {"tune": "zerolatency", "x264-params": "sliced-threads=0", "g": "5", "bf": "0"}
    clip = encode(tmp_path / "a.ts", moving_bgr((160, 120), 50), options=options)
    keeper = Keeper()
    with (
        RtspServer(clip) as server,
        VideoSource(
            server.url, stream="cam", config=SourceConfig(open_timeout_s=5, read_timeout_s=5), tap=keeper
        ) as src,
    ):
        frames = list(itertools.islice(src, 20))
        assert time.monotonic() - frames[-1].captured_s < 5
    assert len(keeper.opened_with) == 1
    assert keeper.packets[0][2], "an RTSP session of this server starts with a key frame"
    assert len(keeper.packets) >= 20
    assert any(pts == frames[-1].pts for pts, *_ in keeper.packets), "a frame's stamp names its packet"
