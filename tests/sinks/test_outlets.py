"""The annotated stream as HLS and as films: everything that is listed plays, nothing is missing between two films."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import av
import pytest
from test_push import Feed, result_of, until

from streamdet.coded.encoder import Encoder
from streamdet.coded.packet import CodedPacket
from streamdet.config import Config, with_values
from streamdet.sinks.broadcast import BroadcastSink
from streamdet.sinks.hls import PLAYLIST, HlsOutlet
from streamdet.sinks.segments import SegmentsOutlet


def packets(count: int, *, key_s: float = 1.0, wh: tuple[int, int] = (320, 240)) -> Iterator[CodedPacket]:
    encoder = Encoder(key_every_s=key_s)
    for index in range(count):
        yield from encoder.encode(result_of(index, wh=wh).annotated(), index / 25, 0.0)


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


class PlainShelf:
    def __init__(self, folder: Path) -> None:
        self.folder, self.films = folder, list[Path]()
        self.lost = 0

    def promise(self, stream: str, when: datetime, stem: str, suffix: str = ".mp4") -> Path:
        return self.folder / f"{stream}-{len(self.films)}{suffix}"

    def added(self, file: Path) -> None:
        self.films.append(file)

    def dropped(self, file: Path | None = None, error: OSError | None = None) -> None:
        self.lost += 1


def test_films_follow_each_other_without_a_missing_picture(tmp_path: Path) -> None:
    shelf = PlainShelf(tmp_path)
    outlet = SegmentsOutlet(shelf, stream="cam", segment_s=2.0, patient=True)
    outlet.start()
    for packet in packets(260):
        outlet.put(packet)
    outlet.stop()
    assert [frames_of(film) for film in shelf.films] == [50, 50, 50, 50, 50, 10]
    assert outlet.status()["films"] == 6
    joined = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(shelf.films[1]), "-f", "null", "-"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert joined.stderr == b""


def test_a_film_plays_while_it_is_written(tmp_path: Path) -> None:
    shelf = PlainShelf(tmp_path)
    outlet = SegmentsOutlet(shelf, stream="cam", segment_s=60, patient=True)
    outlet.start()
    for packet in packets(200):
        outlet.put(packet)
    until(lambda: (tmp_path / "cam-0.mp4").stat().st_size > 2000, within_s=20, why="nothing was written")
    time.sleep(0.5)
    copy = tmp_path / "copy.mp4"  # what a killed process leaves behind
    copy.write_bytes((tmp_path / "cam-0.mp4").read_bytes())
    assert frames_of(copy) >= 150
    outlet.stop()
    assert frames_of(shelf.films[0]) == 200


def test_another_size_begins_another_film(tmp_path: Path) -> None:
    shelf = PlainShelf(tmp_path)
    outlet = SegmentsOutlet(shelf, stream="cam", segment_s=60, patient=True)
    with BroadcastSink([outlet], Encoder(), live=False) as sink:
        for index in range(60):
            sink.write(result_of(index, wh=(320, 240) if index < 30 else (160, 120)))
    assert [frames_of(film) for film in shelf.films] == [30, 30]


def test_hls_lists_only_what_plays(tmp_path: Path) -> None:
    outlet = HlsOutlet(tmp_path / "hls", segment_s=1.0)
    (tmp_path / "hls").mkdir()
    (tmp_path / "hls" / "live-1.ts").write_bytes(b"of an earlier run")
    playlist = tmp_path / "hls" / PLAYLIST
    with BroadcastSink([outlet], Encoder(key_every_s=1)) as sink, Feed(sink):
        until(playlist.exists, within_s=60, why="no playlist came")
        for _ in range(20):
            listed = [line for line in playlist.read_text().splitlines() if line.endswith(".ts")]
            assert 1 <= len(listed) <= 6
            for name in listed[-2:]:
                assert frames_of(tmp_path / "hls" / name) >= 20
            time.sleep(0.3)
    text = playlist.read_text()
    assert text.endswith("#EXT-X-ENDLIST\n")
    assert "EXT-X-PROGRAM-DATE-TIME" in text
    assert frames_of(playlist) > 40
    assert len(list((tmp_path / "hls").glob("*.ts"))) <= 8, "old segments are removed"


def test_hls_on_demand_encodes_only_while_somebody_looks(tmp_path: Path) -> None:
    outlet = HlsOutlet(tmp_path / "hls", segment_s=0.5, on_demand=True)
    with BroadcastSink([outlet], Encoder(key_every_s=0.5)) as sink, Feed(sink) as feed:
        until(lambda: feed.written > 30, within_s=60, why="writing went on")
        assert sink.encoded == 0
        assert outlet.wake(timeout_s=30), "the first viewer waits for the playlist"
        assert sink.encoded > 0


def test_nothing_is_drawn_when_nobody_wants_it() -> None:
    class Nobody(HlsOutlet):
        wanted = False

        def start(self) -> None:
            pass

        stop = start

    drawn = result_of(0)
    with BroadcastSink([Nobody("nowhere")], Encoder()) as sink:
        sink.write(drawn)
    assert drawn.painted == []


def test_a_run_writes_films_and_hls(tmp_path: Path) -> None:
    import streamdet

    settings = {
        "source.demo_seconds": 2.0,
        "source.demo_size": "320x240",
        "broadcast.segments": str(tmp_path / "films"),
        "broadcast.segment_s": 1.0,
        "broadcast.key_s": 1.0,
        "broadcast.hls": str(tmp_path / "hls"),
        "broadcast.hls_segment_s": 1.0,
    }
    assert len(list(streamdet.run("demo", model="motion", settings=settings))) == 60
    films = sorted((tmp_path / "films").rglob("*.mp4"))
    assert sum(frames_of(film) for film in films) == 60
    assert frames_of(tmp_path / "hls" / "demo" / PLAYLIST) == 60


def test_several_streams_need_several_addresses(tmp_path: Path) -> None:
    import streamdet
    from streamdet.errors import ConfigError

    settings = {"broadcast.push": ["rtsp://anna:s3cret@127.0.0.1/x"], "source.demo_size": "320x240"}
    with pytest.raises(ConfigError, match=r"\{stream\}") as caught:
        list(streamdet.run(["demo", "demo"], model="motion", settings=settings))
    assert "s3cret" not in str(caught.value)
    one = with_values(Config(), {"record.dir": str(tmp_path), "broadcast.segments": str(tmp_path)})
    with pytest.raises(ConfigError, match="a folder of its own"):
        list(streamdet.run("demo", model="motion", config=one))
