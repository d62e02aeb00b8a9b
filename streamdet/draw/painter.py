"""Draws a Result: marks that do not hide 6 px objects, trails, labels that do not pile up, zones, a small status line.

Sizes follow the picture's, colours follow the track. Nothing here changes what was found.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamdet.config import DrawConfig, Line, Zone
from streamdet.draw.canvas import Colour, Pen, Text, colour_of, dimmed
from streamdet.draw.magnifier import Magnifier
from streamdet.draw.marks import Box, draw_mark, draw_outline, is_small, mark_box, ring_radius
from streamdet.draw.scene import Lines, Zones, draw_tiles, plate
from streamdet.draw.silhouette import draw_silhouette
from streamdet.draw.tags import Tag, draw_tag, place_tags, tag_size
from streamdet.draw.trails import Trails
from streamdet.masks import Mask
from streamdet.types import COASTING, U8, Detections, Frame, Picture, Result, Tracks

__all__ = ["Painter"]

_SCORES_UP_TO = 25  # objects; with more the labels lose their score ...
_NAMES_UP_TO = 50  # ... then their class name ...
_MOST_TAGS = 90  # ... and then only so many are labelled
_RINGS_UP_TO = 200  # objects of a still; more get thin boxes: rings would cover a picture from above entirely
_CASED_UP_TO = 40  # objects drawn with a dark edge
_CALM = 0.35  # share of a new size in the radius of a ring, so that it does not tremble


@dataclass(frozen=True, slots=True)
class _Object:
    """One thing to draw."""

    key: int  # track id, or minus the row of a detection
    box: Box
    colour: Colour
    name: str
    score: float
    coasting: bool
    radius: float | None  # of its ring, None for a large object
    mask: Mask | None = None


class Painter:
    """``painter(result)`` -> (H, W, 3) u8 BGR, a new picture. Remembers trails, so call it once per Result, in order.

    Shown are confirmed and coasting tracks; on a still picture its detections (of one too large to be held, on its overview).
    Counts at lines are of the Results drawn.
    Safe to call from several threads; a Result that another one has drawn meanwhile is not drawn again.
    """

    def __init__(
        self, config: DrawConfig, *, labels: Sequence[str], zones: Sequence[Zone] = (), lines: Sequence[Line] = ()
    ) -> None:
        self._config = config
        self._text = Text()
        self._names = [self._text.readable(name, str(number)) for number, name in enumerate(labels)]
        self._zones = Zones(zones, labels)
        self._lines = Lines(lines)
        self._trails = Trails(config.trail_s)
        self._magnifier = Magnifier()
        self._magnified = 0
        self._radii: dict[int, float | None] = {}
        self._tag_places: dict[int, int] = {}
        self._status_px = 0
        self._epoch: int | None = None
        self._wh = (0, 0)
        self._lock = threading.Lock()

    def change(self, zones: Sequence[Zone], lines: Sequence[Line], labels: Sequence[str]) -> None:
        """Other zones and lines, from the next picture on."""
        with self._lock:
            self._zones, self._lines = Zones(zones, labels), Lines(lines)

    def __call__(self, result: Result) -> U8:
        with self._lock:
            if result.painted:
                return result.painted[0]
            return self._draw(result)

    def _draw(self, result: Result) -> U8:
        result, shrink = _at_drawing_size(result)
        frame = result.frame
        original = frame.picture.bgr
        picture: U8 = np.array(original, order="C", copy=True)
        pen = Pen.for_picture(frame.wh)
        tracks = result.tracks.shown
        tracks = tracks[np.isfinite(tracks.xyxy).all(axis=1)]
        self._forget_if_new(result)
        self._lines.note(result.events)

        corner = self._status_corner(picture, pen)
        self._zones.draw(picture, pen, self._text, tracks, corner=corner)
        self._lines.draw(picture, pen, self._text, frame.pts_s, corner=corner)
        if self._config.tiles and result.tiles is not None:
            draw_tiles(picture, result.tiles, pen, self._text)
        objects = self._of_detections(result, pen) if frame.still else self._of_tracks(tracks, result, pen)
        for item in objects:
            if item.mask is not None:
                draw_silhouette(picture, item.mask, item.colour, pen)
        if not frame.still:
            self._draw_trails(picture, frame, tracks, objects, pen)
        crowded = frame.still and len(objects) > _RINGS_UP_TO
        for item in objects:
            if crowded:
                draw_outline(picture, item.box, item.colour)
                continue
            draw_mark(
                picture,
                item.box,
                item.colour,
                pen,
                radius=item.radius,
                dashed=item.coasting,
                cased=len(objects) <= _CASED_UP_TO,
            )
        status = self._status_words(result, len(objects), shrink) if self._config.status else []
        if self._config.labels and not crowded:
            self._draw_tags(picture, objects, pen, status_high=bool(status))
        if self._config.magnifier:
            self._draw_magnified(picture, original, objects, pen)
        self._draw_status(picture, status, pen)
        return picture

    def _forget_if_new(self, result: Result) -> None:
        """A new epoch, scene or picture size has nothing to do with what was before."""
        frame = result.frame
        if frame.epoch != self._epoch or frame.wh != self._wh or result.motion_state == "cut" or frame.still:
            self._trails.clear()
            self._radii.clear()
            self._tag_places.clear()
        self._epoch, self._wh = frame.epoch, frame.wh

    # ------------------------------------------------------------------------------------------------- what is there

    def _of_tracks(self, tracks: Tracks, result: Result, pen: Pen) -> list[_Object]:
        masks = result.detections.masks
        radii: dict[int, float | None] = {}
        objects = []
        for key, box, label, score, state, row in zip(
            tracks.id.tolist(),
            tracks.xyxy.tolist(),
            tracks.label.tolist(),
            tracks.score.tolist(),
            tracks.state.tolist(),
            tracks.detection_row.tolist(),
        ):
            radii[key] = self._radius(key, box, pen)
            coasting = state == COASTING
            colour = dimmed(colour_of(key), 0.45) if coasting else colour_of(key)
            mask = None if masks is None or row < 0 else masks[row]
            objects.append(_Object(key, box, colour, f"{self._name(label)} {key}", score, coasting, radii[key], mask))
        self._radii = radii
        return objects

    def _of_detections(self, result: Result, pen: Pen) -> list[_Object]:
        found = result.detections
        found = found[np.isfinite(found.xyxy).all(axis=1) & np.isfinite(found.score)]
        masks = [None] * len(found) if found.masks is None else found.masks.tolist()
        rows = zip(found.xyxy.tolist(), found.label.tolist(), found.score.tolist(), masks)
        return [
            _Object(
                -row, box, colour_of(label + 1), self._name(label), score, False, self._radius(-row, box, pen), mask
            )
            for row, (box, label, score, mask) in enumerate(rows)
        ]

    def _name(self, label: int) -> str:
        return self._names[label] if 0 <= label < len(self._names) else str(label)

    def _radius(self, key: int, box: Box, pen: Pen) -> float | None:
        """Radius of the ring of a small object, following its size calmly; None for a large one."""
        known = key in self._radii
        before = self._radii.get(key)
        if not is_small(box, pen, before is not None if known else None):
            return None
        radius = ring_radius(box, pen)
        return radius if before is None else before + _CALM * (radius - before)

    # ------------------------------------------------------------------------------------------------------- drawing

    def _draw_trails(self, picture: U8, frame: Frame, tracks: Tracks, objects: Sequence[_Object], pen: Pen) -> None:
        centres = (tracks.xyxy[:, :2] + tracks.xyxy[:, 2:]) / 2
        self._trails.add(frame.pts_s, tracks.id, centres)
        clear_px = {
            item.key: item.radius or 0.5 * max(item.box[2] - item.box[0], item.box[3] - item.box[1]) for item in objects
        }
        self._trails.draw(picture, pen, clear_px)

    def _draw_tags(self, picture: U8, objects: Sequence[_Object], pen: Pen, *, status_high: bool) -> None:
        crowd = len(objects)
        # confirmed before coasting; who had a label keeps it; then the small ones, which need it most
        height, width = picture.shape[:2]
        inside = [item for item in objects if _centre_inside(item.box, width, height)]
        ranked = sorted(
            inside,
            key=lambda item: (
                item.coasting,
                item.key not in self._tag_places,
                item.radius is None,
                -item.score,
                item.key,
            ),
        )
        ranked = ranked[:_MOST_TAGS]
        tags = []
        for item in ranked:
            words, _, number = item.name.rpartition(" ") if item.key > 0 else (item.name, "", "")
            name = item.name if crowd <= _NAMES_UP_TO else (number or words)
            detail = f"{item.score:.2f}" if crowd <= _SCORES_UP_TO and not item.coasting else ""
            tags.append(
                Tag(item.key, name, detail, item.colour, mark_box(item.box, pen, item.radius), item.radius is not None)
            )
        shown = {item.key for item in ranked}
        taken: list[Box] = [mark_box(item.box, pen, item.radius) for item in objects if item.key not in shown]
        if status_high:
            taken.append((0.0, 0.0, *self._status_corner(picture, pen)))
        sizes = [tag_size(tag, pen, self._text) for tag in tags]
        for tag, box, moved in place_tags(tags, sizes, (width, height), taken, self._tag_places):
            draw_tag(picture, tag, box, pen, self._text, leader=moved)

    def _draw_magnified(self, picture: U8, original: U8, objects: Sequence[_Object], pen: Pen) -> None:
        small = [item for item in objects if item.radius is not None]
        if not small:
            return
        best = max(small, key=lambda item: (item.key == self._magnified, not item.coasting, item.score))
        self._magnified = best.key
        self._magnifier.draw(picture, original, best.box, best.colour, pen, self._text)

    def _status_words(self, result: Result, count: int, shrink: float) -> list[str]:
        """What the status line says, most important first."""
        frame = result.frame
        words = [self._text.readable(frame.name or frame.stream, "stream")]
        if frame.page is not None:
            words.append(f"page {frame.page}")
        if not frame.still:
            words.append(_clock(frame.pts_s))
        words.append(f"{count} object{'' if count == 1 else 's'}")
        if result.tiles is not None:
            words.append(f"tiles {result.tiles.slots}/{result.tiles.of}")
        if shrink > 1:
            words.append(f"shown at 1/{shrink:.3g}")
        if result.dropped:
            words.append(f"dropped {result.dropped}")
        return words

    def _status_corner(self, picture: U8, pen: Pen) -> tuple[float, float]:
        """Width and height in px of the top left corner that belongs to the status line (as wide as in the last frame)."""
        if not self._config.status:
            return 0.0, 0.0
        return (self._status_px or picture.shape[1]) + 12.0, pen.text_px * 2.4

    def _draw_status(self, picture: U8, words: list[str], pen: Pen) -> None:
        while words:
            line = "   ".join(words)
            if self._text.width(line, pen.text_px) + 2 * pen.text_px < picture.shape[1]:
                edge = round(4 + 6 * pen.unit)
                self._status_px = edge + plate(
                    picture, line, (edge, edge), pen, self._text, (200, 200, 200), alpha=0.55
                )
                return
            words.pop(0 if len(words) > 1 and len(words[0]) > 12 else -1)


def _at_drawing_size(result: Result) -> tuple[Result, float]:
    """A windowed picture is drawn on its overview: the same Result in the overview's px, and how much it is shrunk."""
    windows = result.frame.picture.windows
    if windows is None:
        return result, 1.0
    overview = windows.overview()
    height, width = overview.shape[:2]
    x, y = width / windows.wh[0], height / windows.wh[1]
    scale = np.array([x, y, x, y], np.float32)
    tiles = result.tiles
    if tiles is not None:
        tiles = replace(tiles, frame_wh=(width, height), xyxy=np.round(tiles.xyxy * scale).astype(np.int32))
    picture = Picture(overview[..., 0], bgr=overview)  # nobody draws luma
    found = result.detections
    masks = None if found.masks is None else np.full(len(found), None)
    if found.masks is not None and masks is not None:
        masks[:] = [None if mask is None else mask.scaled(x, y) for mask in found.masks]
    shown = Detections(found.xyxy * scale, found.score, found.label, found.tile, found.truncated, masks)
    return replace(result, frame=replace(result.frame, picture=picture), detections=shown, tiles=tiles), 1 / x


def _centre_inside(box: Box, width: int, height: int) -> bool:
    return 0 <= box[0] + box[2] <= 2 * width and 0 <= box[1] + box[3] <= 2 * height


def _clock(pts_s: float) -> str:
    minutes, seconds = divmod(max(0.0, pts_s), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:04.1f}" if hours else f"{minutes:02d}:{seconds:04.1f}"
