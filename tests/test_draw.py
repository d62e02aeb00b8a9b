"""The annotated picture: what it must never hide, write into or choke on, and what it costs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamdet.config import DrawConfig, Line, Zone
from streamdet.draw import Painter
from streamdet.draw import canvas as canvas_module
from streamdet.draw.canvas import DARK, PALETTE, Pen, Text, colour_of
from streamdet.draw.marks import draw_mark, is_small, ring_radius
from streamdet.draw.scene import clear_of
from streamdet.draw.tags import Tag, place_tags
from streamdet.draw.trails import Trails
from streamdet.types import COASTING, CONFIRMED, Detections, Event, Frame, Picture, Result, TilePlan, Tracks

SIZES = [(1, 1), (16, 16), (17, 300), (320, 256), (640, 480), (1920, 1080)]
PLAIN = DrawConfig(labels=False, status=False, trail_s=0)


def texture(wh: tuple[int, int], seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(60, 200, (wh[1] // 8 + 1, wh[0] // 8 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(small, wh, interpolation=cv2.INTER_LINEAR))


def tracks_of(xyxy: object, *, ids: object = None, state: object = CONFIRMED) -> Tracks:
    box = np.asarray(xyxy, np.float32).reshape(-1, 4)
    n = len(box)
    number = np.arange(1, n + 1, dtype=np.int64) if ids is None else np.asarray(ids, np.int64)
    return Tracks(
        number,
        number,
        box,
        np.zeros((n, 2), np.float32),
        np.full(n, 0.9, np.float32),
        np.zeros(n, np.int32),
        np.broadcast_to(np.asarray(state, np.uint8), (n,)),
        np.ones(n, np.float32),
        np.arange(n, dtype=np.int32),
    )


def result_of(
    painter: Painter | None,
    bgr: np.ndarray,
    tracks: Tracks | None = None,
    *,
    index: int = 0,
    found: Detections | None = None,
    tiles: TilePlan | None = None,
    events: tuple[Event, ...] = (),
    motion_state: str = "steady",
    **frame: object,
) -> Result:
    picture = Picture(np.ascontiguousarray(bgr[..., 0]), bgr=bgr)
    values = {"stream": "court", "index": index, "pts_s": index / 25, "picture": picture, "captured_s": 0.0, **frame}
    return Result(
        Frame(**values),  # type: ignore[arg-type]
        found or Detections.empty(),
        tracks or Tracks.empty(),
        tiles=tiles,
        events=events,
        motion_state=motion_state,  # type: ignore[arg-type]
        labels=("ball",),
        painter=painter,
    )


def plan(wh: tuple[int, int]) -> TilePlan:
    box = np.array([[0, 0, wh[0] // 2 + 1, wh[1]], [wh[0] // 2, 0, wh[0], wh[1]]], np.int32)
    return TilePlan(wh, (64, 64), box, np.ones((2, 2), np.float32), np.array([1, 3], np.uint8), of=7)


def crowd(count: int, wh: tuple[int, int], side: tuple[float, float] = (5, 40), seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centre = rng.uniform((0, 0), wh, (count, 2))
    size = rng.uniform(*side, (count, 2))
    return np.hstack([centre - size / 2, centre + size / 2])


# ------------------------------------------------------------------------------------------------ what it must never do


@pytest.mark.parametrize("size_px", [2, 4, 6, 12, 20])
@pytest.mark.parametrize("wh", [(320, 256), (1920, 1080), (3840, 2160)])
def test_small_objects_are_not_covered(size_px: int, wh: tuple[int, int]) -> None:
    bgr = texture(wh)
    painter = Painter(DrawConfig(), labels=["ball"])
    for index in range(12):  # moving, so that there is a trail, which turns back over the object
        x = 100 + 9 * abs(6 - index)
        box = np.array([x, 120, x + size_px, 120 + size_px], float)
        out = painter(result_of(painter, bgr, tracks_of(box), index=index))
        x1, y1, x2, y2 = box.astype(int)
        assert np.array_equal(out[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1], bgr[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1])
    assert not np.array_equal(out, bgr)


def test_the_source_picture_stays_as_it_was_and_the_result_is_new() -> None:
    bgr = texture((640, 480))
    before = bgr.copy()
    bgr.flags.writeable = False
    painter = Painter(DrawConfig(magnifier=True, tiles=True), labels=["ball"], zones=[ZONE], lines=[LINE])
    out = painter(result_of(painter, bgr, tracks_of(crowd(20, (640, 480))), tiles=plan((640, 480))))
    assert np.array_equal(bgr, before)
    assert out.shape == bgr.shape
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert not np.shares_memory(out, bgr)


ZONE = Zone(name="near the net", polygon=[(0.2, 0.2), (0.8, 0.2), (0.8, 0.7), (0.2, 0.7)])
LINE = Line(name="net", start=(0.5, 0.0), end=(0.5, 1.0))


@pytest.mark.parametrize("wh", SIZES)
@pytest.mark.parametrize("everything", [True, False])
def test_any_size_and_any_box(wh: tuple[int, int], everything: bool) -> None:
    config = DrawConfig(magnifier=everything, tiles=everything, labels=everything, status=everything)
    painter = Painter(config, labels=["ball"], zones=[ZONE], lines=[LINE])
    wild = np.array(
        [
            [np.nan, 0, 1, 1],
            [0, 0, np.inf, 4],
            [-1e9, -1e9, 1e9, 1e9],
            [5, 5, 5, 5],
            [9, 9, 3, 3],
            [-50, -50, -40, -40],
            [wh[0] - 2, wh[1] - 2, wh[0] + 9, wh[1] + 9],
        ]
    )
    for index in range(3):
        tracks = tracks_of(np.vstack([wild, crowd(30, wh)]))
        out = painter(result_of(painter, texture(wh), tracks, index=index, tiles=plan(wh)))
        assert out.shape == (wh[1], wh[0], 3)


def test_non_contiguous_picture() -> None:
    bgr = np.rot90(texture((64, 48)))
    painter = Painter(PLAIN, labels=["ball"])
    assert np.array_equal(painter(result_of(painter, bgr)), bgr)


def test_nothing_to_say_leaves_the_picture() -> None:
    bgr = texture((640, 480))
    painter = Painter(PLAIN, labels=["ball"])
    assert np.array_equal(painter(result_of(painter, bgr, tracks_of([[1, 1, 9, 9]], state=0))), bgr)  # tentative


# ------------------------------------------------------------------------------------------------------ marks, colours


def test_a_mark_that_hesitates_between_ring_and_corners_keeps_what_it_was() -> None:
    pen = Pen.for_picture((1920, 1080))
    for was in (True, False):
        assert is_small((0, 0, 27, 20), pen, was) is was
    assert is_small((0, 0, 20, 20), pen, False)
    assert not is_small((0, 0, 40, 20), pen, True)
    assert ring_radius((0, 0, 6, 6), pen) < ring_radius((0, 0, 20, 20), pen)


def test_ring_lies_where_the_object_is() -> None:
    pen = Pen.for_picture((1920, 1080))
    picture = np.zeros((101, 101, 3), np.uint8)
    draw_mark(picture, (47.5, 47.5, 53.5, 53.5), (255, 255, 255), pen, radius=12.0, dashed=False)
    y, x = np.nonzero(picture[..., 0] > 60)
    assert (x.mean() + 0.5, y.mean() + 0.5) == pytest.approx((50.5, 50.5), abs=0.15)  # pixel 50's centre is at 50.5
    assert np.hypot(x - 50, y - 50).mean() == pytest.approx(12, abs=0.6)


def test_coasting_is_dashed() -> None:
    pen = Pen.for_picture((1920, 1080))
    for radius, box in ((14.0, (45, 45, 55, 55)), (None, (20, 20, 80, 80))):
        lit = []
        for dashed in (False, True):
            picture = np.zeros((101, 101, 3), np.uint8)
            draw_mark(picture, box, (255, 255, 255), pen, radius=radius, dashed=dashed)
            lit.append(int((picture > 100).sum()))
        assert 0.3 * lit[0] < lit[1] < 0.8 * lit[0]


def test_colours_belong_to_tracks() -> None:
    bgr = np.zeros((1080, 1920, 3), np.uint8)  # lines of 2 px, so that some pixels are wholly covered
    painter = Painter(PLAIN, labels=["ball"])
    boxes = [[100, 100, 110, 110], [300, 300, 310, 310]]
    for ids in ([3, 9], [9, 3]):  # whatever the order of rows
        out = painter(result_of(painter, bgr, tracks_of(boxes, ids=ids)))
        for track, (x, y, _, _) in zip(ids, boxes):
            around = out[y - 20 : y + 30, x - 20 : x + 30].reshape(-1, 3)
            assert (np.abs(around.astype(int) - colour_of(track)) < 8).all(axis=1).any()


def test_palette_is_told_apart_by_everyone() -> None:
    def linear(c: np.ndarray) -> np.ndarray:
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)

    def encoded(c: np.ndarray) -> np.ndarray:
        c = np.clip(c, 0, 1)
        return np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)

    seen_by = {  # Machado, Oliveira, Fernandes 2009, severity 1
        "everyone else": np.eye(3),
        "protanopes": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
        "deuteranopes": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
        "tritanopes": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
    }
    rgb = linear(np.array(PALETTE)[:, ::-1] / 255)
    for who, matrix in seen_by.items():
        seen = encoded(rgb @ np.array(matrix).T).astype(np.float32)
        lab = cv2.cvtColor(seen[None], cv2.COLOR_RGB2LAB)[0]
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        assert min(apart[i, (i + 1) % len(lab)] for i in range(len(lab))) > 30, who
        assert apart[~np.eye(len(lab), dtype=bool)].min() > 13, who
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark = linear(np.array(DARK)[::-1] / 255) @ weights
    assert ((rgb @ weights + 0.05) / (dark + 0.05)).min() > 4.5  # WCAG AA for the text on tags


# --------------------------------------------------------------------------------------------------------------- labels


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@pytest.mark.parametrize("count", [1, 5, 30, 120])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tags_cover_neither_each_other_nor_objects(count: int, seed: int) -> None:
    wh = (1280, 720)
    marks = crowd(count, wh, side=(20, 60), seed=seed)
    tags = [Tag(i + 1, "ball 1", "", (255, 255, 255), tuple(mark), False) for i, mark in enumerate(marks.tolist())]
    size = (70, 22)
    taken = [(0.0, 0.0, 300.0, 40.0)]
    placed = place_tags(tags, [size] * count, wh, taken, {})
    boxes = [box for _, box, _ in placed]
    for row, box in enumerate(boxes):
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= wh[0]
        assert box[3] <= wh[1]
        others = [*(tag.mark for tag in tags), *taken, *boxes[:row]]
        assert sum(overlap(box, other) for other in others) <= 0.02 * size[0] * size[1] + 1e-6
    assert len(placed) >= min(count, 20)


def test_tags_stay_where_they_are_while_they_can() -> None:
    before: dict[int, int] = {}
    tag = Tag(1, "a", "", (9, 9, 9), (100.0, 100.0, 130.0, 130.0), True)
    blocker = [(90.0, 60.0, 300.0, 99.0)]
    (_, first, _), *_ = place_tags([tag], [(50, 20)], (640, 480), blocker, before)
    (_, second, _), *_ = place_tags([tag], [(50, 20)], (640, 480), [], before)
    (_, fresh, _), *_ = place_tags([tag], [(50, 20)], (640, 480), [], {})
    assert first == second != fresh


def test_what_fills_the_picture_is_named_too() -> None:
    wh = (768, 432)
    marks = [(-2.0, -2.0, 770.0, 434.0), (0.0, 2.0, 765.0, 432.0), (272.0, 187.0, 490.0, 425.0)]
    tags = [Tag(n, "refrigerator", "", (9, 9, 9), mark, False) for n, mark in enumerate(marks)]
    placed = place_tags(tags, [(90, 20)] * 3, wh, [(0.0, 0.0, 250.0, 24.0)], {})
    assert len(placed) == 3
    assert not any(overlap(box, marks[2]) for _, box, _ in placed[:2])  # still clear of what is smaller


@pytest.mark.parametrize("name", ["Müller", "мяч", "球", "كرة", "⚽", "", "a" * 300, "\x00\n\t", "\ud800"])
@pytest.mark.parametrize("stroke_font", [False, True])
def test_any_label_name(name: str, stroke_font: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if stroke_font:  # what OpenCV 4 has
        monkeypatch.delattr(canvas_module.cv2, "FontFace", raising=False)
    bgr = texture((640, 480))
    painter = Painter(DrawConfig(), labels=[name], zones=[Zone(name=name, polygon=[(9, 9), (99, 9), (99, 99)])])
    out = painter(result_of(painter, bgr, tracks_of([[300, 200, 310, 210]]), stream=name))
    assert not np.array_equal(out, bgr)


def test_stroke_font_never_writes_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(canvas_module.cv2, "FontFace", raising=False)
    text = Text()
    assert text.readable("Müller", "4") == "Muller"
    assert text.readable("球", "4") == "4"
    assert text.readable("ball", "4") == "ball"


# --------------------------------------------------------------------------------------------------------------- trails


def drawn(trails: Trails, wh: tuple[int, int] = (640, 480)) -> np.ndarray:
    picture = np.zeros((wh[1], wh[0], 3), np.uint8)
    trails.draw(picture, Pen.for_picture(wh), {})
    return picture.max(axis=2)


def test_trail_fades_thins_and_goes() -> None:
    trails = Trails(1.0)
    for index in range(26):
        trails.add(index / 25, np.array([1]), np.array([[100.0 + 16 * index, 200.0]]))
    picture = drawn(trails)
    new, old = picture[190:211, 460:490], picture[190:211, 130:160]
    assert new.max() > old.max() + 60 > 60
    assert (new > 30).sum() > (old > 30).sum() > 0
    trails.add(1.9, np.zeros(0, np.int64), np.zeros((0, 2)))
    assert 0 < drawn(trails).max() < new.max()  # its track has ended: what is left of it fades
    trails.add(2.2, np.zeros(0, np.int64), np.zeros((0, 2)))
    assert drawn(trails).max() == 0
    assert not trails._points


def test_a_trail_has_a_hole_where_its_track_was_not_seen() -> None:
    """Found again half a second later, 300 px away: a straight line between would be a way that nobody saw."""
    trails = Trails(5.0)
    for index in range(10):
        trails.add(index / 25, np.array([1]), np.array([[50.0 + 10 * index, 200.0]]))
    for index in range(10, 22):
        trails.add(index / 25, np.zeros(0, np.int64), np.zeros((0, 2)))
    for index in range(22, 30):
        trails.add(index / 25, np.array([1]), np.array([[400.0 + 10 * (index - 22), 200.0]]))
    across = drawn(trails)[195:206].max(axis=0)
    assert across[60:130].min() > 0
    assert across[410:460].min() > 0
    assert across[150:390].max() == 0


@pytest.mark.parametrize("step_s", [0.2, 1.0])
def test_few_frames_a_second_tear_no_trail(step_s: float) -> None:
    trails = Trails(10.0)
    for index in range(6):
        trails.add(index * step_s, np.array([1]), np.array([[50.0 + 60 * index, 200.0]]))
    assert drawn(trails)[195:206].max(axis=0)[60:340].min() > 0


def test_trails_are_bounded() -> None:
    trails = Trails(1e9)
    for index in range(700):
        trails.add(index / 1000, np.arange(index, index + 3), np.zeros((3, 2)) + index)
    assert len(trails._points) <= 500
    for index in range(1000):
        trails.add(1 + index / 1000, np.array([5000]), np.zeros((1, 2)) + index)
    assert len(trails._points[5000]) <= 256
    drawn(trails)


@pytest.mark.parametrize("change", ["epoch", "time", "cut", "size"])
def test_what_was_before_is_forgotten(change: str) -> None:
    painter = Painter(DrawConfig(labels=False, status=False), labels=["ball"])
    bgr = np.zeros((480, 640, 3), np.uint8)
    for index in range(10, 20):
        painter(result_of(painter, bgr, tracks_of([[20 * index, 100, 20 * index + 6, 106]]), index=index))
    options: dict[str, object] = {
        "epoch": {"index": 20, "epoch": 1},
        "time": {"index": 0},
        "cut": {"index": 20, "motion_state": "cut"},
        "size": {"index": 20},
    }[change]  # type: ignore[assignment]
    if change == "size":
        bgr = np.zeros((481, 640, 3), np.uint8)
    out = painter(result_of(painter, bgr, tracks_of([[600, 400, 606, 406]]), **options))  # type: ignore[arg-type]
    assert out[:300].max() == 0


# ---------------------------------------------------------------------------------------------------- zones, lines, rest


def test_zone_counts_what_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = Text.write

    def note(self: Text, picture: np.ndarray, text: str, *rest: object) -> None:
        written.append(text)
        real(self, picture, text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Text, "write", note)
    zones = [
        Zone(name="relative", polygon=[(0.5, 0), (1, 0), (1, 1), (0.5, 1)]),
        Zone(name="feet", polygon=[(0, 200), (640, 200), (640, 480), (0, 480)], anchor="bottom_center"),
        Zone(name="others", polygon=[(0, 0), (640, 0), (640, 480), (0, 480)], classes=["bird"]),
    ]
    painter = Painter(DrawConfig(labels=False, status=False), labels=["ball", "bird"], zones=zones)
    boxes = [[400, 10, 420, 30], [500, 150, 520, 210], [10, 300, 30, 320]]
    bgr = texture((640, 480))
    out = painter(result_of(painter, bgr, tracks_of(boxes)))
    assert written == ["relative  2", "feet  2", "others  0"]
    inside = out[100:140, 560:600].astype(int) - bgr[100:140, 560:600]
    assert 3 < np.abs(inside).mean() < 40  # tinted, still seen


def test_line_points_in_and_counts_crossings(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(name="net", start=(100, 240), end=(500, 240))  # to the right: its right-hand side is down
    painter = Painter(DrawConfig(labels=False, status=False), labels=["ball"], lines=[line])
    bgr = np.zeros((480, 640, 3), np.uint8)
    out = painter(result_of(painter, bgr))
    assert out[250:270, 280:320].max() > 100
    assert out[210:230, 280:320].max() == 0

    written: list[str] = []
    monkeypatch.setattr(Text, "write", lambda self, picture, text, *rest: written.append(text))
    for index, direction in enumerate(["in", "in", "out"]):
        event = Event(
            type="cross", stream="s", frame=index, pts_s=index / 25, track=1, label="ball", score=1.0,
            bbox=(0, 0, 1, 1), line="net", direction=direction,
        )  # fmt: skip
        painter(result_of(painter, bgr, index=index, events=(event,)))
    assert written[-1] == "net  in 2  out 1"


def test_stills_show_their_detections_and_no_trails() -> None:
    bgr = texture((640, 480))
    painter = Painter(PLAIN, labels=["ball"])
    found = Detections.of([[100, 100, 106, 106], [300, 200, 420, 400]], [0.9, 0.8])
    out = painter(result_of(painter, bgr, found=found, still=True, name="a.jpg"))
    changed = np.abs(out.astype(int) - bgr).max(axis=2) > 0
    assert changed[80:130, 80:130].any()
    assert changed[190:230, 290:330].any()
    assert not changed[:70].any()


def test_magnifier_shows_the_object_enlarged_and_out_of_its_way() -> None:
    bgr = np.zeros((480, 640, 3), np.uint8)
    painter = Painter(DrawConfig(magnifier=True, labels=False, status=False, trail_s=0), labels=["ball"])
    for x, y in ((100, 100), (600, 450), (2, 2)):
        picture = bgr.copy()
        picture[y : y + 6, x : x + 6] = 255
        out = painter(result_of(painter, picture, tracks_of([[x, y, x + 6, y + 6]])))
        white = out.min(axis=2) > 200
        assert white[y : y + 6, x : x + 6].all()
        assert (
            white.sum() > 36 * 10
        )  # 36 px of the object, and at least 16 times as many in the inset, less its soft edge


def test_one_result_is_drawn_once_by_many_threads() -> None:
    painter = Painter(DrawConfig(), labels=["ball"])
    result = result_of(painter, texture((640, 480)), tracks_of(crowd(10, (640, 480))))
    out: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: out.append(result.annotated())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, out[0]) for one in out)


@pytest.mark.parametrize(("wh", "limit_s"), [((1920, 1080), 0.012), ((3840, 2160), 0.030)])
def test_cost(wh: tuple[int, int], limit_s: float) -> None:
    """Ten objects with trails; the limit is three times what it takes on an idle machine, copying the picture included."""
    bgr = texture(wh)
    painter = Painter(DrawConfig(), labels=["ball"])
    boxes = crowd(10, (wh[0] - 400, wh[1] - 200)) + 60
    spent = []
    for index in range(30):
        state = [COASTING if row == 3 else CONFIRMED for row in range(10)]
        result = result_of(painter, bgr, tracks_of(boxes + 5 * index, state=state), index=index)
        start = time.perf_counter()
        result.annotated()
        spent.append(time.perf_counter() - start)
    assert min(spent[10:]) < limit_s


def test_real_frame(shared_data: Path, tmp_path: Path) -> None:
    capture = cv2.VideoCapture(str(shared_data / "clips" / "tennis_amateur" / "clip.mp4"))
    done, bgr = capture.read()
    capture.release()
    assert done
    painter = Painter(DrawConfig(magnifier=True), labels=["ball"])
    out = painter(result_of(painter, bgr, tracks_of([[865, 277, 875, 286]])))
    assert np.array_equal(out[277:286, 865:875], bgr[277:286, 865:875])
    assert 0.005 < (out != bgr).any(axis=2).mean() < 0.08


def test_the_name_of_a_zone_is_not_hidden_under_the_status_line() -> None:
    at = clear_of((200.0, 30.0), (10.0, 4.0))
    assert at == (10.0, 30.0)
    assert clear_of((200.0, 30.0), (210.0, 4.0)) == (210.0, 4.0)
    assert clear_of((200.0, 30.0), (10.0, 90.0)) == (10.0, 90.0)
