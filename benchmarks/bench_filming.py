"""One rally as other cameras would have filmed it: is the ball still found when the camera moves, is small, dark, slow or noisy?

    python benchmarks/bench_filming.py [--only NAME ...] [--model tiny] [--frames 120]

The labelled tennis clip (1920x1080 at 30 fps, a camera on a fence) is filmed again: scaled, turned, mirrored, darkened, with
noise, at half the rate, poorly encoded, through a window that is panned, zoomed, rolled or held in a hand. Labels go the same
way. Each film is encoded with H.264 and run with defaults; points within 10 px of the original picture are right.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import harness
import numpy as np
from numpy.typing import NDArray

import streamdet
from streamdet.scoring import point_score, read_frames_jsonl, read_labels

WITHIN_PX = 10.0
Matrix = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Camera:
    """How it films: size of its picture, where each point of the original comes to lie in it, and what it does to the pixels.

    ``lens`` takes the seconds since the start and gives a 2x3 matrix (None: scaled to `wh`); every `every`-th frame is taken.
    """

    wh: tuple[int, int] = (1920, 1080)
    lens: Callable[[float], Matrix] | None = None
    sensor: Callable[[Pixels, np.random.Generator], Pixels] | None = None
    every: int = 1
    crf: int = 20

    def matrix(self, at_s: float) -> Matrix:
        if self.lens is not None:
            return self.lens(at_s)
        return np.array([[self.wh[0] / 1920, 0, 0], [0, self.wh[1] / 1080, 0]])


def window(zoom: float = 1.0, *, x: float = 0.0, y: float = 0.0, degrees: float = 0.0) -> Matrix:
    """A window of 1280x720 on the original, its middle moved by x, y px, turned."""
    turned = cv2.getRotationMatrix2D((960.0, 540.0), degrees, zoom)
    turned[:, 2] += (640.0 - 960.0 - x, 360.0 - 540.0 - y)
    return np.asarray(turned)


def panned(px: float, period_s: float) -> Callable[[float], Matrix]:
    return lambda at_s: window(x=px * math.sin(at_s / period_s), y=px / 3 * math.sin(at_s / period_s / 1.4))


def in_a_hand(at_s: float) -> Matrix:
    x = 14 * math.sin(1.7 * at_s) + 4 * math.sin(9 * at_s)
    y = 9 * math.sin(2.3 * at_s) + 4 * math.sin(11 * at_s)
    return window(0.75, x=x, y=y, degrees=0.6 * math.sin(2.1 * at_s))


def darkened(picture: Pixels, noise: np.random.Generator) -> Pixels:
    return np.asarray(cv2.convertScaleAbs(picture, alpha=0.45, beta=0), np.uint8)


def noisy(picture: Pixels, noise: np.random.Generator) -> Pixels:
    grain = noise.normal(0, 6, picture.shape[:2])[..., None]
    return np.asarray(np.clip(picture + grain, 0, 255), np.uint8)


def grey(picture: Pixels, noise: np.random.Generator) -> Pixels:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)


SMALL = (1280, 720)
CAMERAS = {
    "as it is": Camera(),
    "2560x1440": Camera((2560, 1440)),
    "1280x720": Camera(SMALL),
    "960x540": Camera((960, 540)),
    "15 fps": Camera(every=2),
    "mirrored": Camera(lens=lambda at_s: np.array([[-1.0, 0, 1919], [0, 1, 0]])),
    "upright, 720x1280": Camera((720, 1280), lens=lambda at_s: np.array([[0, -2 / 3, 719.0], [2 / 3, 0, 0]])),
    "dark": Camera(sensor=darkened),
    "noisy": Camera(sensor=noisy),
    "grey": Camera(sensor=grey),
    "poorly encoded (crf 32)": Camera(crf=32),
    "window 1280x720": Camera(SMALL, lambda at_s: window()),
    "window, panned up to 8 px per frame": Camera(SMALL, panned(250, 1.0)),
    "window, panned up to 25 px per frame": Camera(SMALL, panned(300, 0.4)),
    "zoomed in by a quarter": Camera(SMALL, lambda at_s: window(2 / 3 * (1 + at_s / 16))),
    "rolled by 4 degrees": Camera(SMALL, lambda at_s: window(0.75, degrees=4 * math.sin(1.5 * at_s))),
    "held in a hand": Camera(SMALL, in_a_hand),
}


def frames_of(clip: Path, camera: Camera, count: int) -> Iterator[tuple[int, Matrix, Pixels]]:
    """Index in the original, where its points come to lie, and the picture (BGR)."""
    noise = np.random.default_rng(1)
    with av.open(str(clip)) as film:
        for index, frame in enumerate(itertools.islice(film.decode(video=0), count)):
            if index % camera.every:
                continue
            matrix = camera.matrix(index / 30)
            smaller = abs(np.linalg.det(matrix[:, :2])) < 0.9
            picture = frame.to_ndarray(format="bgr24")
            how = cv2.INTER_AREA if smaller and camera.lens is None else cv2.INTER_LINEAR
            if camera.lens is None:
                picture = cv2.resize(picture, camera.wh, interpolation=how)
            else:
                picture = cv2.warpAffine(picture, matrix, camera.wh, flags=how)
            yield index, matrix, picture if camera.sensor is None else camera.sensor(np.asarray(picture), noise)


def film(clip: Path, camera: Camera, count: int, to: Path) -> list[Matrix]:
    """Write what the camera films; gives the matrix of each of its frames."""
    matrices = []
    with av.open(str(to), "w") as out:
        stream = out.add_stream("libx264", rate=30 // camera.every)
        stream.width, stream.height, stream.pix_fmt = *camera.wh, "yuv420p"
        stream.options = {"crf": str(camera.crf), "preset": "fast"}
        for _, matrix, picture in frames_of(clip, camera, count):
            matrices.append(matrix)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        out.mux(stream.encode(None))
    return matrices


def labels(clip: Path, camera: Camera, matrices: list[Matrix], to: Path) -> None:
    """The clip's labels as this camera saw them, as TrackNet writes them; out of the picture is not visible."""
    known = read_labels(clip.parent / "labels.csv")
    with open(to, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Frame", "Visibility", "X", "Y"])
        for frame, visible, centre in zip(known.frame.tolist(), known.visible.tolist(), known.centre):
            index, rest = divmod(frame, camera.every)
            if rest or index >= len(matrices):
                continue
            x, y = matrices[index] @ (*centre, 1.0)
            inside = visible and 0 <= x < camera.wh[0] and 0 <= y < camera.wh[1]
            writer.writerow([index, int(inside), f"{x:.1f}", f"{y:.1f}"])


def score(camera: Camera, clip: Path, folder: Path, models: list[str], count: int) -> dict[str, Any]:
    """Points of each model on what this camera films."""
    shot, truth = folder / "shot.mp4", folder / "shot.csv"
    matrices = film(clip, camera, count, shot)
    labels(clip, camera, matrices, truth)
    size = math.sqrt(abs(float(np.linalg.det(matrices[0][:, :2]))))
    found = {}
    for model in models:
        rows = folder / f"{model}.frames.jsonl"
        for _ in streamdet.run(str(shot), model=model, settings={"output.frames": str(rows)}):
            pass
        points = point_score(read_frames_jsonl(rows), read_labels(truth), within_px=WITHIN_PX * size, within_box=False)
        told = points.to_dict()
        found[model] = {name: told[name] for name in ("precision", "recall", "f1", "tp", "fp", "fn")}
        rows.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CAMERAS, metavar="NAME", help="these cameras; nothing is recorded")
    parser.add_argument("--model", nargs="+", default=["tiny", "motion"])
    parser.add_argument("--frames", type=int, default=120)
    arguments = parser.parse_args()
    clip = harness.shared_data() / "clips" / "tennis_amateur" / "clip.mp4"
    record: dict[str, Any] = {"frames": arguments.frames, "within_px": WITHIN_PX, "cameras": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.only or CAMERAS:
            found = score(CAMERAS[name], clip, Path(scratch), arguments.model, arguments.frames)
            record["cameras"][name] = found
            print(f"{name:40}", *(f"{model} {one['f1'] or 0:.2f}" for model, one in found.items()), flush=True)
    if not arguments.only:
        harness.save("filming", record)


if __name__ == "__main__":
    main()
