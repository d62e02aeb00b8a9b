"""Clips are the camera's own pictures, bit for bit, from a key frame on, timed from 0."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from recording_stage import NO_LIMITS, event_of, record, shown
from source_clips import encode, moving_bgr

from streamdet.config import RecordConfig, SourceConfig
from streamdet.recording.archive import Archive
from streamdet.recording.names import media_file
from streamdet.recording.recorder import Recorder
from streamdet.sources.video import VideoSource

WH = (160, 120)
KINDS: dict[str, dict[str, Any]] = {
    "h264": {"options": {"bf": "0", "g": "25"}},
    "b-frames": {"options": {"bf": "3", "g": "25"}},
    "transport stream": {"suffix": ".ts", "options": {"bf": "2", "g": "25"}},
    "open gop": {"suffix": ".ts", "options": {"bf": "3", "g": "25", "x264-params": "open-gop=1:scenecut=0"}},
    "long gop": {"options": {"bf": "2", "g": "250"}},
    "h265": {"codec": "libx265", "suffix": ".ts", "options": {"x265-params": "keyint=25:log-level=none"}},
    "h265 mp4": {"codec": "libx265", "options": {"x265-params": "keyint=25:log-level=none"}},
    "avi": {"suffix": ".avi", "options": {"bf": "0", "g": "25"}},
    "matroska": {"suffix": ".mkv", "options": {"bf": "2", "g": "25"}},
}


def make(folder: Path, *, suffix: str = ".mp4", count: int = 150, **how: Any) -> Path:
    return encode(folder / f"source{suffix}", moving_bgr(WH, count), **how)


def boxes_of(path: Path) -> list[bytes]:
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        names.append(data[at + 4 : at + 8])
        at += size if size > 1 else int.from_bytes(data[at + 8 : at + 16], "big")
    return names


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_holds_the_sources_pictures_bit_for_bit(tmp_path: Path, folder: Path, kind: str) -> None:
    source = make(tmp_path, **KINDS[kind])
    config = RecordConfig(pre_s=1.0, post_s=1.0)
    told = record(source, folder, config, {60: [("new", 1)], 70: [("end", 1)]})
    assert told[0].clip is not None
    assert told[0].clip == told[1].clip
    clip = media_file(folder, told[0].clip)
    assert clip is not None
    every, got = shown(source), shown(clip)
    start = next(i for i, (_, picture) in enumerate(every) if np.array_equal(picture, got[0][1]))
    assert got[0][0] == 0.0
    assert every[start][0] <= every[60][0] - 1.0 + 1e-6 or start == 0
    assert every[start][0] > every[60][0] - 2.1 or kind == "long gop", "from the key frame just before the pre-roll"
    assert every[start + len(got) - 1][0] >= every[70][0] + 0.9
    assert every[start + len(got) - 1][0] <= every[70][0] + 1.3
    for (then_s, picture), (now_s, seen) in zip(every[start:], got, strict=False):
        np.testing.assert_array_equal(seen, picture)
        assert now_s == pytest.approx(then_s - every[start][0], abs=2e-3)
    into_s = float(told[0].clip.split("#t=")[1])
    assert into_s == pytest.approx(every[60][0] - 1.0 - every[start][0], abs=0.15)


@pytest.mark.parametrize("kind", ["b-frames", "transport stream", "h265"])
def test_a_clip_is_a_file_that_players_start_at_once(tmp_path: Path, folder: Path, kind: str) -> None:
    told = record(make(tmp_path, **KINDS[kind]), folder, RecordConfig(pre_s=1), {60: [("new", 1)], 70: [("end", 1)]})
    clip = media_file(folder, told[0].clip or "")
    assert clip is not None
    names = boxes_of(clip)
    assert names[0] == b"ftyp"
    assert names.index(b"moov") < names.index(b"mdat")
    assert b"moof" not in names
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        assert video.codec_context.codec_tag == ("hvc1" if kind == "h265" else "avc1")
        assert video.start_time == 0
    other = ["ffmpeg", "-v", "error", "-i", str(clip), "-f", "null", "-"]
    if kind != "h265":  # FFmpeg 5 says things about frames it has not got before the first
        assert subprocess.run(other, capture_output=True, check=True, timeout=60).stderr == b""
    assert not list(folder.rglob("*.part"))


def test_a_variable_frame_rate_stays_what_it_was(tmp_path: Path, folder: Path) -> None:
    gaps = itertools.cycle([1, 2, 5, 1, 1, 9])
    stamps = list(itertools.accumulate((next(gaps) for _ in range(149)), initial=0))
    source = encode(tmp_path / "vfr.mp4", moving_bgr(WH, 150), pts=stamps, rate=50, options={"bf": "2", "g": "20"})
    told = record(source, folder, RecordConfig(pre_s=1, post_s=1), {70: [("new", 1)], 75: [("end", 1)]})
    clip = media_file(folder, told[0].clip or "")
    assert clip is not None
    every, got = shown(source), shown(clip)
    start = next(i for i, (_, picture) in enumerate(every) if np.array_equal(picture, got[0][1]))
    assert len(got) > 20
    for (then_s, picture), (now_s, seen) in zip(every[start:], got, strict=False):
        np.testing.assert_array_equal(seen, picture)
        assert now_s == pytest.approx(then_s - every[start][0], abs=2e-3)


def test_a_sink_that_failed_and_is_made_anew_makes_clips_again(tmp_path: Path, folder: Path) -> None:
    source = make(tmp_path, options={"g": "25", "bf": "0"})
    with Archive(folder, NO_LIMITS) as archive:
        recorder = Recorder(archive, RecordConfig(pre_s=1, post_s=1), stream="court")
        with recorder.sink():  # as Enduring leaves a sink that raised
            pass
        with recorder.sink(), VideoSource(str(source), stream="court", config=SourceConfig(), tap=recorder) as video:
            time.sleep(1.0)  # the writer has looked round: is it still there?
            for frame in video:
                kinds = {60: ("new",), 70: ("end",)}.get(frame.index, ())
                told = recorder.record(tuple(event_of(frame, kind) for kind in kinds))
                if frame.index == 70:
                    address = told[0].clip or ""
                if frame.index == 120:
                    until_s = time.monotonic() + 30
                    while media_file(folder, address) is None:
                        assert time.monotonic() < until_s, "the clip is not made while the sink is open"
                        time.sleep(0.05)


def test_overlapping_events_share_a_film_and_each_knows_its_place(tmp_path: Path, folder: Path) -> None:
    source = make(tmp_path, count=300, options={"g": "10", "bf": "0"})
    when = {
        50: [("new", 1)], 60: [("new", 2)], 70: [("end", 1)], 90: [("end", 2)],
        100: [("new", 3)], 101: [("end", 3)],  # within the post-roll
        200: [("new", 4)], 210: [("end", 4)],
    }  # fmt: skip
    told = record(source, folder, RecordConfig(pre_s=1, post_s=1), when)
    clips = {event.track: event.clip or "" for event in told if event.type == "new"}
    assert {clip.split("#")[0] for clip in clips.values()} == {clips[1].split("#")[0], clips[4].split("#")[0]}
    assert len(list(folder.rglob("*.mp4"))) == 2
    start_s = [float(clips[track].split("#t=")[1]) for track in (1, 2, 3)]
    assert start_s == [pytest.approx(0.2, abs=0.03), pytest.approx(0.6, abs=0.03), pytest.approx(2.2, abs=0.03)]
    for clip, seconds in ((clips[1], 4.24), (clips[4], 2.6)):
        file = media_file(folder, clip)
        assert file is not None
        assert shown(file)[-1][0] == pytest.approx(seconds, abs=0.1)


def test_an_event_that_does_not_end_is_cut_at_the_longest_clip(tmp_path: Path, folder: Path) -> None:
    source = make(tmp_path, count=300, options={"g": "25", "bf": "0"})
    when: dict[int, list[tuple[str, int]]] = {30: [("new", 1)], 200: [("new", 2)]}
    told = record(source, folder, RecordConfig(pre_s=1, post_s=1, max_s=4), when)
    assert told[0].clip != told[1].clip
    first = media_file(folder, told[0].clip or "")
    assert first is not None
    assert shown(first)[-1][0] == pytest.approx(4, abs=0.1)


def test_a_source_without_usable_packets_is_encoded_from_its_pictures(tmp_path: Path, folder: Path) -> None:
    """Motion JPEG, as USB cameras send it: through the real pipeline, because the sink does the encoding."""
    import streamdet

    source = encode(
        tmp_path / "cam.avi", moving_bgr((320, 240), 100), codec="mjpeg", pixel_format="yuvj420p", options={}
    )
    settings = {"record.dir": str(folder), "record.pre_s": 0.5, "record.post_s": 0.5}
    events = [e for r in streamdet.run(source, model="motion", settings=settings) for e in r.events]
    clips = {event.clip for event in events if event.type == "new"}
    assert clips
    for clip in clips:
        file = media_file(folder, clip or "")
        assert file is not None
        with av.open(str(file)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
        picture = shown(file)[5][1]
        assert picture.shape == (360, 320)


def test_a_clip_across_a_reconnect_ends_with_the_connection(tmp_path: Path, folder: Path) -> None:

    from streamdet.config import SourceConfig
    from streamdet.recording.archive import Archive
    from streamdet.recording.recorder import Recorder
    from streamdet.sources.video import VideoSource

    first = make(tmp_path, count=80, options={"g": "25", "bf": "0"})
    (tmp_path / "b").mkdir()
    second = encode(tmp_path / "b" / "x.ts", moving_bgr((320, 240), 80), options={"g": "25", "bf": "2"})
    told = []
    with Archive(folder, NO_LIMITS) as archive:
        recorder = Recorder(archive, RecordConfig(pre_s=1, post_s=1), stream="court")
        recorder.start()
        for epoch, path in enumerate((first, second)):
            with VideoSource(str(path), stream="court", config=SourceConfig(), tap=recorder, epoch=epoch) as source:
                for frame in source:
                    if frame.index == 40:
                        told += recorder.record((event_of(frame, track=epoch + 1),))
            told += recorder.record((event_of(frame, "end", track=epoch + 1),))
        recorder.stop()
    clips = [media_file(folder, event.clip or "") for event in told if event.type == "new"]
    assert clips[0] != clips[1]
    for clip, path in zip(clips, (first, second), strict=True):
        assert clip is not None
        every, got = shown(path), shown(clip)
        assert len(got) == 80, "the pre-roll reaches to the beginning of each"
        for (_, picture), (_, seen) in zip(every, got, strict=True):
            np.testing.assert_array_equal(seen, picture)


def test_a_change_of_size_in_mid_stream_ends_the_clip_cleanly(tmp_path: Path, folder: Path) -> None:
    small = encode(tmp_path / "a.ts", moving_bgr((160, 120), 75), options={"g": "25", "bf": "0"})
    large = encode(tmp_path / "b.ts", moving_bgr((320, 240), 75), options={"g": "25", "bf": "0"})
    both = tmp_path / "both.ts"
    lines = "".join(f"file '{path}'\n" for path in (small, large))
    (tmp_path / "list.txt").write_text(lines)
    command = ["ffmpeg", "-v", "error", "-f", "concat", "-safe", "0", "-i", str(tmp_path / "list.txt"), "-c", "copy"]
    subprocess.run([*command, str(both)], check=True, timeout=60)
    told = record(both, folder, RecordConfig(pre_s=1, post_s=0.4), {40: [("new", 1)], 110: [("new", 2)]})
    sizes = []
    for event in told:
        clip = media_file(folder, event.clip or "")
        assert clip is not None
        sizes.append({picture.shape for _, picture in shown(clip)})
        with av.open(str(clip)) as container:
            sizes.append({(container.streams.video[0].height * 3 // 2, container.streams.video[0].width)})
    assert sizes == [{(180, 160)}, {(180, 160)}, {(360, 320)}, {(360, 320)}]
