"""The sinks that write text: what another program reads back, also after the worst."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from streamdet.errors import OutputClosed, OutputError
from streamdet.protocols import Sink
from streamdet.sinks.coco import CocoSink
from streamdet.sinks.jsonl import EventsSink, FramesSink
from streamdet.sinks.mot import MotSink
from streamdet.sinks.summary import write_summary
from streamdet.types import Detections, Event, Frame, Picture, Result, Tracks

BLACK = Picture(np.zeros((48, 64), np.uint8), bgr=np.zeros((48, 64, 3), np.uint8))


def event(frame: int = 0) -> Event:
    return Event(type="new", stream="s", frame=frame, pts_s=0.1, track=1, label="ball", score=0.5, bbox=(0, 0, 1, 1))


def result(index: int, objects: int = 2, *, name: str | None = None, events: int = 0) -> Result:
    box = np.arange(objects * 4, dtype=np.float32).reshape(objects, 4) + np.array([0, 0, 10, 20])
    number = np.arange(1, objects + 1)
    tracks = Tracks(
        number.astype(np.int64),
        number.astype(np.int64),
        box.astype(np.float32),
        np.zeros((objects, 2), np.float32),
        np.full(objects, 0.5, np.float32),
        np.zeros(objects, np.int32),
        np.where(number == 2, 2, 1).astype(np.uint8),  # the second one is coasting
        np.ones(objects, np.float32),
        number.astype(np.int32) - 1,
    )
    frame = Frame("s", index, index / 25, BLACK, captured_s=time.monotonic(), still=name is not None, name=name)
    found = Detections.of(box, np.full(objects, 0.5), np.arange(objects) % 2)
    return Result(frame, found, tracks, events=(event(index),) * events, labels=("ball", "bird"))


def lines_of(path: Path) -> list[dict[str, object]]:
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def run(script: str, **options: object) -> subprocess.Popen[bytes]:
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_text_sinks import *\n"
    return subprocess.Popen([sys.executable, "-c", start + textwrap.dedent(script)], **options)  # type: ignore[call-overload]


def test_frames_and_events(tmp_path: Path) -> None:
    with FramesSink(tmp_path / "a" / "f.jsonl") as frames, EventsSink(tmp_path / "e.jsonl") as events:
        for sink in (frames, events):
            for i in range(5):
                sink.write(result(i, events=i % 3))
                assert len(lines_of(tmp_path / "a" / "f.jsonl")) >= i + (sink is frames)  # there at once
            sink.finish((event(99),))
    assert [line["frame"] for line in lines_of(tmp_path / "a" / "f.jsonl")] == [0, 1, 2, 3, 4]
    assert [line["frame"] for line in lines_of(tmp_path / "e.jsonl")] == [1, 2, 2, 4, 99]


def test_lines_are_whole_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    process = run(
        f"""
        with FramesSink({str(path)!r}) as sink:
            print("go", flush=True)
            for i in range(10**9):
                sink.write(result(i, 40))
    """,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        time.sleep(0.15)
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = path.read_bytes().rpartition(b"\n")[0]  # Linux may end a write of several pages between two of them
    lines = [json.loads(line) for line in whole.splitlines()]
    assert len(lines) > 10
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert all(len(line["objects"]) == 40 for line in lines)


def test_coco_is_whole_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    process = run(
        f"""
        with CocoSink({str(path)!r}) as sink:
            print("go", flush=True)
            for i in range(10**9):
                sink.write(result(i, 3))
    """,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        time.sleep(0.15)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(json.loads(path.read_bytes())) > 10


def test_stdout_is_data_and_a_reader_that_leaves_ends_it_quietly() -> None:
    process = run(
        """
        try:
            with FramesSink("-") as sink:
                for i in range(10**9):
                    sink.write(result(i))
        except OutputClosed as error:
            sys.exit(error.exit_code)
    """,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(20) == 0
    with process.stderr:
        assert process.stderr.read() == b""
    assert first["frame"] == 0
    assert OutputClosed.exit_code == 0


def test_stdout_stays_open(tmp_path: Path) -> None:
    process = run(
        """
        with FramesSink("-") as sink:
            sink.write(result(0))
        print("still here")
    """,
        stdout=subprocess.PIPE,
    )
    out, _ = process.communicate(timeout=20)
    assert out.endswith(b"}\nstill here\n")


@pytest.mark.parametrize("make", [FramesSink, EventsSink, MotSink, CocoSink])
def test_full_disk(make: type[FramesSink]) -> None:
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device"), make("/dev/full") as sink:
        sink.write(result(0, events=1))


@pytest.mark.parametrize("make", [FramesSink, EventsSink, MotSink, CocoSink])
def test_unwritable(make: type[FramesSink], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "x.jsonl", tmp_path):
        with pytest.raises(OutputError, match=f"^cannot write {path}: .*give"), make(path):
            pass


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    process = run(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_001, 50_001))
        try:
            with FramesSink({str(path)!r}) as sink:
                for i in range(10_000):
                    sink.write(result(i, 5))
        except OutputError as error:
            print(error)
            sys.exit(3)
    """,
        stdout=subprocess.PIPE,
    )
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert out.decode() == f"cannot write {path}: File too large; give another place or make room there\n"
    lines = lines_of(path)
    assert len(lines) > 20
    assert path.stat().st_size > 48_000


def test_mot(tmp_path: Path) -> None:
    with MotSink(tmp_path / "t.txt") as sink:
        sink.write(result(0))
        sink.write(result(1, 0))
        sink.write(result(2, 3))
        sink.finish(())
    rows = np.loadtxt(tmp_path / "t.txt", delimiter=",")
    assert rows[:, :2].tolist() == [[1, 1], [3, 1], [3, 3]]  # frames from 1; the coasting one is not listed
    assert rows[0].tolist() == [1, 1, 0, 1, 12, 22, 0.5, -1, -1, -1]


def test_coco(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with CocoSink(path, image_ids={"b": 77}, category_ids=[37, 16]) as sink:
        assert json.loads(path.read_bytes()) == []
        for item in (result(5), result(6, 0), result(7, 1, name="000000000139.jpg"), result(8, 1, name="b.png")):
            sink.write(item)
            rows = json.loads(path.read_bytes())  # valid at any moment
        sink.finish(())
    assert [(r["image_id"], r["category_id"]) for r in rows] == [(5, 37), (5, 16), (139, 37), (77, 37)]
    assert rows[0]["bbox"] == [0, 1, 12, 22]
    assert rows[2]["file_name"] == "000000000139.jpg"
    with pytest.raises(OutputError, match="stdout"):
        CocoSink("-")


def test_summary_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "x" / "summary.json"
    write_summary(path, {"frames": 1})
    write_summary(path, {"frames": 2, "name": "Müller"})
    assert json.loads(path.read_bytes()) == {"frames": 2, "name": "Müller"}
    assert os.listdir(path.parent) == ["summary.json"]
    with pytest.raises(OutputError, match="cannot write"):
        write_summary(path / "y.json", {})


def test_they_are_sinks(tmp_path: Path) -> None:
    sinks: list[Sink] = [FramesSink("-"), EventsSink("-"), MotSink("-"), CocoSink(tmp_path / "x")]
    assert not any(sink.lossy for sink in sinks)
