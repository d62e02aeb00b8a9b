"""Runs side by side: totals are right, the page stands alone, thumbnails come from the film."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest

from streamdet.cli import main
from streamdet.errors import ConfigError
from streamdet.tuning.comparison import compare
from streamdet.tuning.page import comparison_page
from streamdet.tuning.thumbnails import misses

TRUTH = "frame,id,class,x,y,w,h,visible\n" + "".join(f"{n},1,ball,{10 + 4 * n},40,8,8,1\n" for n in range(10))


def run_folder(folder: Path, name: str, *, found: range, clips: tuple[str, ...] = ("a", "b"), shift: float = 0) -> Path:
    """A run that found the ball of each clip in the frames `found`, and something false in frame 0."""
    out = folder / name
    out.mkdir()
    for clip in clips:
        lines = []
        for n in range(10):
            objects = []
            if n in found:
                box = [10 + 4 * n + shift, 40, 18 + 4 * n + shift, 48]
                objects.append({"track": 1, "state": "confirmed", "label": "ball", "score": 0.9 - n / 100, "bbox": box})
            if n == 0:
                objects.append(
                    {"track": 2, "state": "confirmed", "label": "ball", "score": 0.3, "bbox": [150, 90, 158, 98]}
                )
            lines.append({"schema": 1, "stream": clip, "frame": n, "pts_s": n / 10, "objects": objects})
        (out / f"{clip}.frames.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    streams = [{"stream": clip, "source": str(folder / f"{clip}.mp4"), "frames": 10, "wall_s": 0.5} for clip in clips]
    (out / "summary.json").write_text(json.dumps({"model": f"{name}.onnx: yolox", "streams": streams}))
    return out


@pytest.fixture
def material(tmp_path: Path) -> tuple[Path, Path, Path]:
    labels = tmp_path / "labels"
    labels.mkdir()
    for clip in ("a", "b"):
        (labels / f"{clip}.csv").write_text(TRUTH)
    return run_folder(tmp_path, "good", found=range(10)), run_folder(tmp_path, "poor", found=range(5), shift=1), labels


def test_clips_are_added_up(material: tuple[Path, Path, Path]) -> None:
    good, poor, labels = material
    runs = {run["name"]: run for run in compare([good, poor], labels).to_dict()["runs"]}
    assert runs["good"]["points"]["recall"] == 1
    assert runs["good"]["points"]["precision"] == pytest.approx(20 / 22)
    assert runs["poor"]["points"]["recall"] == 0.5
    assert runs["poor"]["points"]["median_error_px"] == 1
    assert runs["good"]["fps"] == 20
    assert runs["good"]["coco"]["AP50"] == 1  # the false one has the lowest score
    assert runs["good"]["tracking"]["targets"] == 2
    assert runs["poor"]["tracking"]["MOTA"] == pytest.approx((10 - 2) / 20)
    assert runs["poor"]["recall_by_speed"] == {"3-10": {"recall": 0.5, "count": 20}}


def test_the_curve_ends_at_the_runs_own_operating_point(material: tuple[Path, Path, Path]) -> None:
    run = compare([material[0]], material[2]).runs[0]
    recall, precision = run.curve()
    assert recall[-1] == run.points["recall"]
    assert precision[-1] == pytest.approx(run.points["precision"])
    assert precision[-2] == 1
    assert (np.diff(recall) >= 0).all()


class Outside(html.parser.HTMLParser):
    """Notes whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            value or "" for key, value in attrs if key in ("src", "href") and not str(value).startswith("data:")
        ]
        if tag not in ("meta", "img", "br", "line", "circle", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "rect"):
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_holds_the_numbers(material: tuple[Path, Path, Path], tmp_path: Path) -> None:
    good, poor, labels = material
    target = tmp_path / "out" / "report.html"
    assert (
        main(["compare", str(good), str(poor), "--labels", str(labels), "--html", str(target), "--title", "<b>&"]) == 0
    )
    text = target.read_text()
    page = Outside()
    page.feed(text)
    assert page.open == []
    assert page.fetched == []
    assert "<h1>&lt;b&gt;&amp;</h1>" in text
    for heading in ("Recall by size", "Recall by speed", "Clip by clip", "What was missed", "HOTA", "AP small"):
        assert heading in text
    record = re.search(r'<script type="application/json" id="record">(.*?)</script>', text)
    assert record is not None
    assert len(json.loads(record[1])["runs"]) == 2
    assert text.count("clip not at hand") == 10  # the films do not exist here


def test_missed_targets_come_with_their_pictures(material: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import base64

    import av
    import cv2

    for clip in ("a", "b"):
        with av.open(str(tmp_path / f"{clip}.mp4"), "w") as film:
            stream = film.add_stream("libx264", rate=10, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = 200, 120, "yuv420p"
            for n in range(10):
                picture = np.full((120, 200, 3), 40, np.uint8)
                picture[40:48, 10 + 4 * n : 18 + 4 * n] = (30, 200, 240)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
            film.mux(stream.encode())
    comparison = compare([material[0], material[1]], material[2])
    found = misses(comparison)
    assert [(one.clip, one.frame, one.found_by) for one in found] == [
        (clip, n, (True, False)) for clip in ("a", "b") for n in range(5, 10)
    ]
    for one in found:
        assert one.address is not None
        data = np.frombuffer(base64.b64decode(one.address.partition(",")[2]), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert picture.shape == (168, 168, 3)
        assert picture[..., 2].max() > 180  # the ball is in it
    assert "clip not at hand" not in comparison_page(comparison, found, title="x")


def test_if_one_run_knows_other_classes_none_is_judged_by_them(
    material: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    good, _, labels = material
    (labels / "a.csv").write_text(TRUTH.replace("1,ball,10,", "1,bird,10,"))  # one row of a class nobody found
    both = compare([good], labels).runs[0].clips["a"].boxes
    assert both is not None
    assert both.names == ("ball", "bird")
    other = run_folder(tmp_path, "other", found=range(10))
    (other / "a.frames.jsonl").write_text((other / "a.frames.jsonl").read_text().replace('"ball"', '"mover"'))
    scores = [run.clips["a"].boxes for run in compare([good, other], labels).runs]
    assert [one.names for one in scores if one is not None] == [("object",), ("object",)]


def test_what_does_not_belong_together_is_told(material: tuple[Path, Path, Path], tmp_path: Path) -> None:
    good, _, labels = material
    alone = run_folder(tmp_path, "alone", found=range(3), clips=("a", "c"))
    comparison = compare([good, alone], labels)
    assert comparison.clips == ["a"]
    assert comparison.skipped == ["b: not every run has it", "c: not every run has it"]
    with pytest.raises(ConfigError, match="one label file and the runs have 2 clips"):
        compare([good], labels / "a.csv")
    with pytest.raises(ConfigError, match=r"holds no \*.frames.jsonl"):
        compare([labels], labels)
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([good], tmp_path / "good")
