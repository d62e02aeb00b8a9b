"""The main job as a user runs it: words in, film and JSON out; mistakes are one sentence and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import streamdet
from streamdet.cli import main
from streamdet.config import Config, with_values

SMALL = ["--set", "source.demo_size=640x360", "--set", "source.demo_seconds=1.5"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of the built-in scene with every output."""
    folder = tmp_path_factory.mktemp("run")
    words = ["run", "demo", "--model", "motion", "--output", str(folder / "out"), "--quiet", *SMALL]
    assert main([*words, "--mot", str(folder / "out/mot.txt"), "--coco", str(folder / "out/coco.json")]) == 0
    return folder / "out"


def test_every_output_is_there_and_whole(done: Path) -> None:
    names = {"demo.mp4", "demo.frames.jsonl", "demo.events.jsonl", "summary.json", "mot.txt", "coco.json"}
    assert {path.name for path in done.iterdir()} == names
    frames = lines(done / "demo.frames.jsonl")
    assert [record["frame"] for record in frames] == list(range(45))
    assert {"schema", "stream", "frame", "pts", "time_base", "pts_s", "epoch", "objects"} <= frames[-1].keys()
    with av.open(str(done / "demo.mp4")) as film:
        shown = [float(frame.pts * frame.time_base) for frame in film.decode(video=0)]
    np.testing.assert_allclose(shown, [record["pts_s"] for record in frames], atol=1e-4)
    assert json.loads((done / "coco.json").read_text()) is not None
    assert len((done / "mot.txt").read_text().splitlines()) > 20


def test_tracks_and_events_tell_the_same_story(done: Path) -> None:
    shown = {obj["track"] for record in lines(done / "demo.frames.jsonl") for obj in record["objects"]}
    events = lines(done / "demo.events.jsonl")
    assert {event["track"] for event in events if event["type"] == "new"} == shown
    assert {event["track"] for event in events if event["type"] == "end"} == shown
    for event in events:
        if event["type"] == "end":
            assert event["start_s"] <= event["end_s"] <= event["pts_s"] + 1e-6
            assert event["path"][0][0] == pytest.approx(event["start_s"], abs=1e-6)


def test_the_movers_of_the_scene_are_found(done: Path) -> None:
    from streamdet.scoring import demo_score, read_frames_jsonl, read_labels
    from streamdet.sources.demo_scene import Scene

    truth = done.parent / "truth.csv"
    Scene((640, 360), seconds=1.5).write_truth_csv(truth)
    score = demo_score(read_frames_jsonl(str(done / "demo.frames.jsonl")), read_labels(str(truth)))
    assert score.recall is not None
    assert score.recall > 0.7  # 1.5 s: the time to confirm weighs


def test_the_summary_adds_up(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    stream = summary["streams"][0]
    assert stream["frames"] == 45
    assert stream["events"] == len(lines(done / "demo.events.jsonl"))
    ids = {obj["track"] for record in lines(done / "demo.frames.jsonl") for obj in record["objects"]}
    assert sum(stream["objects"]["objects"].values()) == len(ids)
    assert set(stream["stages_ms"]) >= {"decode", "motion", "merge", "track", "rules"}


def test_the_same_run_twice_gives_the_same_records(done: Path, tmp_path: Path) -> None:
    assert main(["run", "demo", "--model", "motion", "--output", str(tmp_path), "--no-video", "--quiet", *SMALL]) == 0

    def stripped(path: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in record.items() if k != "latency_s"} for record in lines(path)]

    for name in ("demo.frames.jsonl", "demo.events.jsonl"):
        assert stripped(tmp_path / name) == stripped(done / name)


def test_the_python_face_gives_what_the_files_hold(done: Path) -> None:
    settings = {"source.demo_size": "640x360", "source.demo_seconds": 1.5}
    run = streamdet.run("demo", model="motion", settings=settings)
    records, events = lines(done / "demo.frames.jsonl"), lines(done / "demo.events.jsonl")
    count = 0
    for result, record in zip(run, records, strict=True):
        assert result.tracks.shown.id.tolist() == [obj["track"] for obj in record["objects"]]
        count += len(result.events)
        if result.frame.index == 40:
            assert result.annotated().shape == (360, 640, 3)
    assert count + len(run.closing_events) == len(events)
    assert run.summary["streams"][0]["frames"] == 45


def test_several_sources_each_with_their_own_files(tmp_path: Path) -> None:
    words = [
        "run",
        "demo",
        "demo",
        "--model",
        "motion",
        "--output",
        str(tmp_path),
        "--no-video",
        "--max-frames",
        "5",
        "--quiet",
    ]
    assert main([*words, *SMALL]) == 0
    assert len(lines(tmp_path / "demo.frames.jsonl")) == len(lines(tmp_path / "demo-2.frames.jsonl")) == 5


def test_frames_on_standard_output_are_nothing_but_data(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "streamdet",
        "run",
        "demo",
        "--model",
        "motion",
        "--frames",
        "-",
        "--max-frames",
        "6",
        *SMALL,
    ]
    done = subprocess.run(words, capture_output=True, check=True, cwd=tmp_path, timeout=60)
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == list(range(6))
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_ends_the_run_quietly(tmp_path: Path) -> None:
    words = f"{sys.executable} -m streamdet run demo --model motion --quiet --frames - {' '.join(SMALL)} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", words], capture_output=True, cwd=tmp_path, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["frame"] == 0


def start(tmp_path: Path, frames_wanted: int) -> subprocess.Popen[bytes]:
    """A long run in a process of its own, once it has written some lines."""
    words = [sys.executable, "-m", "streamdet", "run", "demo", "--model", "motion", "--output", "out", "--quiet"]
    process = subprocess.Popen(
        [*words, "--set", "source.demo_size=640x360", "--set", "source.demo_seconds=600"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    file = tmp_path / "out" / "demo.frames.jsonl"
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= frames_wanted):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_interrupted_it_finishes_its_files(tmp_path: Path) -> None:
    process = start(tmp_path, 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in said
    frames = lines(tmp_path / "out/demo.frames.jsonl")
    with av.open(str(tmp_path / "out/demo.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == len(frames)
    assert json.loads((tmp_path / "out/summary.json").read_text())["streams"][0]["frames"] == len(frames)
    assert lines(tmp_path / "out/demo.events.jsonl")[-1]["type"] == "end"


def test_killed_it_leaves_whole_lines_and_a_film_that_plays(tmp_path: Path) -> None:
    process = start(tmp_path, 120)
    process.kill()
    process.communicate(timeout=30)
    assert len(lines(tmp_path / "out/demo.frames.jsonl")) >= 120
    lines(tmp_path / "out/demo.events.jsonl")
    with av.open(str(tmp_path / "out/demo.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) > 10


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run"], 2, "no SOURCE given"),
        (["run", "none.mp4"], 3, "none.mp4: there is no such file"),
        (["run", "empty.mp4"], 3, "the file is empty"),
        (["run", "junk.mp4"], 3, "FFmpeg cannot read it"),
        (["run", "folder"], 3, "it is empty"),
        (["run", "still.png", "--model", "motion"], 2, "`motion` finds only what moves"),
        (["run", "demo", "--model", "motion", "--classes", "ball"], 2, "knows one class"),
        (["run", "demo", "--model", "motion", "--conf", "2"], 2, "model.conf"),
        (["run", "demo", "--model", "motion", "--conf", "nan"], 2, "model.conf"),
        (["run", "demo", "--model", "motion", "--device", "cuda:0"], 3, "runs on the CPU"),
        (["run", "demo", "--model", "motion", "--tile", "10x"], 2, "10x"),
        (["run", "demo", "--frames", "a.jsonl", "--events", "a.jsonl"], 2, "both be written to a.jsonl"),
        (["run", "demo", "--set", "tiles.roi=[[[0,0],[1,1]]]", "--output", "o"], 2, "roi"),
        (["eval", "lines.jsonl", "none.csv", "--within", "-5"], 2, "--within"),
        (["run", "still.png", "--model", "none.onnx"], 3, "model none.onnx does not exist"),
        (["run", "still.png", "--model", "junk.mp4"], 3, "not an ONNX model"),
        (["run", "demo", "--conf", "high"], 2, "--conf high"),
        (["run", "demo", "--set", "tiles.lok=1"], 2, "did you mean 'look'"),
        (["run", "demo", "--set", "tiles.look"], 2, "expected PATH=VALUE"),
        (["run", "demo", "--config", "none.yaml"], 2, "cannot read configuration"),
        (["run", "demo", "--output", "junk.mp4/out"], 3, "junk.mp4"),
        (["run", "demo", "demo", "--frames", "one.jsonl"], 2, "cannot hold several sources"),
        (["run", "demo", "--video", "film.xyz", "--max-frames", "2"], 3, "film.xyz"),
        (["run", "rtsp://me:s3cret@127.0.0.1:9/x", "--events", "-"], 3, "rtsp://***@127.0.0.1:9/x"),
        (["eval", "none.jsonl", "none.csv"], 2, "none.jsonl"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "junk.mp4").write_bytes(os.urandom(4000))
    (tmp_path / "folder").mkdir()
    cv2.imwrite("still.png", np.zeros((16, 16, 3), np.uint8))
    assert main(words) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert "s3cret" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_stream_is_nobodys_harm(closed: str, tmp_path: Path) -> None:
    """As some cron jobs and daemons start their programs: a log must not end up in the first file that is opened."""
    run = f"{sys.executable} -m streamdet.cli run demo --model motion --set source.demo_size=320x240 --max-frames 3 -v"
    done = subprocess.run(["bash", "-c", f"{run} --output out {closed}"], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
    rows = (tmp_path / "out" / "demo.frames.jsonl").read_text().splitlines()
    assert [json.loads(row)["frame"] for row in rows] == [0, 1, 2]


def test_a_full_disk_behind_standard_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "streamdet.cli", "models"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 3
    assert done.stderr == "streamdet: cannot write standard output: No space left on device; make room there\n"


def test_the_source_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "match.mp4").write_bytes(b"precious")
    assert main(["run", "match.mp4", "--model", "motion", "--output", "."]) == 2
    assert "would overwrite the source" in capsys.readouterr().err
    assert (tmp_path / "match.mp4").read_bytes() == b"precious"


def test_the_demo_keeps_its_truth_where_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--model", "motion", "--size", "640x360", "--seconds", "0.5", "--no-video", "--quiet"]) == 0
    folder = tmp_path / "runs" / "demo"
    assert main(["eval", str(folder / "demo.frames.jsonl"), str(folder / "demo.truth.csv")]) == 0


def test_the_source_is_known_by_all_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "match.mp4").write_bytes(b"precious")
    os.link(tmp_path / "match.mp4", tmp_path / "other.mp4")
    assert main(["run", str(tmp_path / "match.mp4"), "--model", "motion", "--video", str(tmp_path / "other.mp4")]) == 2
    assert "would overwrite the source" in capsys.readouterr().err


def test_a_mistake_leaves_earlier_results_alone(done: Path) -> None:
    before = {path: path.stat().st_size for path in done.iterdir()}
    words = ["run", "demo", "--model", "motion", "--output", str(done), "--quiet", *SMALL]
    assert main([*words, "--set", "tiles.roi=[[[0,0],[1,1]]]"]) == 2
    assert {path: path.stat().st_size for path in done.iterdir()} == before


def test_one_missing_source_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "demo", str(tmp_path / "none.mp4"), "--model", "motion", "--max-frames", "3", "--no-video"]
    assert main([*words, "--output", str(tmp_path / "out"), *SMALL]) == 3
    said = capsys.readouterr().err
    assert "demo: 3 frames" in said
    assert said.count("there is no such file") == 1


def test_the_printed_configuration_is_the_one_that_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "demo", "--look", "all", "--conf", "ball:0.4", "--print-config"]) == 0
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    config = with_values(Config(), {"sources": ["demo"], "tiles.look": "all", "model.conf": {"ball": 0.4}})
    assert streamdet.run([], config=str(tmp_path / "c.yaml")).config == config


def test_small_commands_answer(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["models"], "motion"), (["info"], "onnxruntime"), (["config-schema"], '"$schema"')):
        assert main(words) == 0
        assert said in capsys.readouterr().out
