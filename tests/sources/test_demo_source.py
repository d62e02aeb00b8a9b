"""The demo scene: its pictures agree with its truth, whatever the size and the rate; the source keeps its promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamdet.config import SourceConfig
from streamdet.errors import ConfigError, SourceOpenError
from streamdet.scoring import read_labels
from streamdet.sources.demo import DemoSource
from streamdet.sources.demo_light import noise, streak
from streamdet.sources.demo_scene import NOISE, Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene((960, 540), seconds=10, movers=8, seed=1)


def test_same_arguments_same_bytes_in_any_order(scene: Scene) -> None:
    other = Scene((960, 540), seconds=10, movers=8, seed=1)
    late = other.picture(77)
    assert np.array_equal(scene.picture(3).luma, other.picture(3).luma)
    mine = scene.picture(77)
    assert np.array_equal(mine.luma, late.luma)
    assert np.array_equal(mine.bgr, late.bgr)
    assert scene.truth(77) == other.truth(77)
    assert not np.array_equal(Scene((960, 540), seed=2).picture(77).luma, late.luma)


@pytest.mark.parametrize("wh", [(32, 32), (33, 47), (641, 361), (540, 960), (640, 360)])
def test_any_size(wh: tuple[int, int]) -> None:
    scene = Scene(wh, seconds=1, fps=12.5)
    for index in range(0, scene.frame_count, 4):
        picture = scene.picture(index)
        assert picture.wh == wh
        assert picture.bgr.shape == (wh[1], wh[0], 3)
        assert picture.luma.min() >= 10
        assert scene.truth(index)


def test_noise_is_independent_in_time_and_the_rest_stands_still(scene: Scene) -> None:
    patch = np.stack([scene.picture(n).luma[505:535, 330:580] for n in (0, 1, 2)]).astype(float)  # the near court edge
    change = np.diff(patch, axis=0)
    assert change.std() == pytest.approx(NOISE * 2**0.5, rel=0.15)
    assert abs(np.corrcoef(change[0].ravel(), change[1].ravel())[0, 1] + 0.5) < 0.05  # successive differences: -1/2
    field = noise((400, 400), 2.0, 10, 3).astype(float)
    assert field.mean() == pytest.approx(10, abs=0.05)


def test_a_mover_is_where_truth_says(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference between a frame with and without its movers is centred on the truth and fills the truth's box."""
    for index in (0, 41, 95, 160, 233):
        rows = [row for row in scene.truth(index) if row.wanted and row.visible]
        whole = scene.picture(index).luma.astype(float)
        with monkeypatch.context() as patch:
            patch.setattr(scene, "_stamps", lambda index: [])
            bare = scene.picture(index).luma.astype(float)
        change = np.abs(whole - bare)
        assert len(rows) >= 5
        covered = np.zeros(change.shape, bool)
        for row in rows:
            x1, y1 = int(row.cx - row.width / 2 - 1), int(row.cy - row.height / 2 - 1)
            x2, y2 = int(row.cx + row.width / 2 + 2), int(row.cy + row.height / 2 + 2)
            covered[max(0, y1) : y2, max(0, x1) : x2] = True
            box = change[max(0, y1) : y2, max(0, x1) : x2]
            assert box.max() > 15, row
            if (
                row.speed_px_s > 60
                or min(row.cx, row.cy) < 20
                or any(
                    other is not row and abs(other.cx - row.cx) < 40 and abs(other.cy - row.cy) < 40 for other in rows
                )
            ):  # a streak over a changing ground or beside another mover has no clear centre
                continue
            y, x = np.indices(box.shape)
            weight = box / box.sum()
            assert abs((weight * x).sum() + x1 + 0.5 - row.cx) < 0.7, row
            assert abs((weight * y).sum() + y1 + 0.5 - row.cy) < 0.7, row
        for row in scene.truth(index):
            if row.wanted and not row.visible:
                x, y = int(row.cx), int(row.cy)
                covered[max(0, y - 25) : max(0, y + 25), max(0, x - 25) : max(0, x + 25)] = True
        assert change[~covered].max() == 0


def test_the_cast_does_what_the_page_promises() -> None:
    scene = Scene((1920, 1080), seconds=10, movers=8)
    rows = [(index, row) for index in range(300) for row in scene.truth(index)]
    small = [(index, row) for index, row in rows if row.wanted]
    speed = np.array([row.speed_px_s / 30 for _, row in small])
    assert speed.max() < 66
    assert speed.max() > 50
    assert ((speed > 0.25) & (speed < 0.5)).sum() > 250  # a crawling far one
    assert {row.label for _, row in rows if not row.wanted} == {"person", "car"}
    assert min(min(row.width, row.height) for _, row in small) >= 2
    tracks: dict[int, list[tuple[int, bool, float, float, float]]] = {}
    for index, row in small:
        tracks.setdefault(row.id, []).append((index, row.visible, row.speed_px_s, row.cx, row.cy))
    hidden = [id for id, life in tracks.items() if any(not seen and 40 < x < 1880 for _, seen, _, x, _ in life)]
    assert hidden
    rests = [
        id for id, life in tracks.items() if sum(s < 1 for _, _, s, _, _ in life) >= 20 and life[-1][2] != life[0][2]
    ]
    assert len(rests) >= 2
    places = [{row.id: (row.cx, row.cy) for row in scene.truth(index) if row.wanted} for index in range(300)]
    nearest = min(
        np.hypot(a[0] - b[0], a[1] - b[1]) for at in places for i, a in at.items() for j, b in at.items() if i < j
    )
    assert nearest < 6  # a crossing


def test_truth_does_not_depend_on_the_rate() -> None:
    slow, fast = Scene((640, 360), fps=25), Scene((640, 360), fps=50)
    for index in (0, 30, 111):
        assert slow.truth(index) == fast.truth(2 * index)


def test_many_movers_have_ids_of_their_own() -> None:
    scene = Scene((640, 360), movers=40)
    for index in (0, 100, 299):
        ids = [row.id for row in scene.truth(index)]
        assert len(ids) == len(set(ids)) > 25


def test_a_streak_keeps_its_light() -> None:
    """Motion blur spreads a body's light along the path: the sum is the ellipse's area, at any place and speed."""
    for end in ((20.3, 20.7), (24.0, 20.7), (60.0, 41.0)):
        _, _, share = streak([(20.3, 20.7), end], (4.0, 2.5))
        assert share.sum() == pytest.approx(np.pi * 4 * 2.5, rel=0.02)
        assert 0 <= share.min() <= share.max() <= 1.001
    bent = streak([(0.0, 0.0), (10.0, 10.0), (20.0, 0.0)], (3.0, 3.0))[2]
    assert bent.sum() == pytest.approx(np.pi * 9, rel=0.02)


def test_truth_file_round_trips(tmp_path: Path) -> None:
    scene = Scene((640, 360), seconds=1)
    path = tmp_path / "truth.csv"
    scene.write_truth_csv(path)
    labels = read_labels(path)
    assert labels.format == "truth"
    assert labels.frames.tolist() == list(range(30))
    rows = sorted((row for row in scene.truth(17)), key=lambda row: row.id)
    chosen = labels.frame == 17
    assert labels.id[chosen].tolist() == [row.id for row in rows]
    assert np.allclose(labels.centre[chosen], [(row.cx, row.cy) for row in rows], atol=0.011)
    assert labels.visible[chosen].tolist() == [row.visible for row in rows]
    scene.write_truth_csv(path, frames=5)
    assert read_labels(path).frames.max() == 4


def test_source_gives_every_frame_with_honest_time() -> None:
    config = SourceConfig(demo_size="320x180", demo_seconds=0.5, fps=29.97)
    with DemoSource(stream="demo", config=config) as source:
        frames = list(source)
        info = source.info
        assert np.array_equal(frames[4].picture.luma, source.scene.picture(4).luma)
    assert [frame.index for frame in frames] == list(range(15))
    assert frames[14].pts_s == pytest.approx(14 * 1001 / 30000)
    assert frames[0].time_base is not None
    assert frames[14].pts * frames[14].time_base == pytest.approx(frames[14].pts_s)
    assert {frame.utc for frame in frames} == {None}
    assert (info.frame_wh, info.live, info.frame_count, info.fps) == ((320, 180), False, 15, 30000 / 1001)
    assert source.counts["decoded"] == 15


def test_source_stops_when_told() -> None:
    with DemoSource(stream="demo", config=SourceConfig(demo_size="64x64", max_frames=3)) as source:
        assert len(list(source)) == 3
        assert source.info.frame_count == 3
    with DemoSource(stream="demo", config=SourceConfig(demo_size="64x64")) as source:
        frames = iter(source)
        next(frames)
        source.close()
        assert list(frames) == []


@pytest.mark.parametrize("size", ["big", "1920", "1920x", "8x8", "99999x10", "-5x20"])
def test_bad_sizes_are_told(size: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"1920x1080|choose"),
        DemoSource(stream="demo", config=SourceConfig(demo_size=size)),
    ):
        pass


def test_the_scene_is_known_only_once_open() -> None:
    with pytest.raises(SourceOpenError, match="not open yet"):
        _ = DemoSource(stream="demo", config=SourceConfig()).scene


def test_mast_and_board_stand_in_front_of_everything() -> None:
    scene = Scene((960, 540), seconds=12)
    solid = scene._solid
    hidden = 0
    for index in range(0, scene.frame_count, 2):
        behind = [
            row
            for row in scene.truth(index)
            if row.wanted and 8 < row.cx < 950 and 8 < row.cy < 530 and solid[int(row.cy), int(row.cx)]
        ]
        if not behind or hidden > 12:
            continue
        hidden += 1
        whole = scene.picture(index).luma.copy()
        stamps, scene._stamps = scene._stamps, lambda index: []  # type: ignore[method-assign,assignment]
        bare = scene.picture(index).luma
        scene._stamps = stamps  # type: ignore[method-assign]
        assert np.array_equal(whole[solid], bare[solid])
    assert hidden > 4
