"""Pictures in, boxes out: :func:`predict` for whoever has pictures, :class:`Predictor` for whoever serves many at once.

One thread owns the detector. Every picture asked for becomes a job; each turn takes a few tiles of every waiting job and runs
them together, so callers share batches, and a picture of ten thousand tiles does not keep one of four waiting.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamdet.assemble import MOST_IN_STILL
from streamdet.config import Config, load, with_values
from streamdet.errors import StreamdetError, UsageError
from streamdet.image_result import ImageResult
from streamdet.protocols import Detector, Packer
from streamdet.stills import StillParts, detector_of_stills, still_parts
from streamdet.types import F32, Detections, Frame, Motion, Picture, Result, TilePlan

__all__ = ["DEFAULT_THRESHOLD", "Predictor", "Source", "Threshold", "predict"]

Threshold = float | Mapping[int, float] | Mapping[str, float] | None
Source = str | os.PathLike[str] | NDArray[Any] | Sequence["Source"]

DEFAULT_THRESHOLD = 0.5
FLOOR = 0.05  # what is below was never kept: the lowest threshold a request may ask for
JOBS_AT_ONCE = 16
_AHEAD = 2  # pictures under way in `predict`

_Done = tuple[Detections, TilePlan]


@dataclass(slots=True, eq=False)
class _Job:
    """One picture on its way. `found`: resolved with raw Detections of all tiles, in frame px."""

    frame: Frame
    motion: Motion
    plan: TilePlan
    packer: Packer
    on_tiles: Callable[[int, int], None] | None
    found: Future[Detections] = field(default_factory=Future)
    parts: list[Detections] = field(default_factory=list)
    first: int = 0
    finer: Callable[[TilePlan, F32], TilePlan] | None = None  # the second look, until it is taken

    def take(self, most: int) -> TilePlan:
        return self.plan[self.first : self.first + most]

    def add(self, found: Detections, tiles: int) -> None:
        self.parts.append(found.moved(self.first))
        self.first += tiles
        if self.first >= len(self.plan) and self.finer is not None:
            self.plan = self.plan.beside(self.finer(self.plan, Detections.concat(self.parts).xyxy))
            self.finer = None
        if self.on_tiles is not None:
            self.on_tiles(self.first, len(self.plan))

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):  # given up by whoever asked, perhaps this very moment
            self.found.set_exception(error)


class Predictor:
    """Holds a network; ``detect`` may be called from any number of threads. Nothing is loaded before ``__enter__``.

    `config.model.conf` is the lowest score kept (None: `FLOOR`); what counts is said in each call.
    """

    def __init__(self, config: Config) -> None:
        conf = FLOOR if config.model.conf is None else config.model.conf
        self.config = with_values(config, {"model.conf": conf})
        self._detector: Detector = detector_of_stills(self.config)
        self._parts: StillParts | None = None
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.tiles_run = 0
        self.turns = 0

    def __enter__(self) -> Self:
        """Raises ModelError, UsageError and the like."""
        ready: Future[StillParts] = Future()
        self._closing = False
        self._thread = threading.Thread(target=self._work, args=(ready,), name="predictor", daemon=True)
        self._thread.start()
        try:
            self._parts = ready.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._parts = None

    @property
    def labels(self) -> tuple[str, ...]:
        return self._detector.labels

    @property
    def waiting(self) -> int:
        """Pictures that are not done."""
        return len(self._jobs)

    def describe(self) -> str:
        return self._detector.describe()

    def detect(
        self,
        pictures: Sequence[Picture | NDArray[Any]],
        *,
        threshold: Threshold = None,
        timeout_s: float | None = None,
        on_tiles: Callable[[int, int], None] | None = None,
    ) -> list[Detections]:
        """One Detections each, merged over tiles, the best first.

        Arrays are (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, u8 or u16. `threshold`: one score, or by class id or name (others:
        0.5); None: 0.5. `timeout_s`: for all of them (TimeoutError). `on_tiles(done, of)` is called as tiles are done, on
        another thread. Raises UsageError, SourceLostError (a picture that turns out damaged), ModelError.
        """
        return [found for found, _ in self._looked_at(pictures, threshold, timeout_s, on_tiles)]

    def result(
        self,
        picture: Picture | NDArray[Any],
        *,
        threshold: Threshold = None,
        input_path: str | None = None,
        page_index: int | None = None,
        name: str | None = None,
        timeout_s: float | None = None,
        on_tiles: Callable[[int, int], None] | None = None,
    ) -> ImageResult:
        """The same for one picture, as a result that can be printed, saved and drawn."""
        picture = _as_picture(picture)
        [(found, plan)] = self._looked_at([picture], threshold, timeout_s, on_tiles)
        frame = Frame("still", 0, 0.0, picture, time.monotonic(), still=True, name=name or input_path, page=page_index)
        result = Result(frame, found, _no_tracks(), tiles=plan, labels=self.labels, painter=self._open.painter())
        return ImageResult(result, input_path=input_path, page_index=page_index)

    @property
    def _open(self) -> StillParts:
        if self._parts is None:
            raise RuntimeError("open the predictor first: `with Predictor(config) as predictor:`")
        return self._parts

    def _looked_at(
        self,
        pictures: Sequence[Picture | NDArray[Any]],
        threshold: Threshold,
        timeout_s: float | None,
        on_tiles: Callable[[int, int], None] | None,
    ) -> list[_Done]:
        least = thresholds_of(threshold, self.labels)
        jobs = [self._job(_as_picture(picture), on_tiles) for picture in pictures]
        with self._changed:
            if self._closing or self._thread is None or not self._thread.is_alive():
                raise RuntimeError("the predictor is closed")
            self._jobs.extend(jobs)
            self._changed.notify_all()
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            found = [
                job.found.result(None if deadline_s is None else max(0.0, deadline_s - time.monotonic()))
                for job in jobs
            ]
        except BaseException:
            for job in jobs:
                job.found.cancel()
            raise
        return [(self._merged(job, rows, least), job.plan) for job, rows in zip(jobs, found, strict=True)]

    def _job(self, picture: Picture, on_tiles: Callable[[int, int], None] | None) -> _Job:
        frame = Frame("still", 0, 0.0, picture, time.monotonic(), still=True)
        luma = np.zeros((0, 0), np.uint8) if picture.windows is not None else picture.luma
        parts = self._open
        return _Job(frame, Motion(luma), parts.plan(picture.wh), parts.packer(), on_tiles, finer=parts.finer)

    def _merged(self, job: _Job, found: Detections, least: F32) -> Detections:
        found = found[found.score >= least[found.label]]
        keep = self._open.keep(job.frame.wh, found.xyxy)
        found = found if keep is None else found[keep]
        return self._open.merger(found)[: self.config.model.max_detections or MOST_IN_STILL]

    # ------------------------------------------------------------------------------------------------ the one thread

    def _work(self, ready: Future[StillParts]) -> None:
        try:
            with self._detector:
                ready.set_result(still_parts(self.config, self._detector))
                while (jobs := self._next_jobs()) is not None:
                    self._turn(jobs)
                    del jobs  # pictures are not kept while waiting
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            with self._changed:
                self._closing = True
                for job in self._jobs:
                    job.fail(error)
                self._jobs.clear()

    def _next_jobs(self) -> list[_Job] | None:
        """The next few in turn, waiting for one if need be; None: closed."""
        with self._changed:
            while True:
                for job in [job for job in self._jobs if job.found.done()]:  # given up by whoever asked
                    self._jobs.remove(job)
                if self._closing:
                    for job in self._jobs:
                        job.fail(RuntimeError("the predictor was closed"))
                    self._jobs.clear()
                    return None
                if self._jobs:
                    jobs = [self._jobs[number] for number in range(min(JOBS_AT_ONCE, len(self._jobs)))]
                    jobs = jobs[
                        : min(job.plan.at_once for job in jobs)
                    ]  # an input of each at least: large ones fill memory
                    self._jobs.rotate(-len(jobs))
                    return jobs
                self._changed.wait()

    def _turn(self, jobs: list[_Job]) -> None:
        """A few tiles of each, in one go."""
        most = max(1, min(job.plan.at_once for job in jobs) // len(jobs))
        packed = []
        for job in jobs:
            try:
                packed.append((job, job.packer(job.frame, job.motion, job.take(most))))
            except Exception as error:  # one damaged picture is no business of the others
                job.fail(error)
        try:
            found = self._detector.together([batch for _, batch in packed])
        except Exception as error:
            for job, _ in packed:
                job.fail(error if isinstance(error, StreamdetError) else RuntimeError(f"the network failed: {error}"))
            return
        self.turns += 1
        for (job, batch), rows in zip(packed, found, strict=True):
            self.tiles_run += len(batch.tiles)
            try:
                job.add(rows, len(batch.tiles))
            except Exception as error:  # nor is whoever is told of its progress
                job.fail(error)
                continue
            if job.first >= len(job.plan) and job.found.set_running_or_notify_cancel():
                job.found.set_result(Detections.concat(job.parts))


def thresholds_of(threshold: Threshold, labels: Sequence[str]) -> F32:
    """(L,) least score by class. Raises UsageError."""
    least = np.full(len(labels), DEFAULT_THRESHOLD, np.float32)
    if threshold is None:
        return least
    if isinstance(threshold, Mapping):
        for name, value in threshold.items():
            least[_class_id(name, labels)] = _checked(value)
    else:
        least[:] = _checked(threshold)
    return least


def _checked(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= float(value) <= 1:
        raise UsageError(f"threshold {value!r} is no score; give a number from 0 to 1")
    return float(value)


def _class_id(name: int | str, labels: Sequence[str]) -> int:
    if isinstance(name, str) and name in labels:
        return list(labels).index(name)
    try:
        number = int(name)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(labels):
        raise UsageError(f"threshold for class '{name}': the model has no such class; give an id below {len(labels)}")
    return number


def _as_picture(picture: Picture | NDArray[Any]) -> Picture:
    if isinstance(picture, Picture):
        return picture
    from streamdet.sources.stills import picture_of_array

    return picture_of_array(np.asarray(picture))


def _no_tracks() -> Any:
    from streamdet.types import Tracks

    return Tracks.empty()


# ---------------------------------------------------------------------------------------------------------- for everyone


def predict(
    source: Source,
    *,
    model: str | os.PathLike[str] | None = None,
    threshold: Threshold = None,
    tile: int | str | None = None,
    overlap: float | None = None,
    upscale: int | str | os.PathLike[str] | None = None,
    iou: float | None = None,
    classes: str | Sequence[str | int] | None = None,
    backend: str | None = None,
    device: str | None = None,
    dpi: float | None = None,
    config: Config | str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[ImageResult]:
    """Detect in pictures of any size; results come one by one, in order.

    >>> for result in streamdet.predict("photos/", model="yolox.onnx", threshold={"person": 0.3}):
    ...     result.print()
    ...     result.save_to_img("out/")
    ...     result.save_to_json("out/")

    `source`: an array ((H, W), (H, W, 3) BGR or (H, W, 4) BGRA; u8 or u16), a path, an http(s) address, a folder, a glob, or a
    list of these. A PDF gives one result a page, drawn at `dpi` (200). Huge files are read in windows (extra ``tiff``).
    `upscale`: 2 or 4, or a super-resolution ONNX file: look again, magnified, where something small may be.
    `threshold`: least score, one or by class id or name (others 0.5); None: 0.5. The others as in :func:`streamdet.run`.

    Raises ConfigError at once, other StreamdetErrors while iterating.
    """
    from streamdet.api import listed

    base = config if isinstance(config, Config) else load(config) if config is not None else Config()
    lowest = min(threshold.values(), default=DEFAULT_THRESHOLD) if isinstance(threshold, Mapping) else threshold
    floor = DEFAULT_THRESHOLD if lowest is None else min(DEFAULT_THRESHOLD, _checked(lowest))
    values: dict[str, Any] = {
        "model.name": None if model is None else os.fspath(model),
        "model.backend": backend,
        "model.device": device,
        "model.conf": max(floor, 1e-3),
        "model.iou": iou,
        "model.classes": None if classes is None else listed(classes),
        "tiles.tile": tile,
        "tiles.overlap": overlap,
        "tiles.upscale": os.fspath(upscale) if isinstance(upscale, os.PathLike) else upscale,
        "source.dpi": dpi,
    }
    chosen = {path: value for path, value in values.items() if value is not None}
    return _results(source, with_values(base, {**chosen, **(settings or {})}), threshold)


def _results(source: Source, config: Config, threshold: Threshold) -> Iterator[ImageResult]:
    from streamdet.sources.gather import gather

    with Predictor(config) as predictor, ThreadPoolExecutor(_AHEAD, "predict") as pool:
        under_way: deque[Future[ImageResult]] = deque()
        thresholds_of(threshold, predictor.labels)
        try:
            for item in gather(source, config.source):
                under_way.append(
                    pool.submit(
                        predictor.result,
                        item.picture,
                        threshold=threshold,
                        input_path=item.path,
                        page_index=item.page,
                        name=item.name,
                    )
                )
                del item
                if len(under_way) >= _AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
