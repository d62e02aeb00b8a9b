"""Contact sheets of mistakes: ``python -m engines.sheets FRAMES.jsonl CLIP LABELS --output sheet.jpg``.

A crop of every miss (red ring where the target was) and of every false object (yellow box), enlarged twice, frame number,
track and score above it. Without LABELS every shown object is false.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.options import span_of
from streamdet.scoring import Found, Labels, Pairing, read_frames_jsonl, read_labels

__all__ = ["Mistake", "draw_sheet", "mistakes", "nothing_in"]

_CROP_PX, _ENLARGE, _TITLE_PX, _ACROSS = 96, 2, 16, 8
_MISSED, _FALSE, _TARGET = (60, 60, 255), (0, 230, 255), (80, 220, 80)  # BGR
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mistake:
    """`kind` "missed" or "false" at `xyxy` px of a frame; `target_xy`: where the labelled target was then, if anywhere."""

    kind: str
    frame: int
    xyxy: tuple[float, float, float, float]
    title: str
    target_xy: tuple[float, float] | None = None


def nothing_in(found: Found) -> Labels:
    """Labels that say: all processed frames were looked at, and there is nothing."""
    none = np.zeros(0)
    empty = none.astype(np.int64)
    return Labels(
        frames=np.unique(found.frames),
        frame=empty,
        id=empty,
        name=none.astype(np.str_),
        centre=none.reshape(0, 2),
        wh=none.reshape(0, 2),
        visible=none.astype(bool),
        format="points",
    )


def mistakes(found: Found, labels: Labels, *, within_px: float = 5.0, within_box: bool = False) -> list[Mistake]:
    """Misses and false objects, by frame."""
    pairing = Pairing(found, labels, within_px=within_px, within_box=within_box)
    out = []
    truth = pairing.labels
    where = {int(frame): (float(x), float(y)) for frame, (x, y) in zip(truth.frame, truth.centre)}
    for row in np.flatnonzero(pairing.missed):
        x, y = truth.centre[row]
        half = np.maximum(truth.wh[row] / 2, 4)
        box = (float(x - half[0]), float(y - half[1]), float(x + half[0]), float(y + half[1]))
        out.append(Mistake("missed", int(truth.frame[row]), box, f"{truth.frame[row]} missed", (float(x), float(y))))
    shown = pairing.found
    for row in np.flatnonzero(pairing.false):
        frame, state = int(shown.frame[row]), "~" if shown.state[row] == "coasting" else ""
        title = f"{frame} #{shown.track[row]} {shown.name[row][:5]} {state}{shown.score[row]:.2f}"
        x1, y1, x2, y2 = (float(value) for value in shown.xyxy[row])
        out.append(Mistake("false", frame, (x1, y1, x2, y2), title, where.get(frame)))
    return sorted(out, key=lambda mistake: (mistake.kind, mistake.frame))


def _thinned(found: list[Mistake], most: int) -> list[Mistake]:
    """At most `most`, evenly chosen, half of them of each kind where both are many."""
    kinds = [[one for one in found if one.kind == kind] for kind in ("missed", "false")]
    share = [min(len(kinds[k]), max(most // 2, most - len(kinds[1 - k]))) for k in (0, 1)]
    return [kinds[k][i] for k in (0, 1) for i in np.linspace(0, len(kinds[k]) - 1, share[k]).astype(int)]


def _cell(picture: U8, mistake: Mistake) -> U8:
    """The crop round a mistake, enlarged, with its title."""
    side = _CROP_PX
    x1, y1, x2, y2 = mistake.xyxy
    left, top = round((x1 + x2) / 2 - side / 2), round((y1 + y2) / 2 - side / 2)
    padded = cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_CONSTANT, value=(40, 40, 40))
    left, top = (int(np.clip(v, -side, n)) for v, n in ((left, picture.shape[1]), (top, picture.shape[0])))
    crop = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    crop = cv2.resize(crop, None, fx=_ENLARGE, fy=_ENLARGE, interpolation=cv2.INTER_CUBIC)

    def place(x: float, y: float) -> tuple[int, int]:
        return round((x - left) * _ENLARGE), round((y - top) * _ENLARGE)

    if mistake.target_xy is not None:
        missed = mistake.kind == "missed"
        cv2.circle(crop, place(*mistake.target_xy), 18, _MISSED if missed else _TARGET, 1, cv2.LINE_AA)
    if mistake.kind == "false":
        cv2.rectangle(crop, place(x1 - 2, y1 - 2), place(x2 + 2, y2 + 2), _FALSE, 1)
    title = np.full((_TITLE_PX, crop.shape[1], 3), 30, np.uint8)
    color = _MISSED if mistake.kind == "missed" else _FALSE
    cv2.putText(title, mistake.title, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
    cell: U8 = np.concatenate([title, crop])
    return cv2.copyMakeBorder(cell, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(90, 90, 90)).astype(np.uint8)


def draw_sheet(clip: Path, found: list[Mistake], *, most: int = 80) -> U8 | None:
    """BGR picture, or None if there are no mistakes. The clip is decoded once."""
    chosen = _thinned(found, most)
    if not chosen:
        return None
    wanted = {mistake.frame for mistake in chosen}
    cells: dict[int, U8] = {}
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index > max(wanted):
                break
            if index in wanted:
                picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
                cells |= {k: _cell(picture, m) for k, m in enumerate(chosen) if m.frame == index}
    shown = [cells[k] for k in sorted(cells)]
    across = min(_ACROSS, len(shown))
    blank = np.full_like(shown[0], 20)
    shown += [blank] * (-len(shown) % across)
    return np.concatenate([np.concatenate(shown[k : k + across], axis=1) for k in range(0, len(shown), across)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.sheets", description=__doc__)
    parser.add_argument("frames", type=Path, help="what `streamdet run` wrote")
    parser.add_argument("clip", type=Path)
    parser.add_argument("labels", type=Path, nargs="?", help="absent: every shown object is false")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--within", type=float, default=5.0)
    parser.add_argument("--within-box", action="store_true")
    parser.add_argument("--span", help="frames A:B only")
    parser.add_argument("--most", type=int, default=80, help="crops; evenly chosen from more")
    given = parser.parse_args()
    found = read_frames_jsonl(given.frames)
    labels = nothing_in(found) if given.labels is None else read_labels(given.labels)
    labels = labels.between(*span_of(given.span))
    wrong = mistakes(found, labels, within_px=given.within, within_box=given.within_box)
    counts = " ".join(f"{kind} {sum(m.kind == kind for m in wrong)}" for kind in ("missed", "false"))
    sheet = draw_sheet(given.clip, wrong, most=given.most)
    if sheet is None:
        print("no mistakes")
        return
    cv2.imwrite(str(given.output), sheet)
    print(f"{counts}: {given.output}")


if __name__ == "__main__":
    main()
