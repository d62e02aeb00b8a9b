"""The Python face: :func:`run` gives the Results one by one; the command line is a thin layer over it."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from streamdet import __version__
from streamdet.assemble import Assembled, assemble
from streamdet.config import Config, load, with_values
from streamdet.errors import OutputError, StreamdetError
from streamdet.pipeline import Pipeline, Stream
from streamdet.places import Outputs
from streamdet.records import as_text
from streamdet.types import Event, Result

__all__ = ["Run", "listed", "run"]

log = logging.getLogger(__name__)


class Run:
    """A run in progress: iterate for Results; nothing happens before the first.

    After the loop ``summary`` says what was done and ``closing_events`` holds the events that ended the tracks still alive
    (sinks get them too). ``stop()`` from anywhere ends the loop soon with all files finished.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.closing_events: list[Event] = []
        self.summary: dict[str, Any] = {}
        self.assembled: Assembled | None = None
        self.on_tiles: Callable[[str, int, int], None] | None = None  # (stream, done, of): a still of many tiles
        self._pipeline: Pipeline | None = None
        self._stopped = self._aborted = False

    def __iter__(self) -> Iterator[Result]:
        started_s = time.monotonic()
        with assemble(self.config, on_tiles=self.on_tiles) as assembled:
            self.assembled = assembled
            self._pipeline = assembled.pipeline
            if self._stopped:
                assembled.pipeline.stop()
            try:
                yield from assembled.pipeline
            except BaseException as error:
                self._aborted = self._aborted or isinstance(error, KeyboardInterrupt)
                self._close(assembled, time.monotonic() - started_s)
                with contextlib.suppress(OutputError):  # the first error is the one to tell
                    self._write_summary()
                raise
            self._close(assembled, time.monotonic() - started_s)
            self._write_summary()
            if assembled.telling is not None and not self._aborted:
                assembled.telling.complain()

    def stop(self, *, abort: bool = False) -> None:
        """Finish the files as they are and end the loop; with `abort`, do not wait for what is still queued."""
        self._stopped = True
        self._aborted = self._aborted or abort
        if self._pipeline is not None:
            self._pipeline.stop(abort=abort)

    def finish(self) -> dict[str, Any]:
        """Run to the end without looking at the Results; returns the summary."""
        for _ in self:
            pass
        return self.summary

    def _close(self, assembled: Assembled, wall_s: float) -> None:
        outputs = dict(zip((spec.stream for spec in assembled.specs), assembled.outputs, strict=True))
        done = assembled.pipeline.done
        self.closing_events = [event for stream in done for event in stream.closing_events]
        self.summary = {
            "schema": 1,
            "streamdet": __version__,
            "machine": {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()},
            "model": assembled.detector.describe(),
            "wall_s": round(wall_s, 3),
            "streams": [_stream_summary(stream, outputs[stream.name]) for stream in done],
            "deliveries": [] if assembled.telling is None else assembled.telling.finish(abort=self._aborted),
            "warnings": [*assembled.detector.warnings],
            "errors": [as_text(str(error)) for error in assembled.pipeline.errors if isinstance(error, StreamdetError)],
        }

    def _write_summary(self) -> None:
        output = self.config.output
        target = output.summary or (str(Path(output.dir) / "summary.json") if output.dir else None)
        if target and self.summary["streams"]:  # a run in which nothing opened leaves no litter
            from streamdet.sinks.summary import write_summary

            write_summary(os.path.expanduser(target), self.summary)


def _stream_summary(stream: Stream, outputs: Outputs) -> dict[str, Any]:
    info, line = stream.source.info, stream.line
    wall_s = max(stream.wall_s, 1e-9)
    fps = stream.frames / wall_s
    return {
        "stream": info.stream,
        "source": as_text(info.uri),
        "frame_wh": list(info.frame_wh) if info.frame_wh else None,
        "source_fps": info.fps,
        "frames": stream.frames,
        "dropped": stream.dropped,
        "source_counts": dict(stream.source.counts),
        "wall_s": round(stream.wall_s, 3),
        "fps": round(fps, 2),
        "times_real_time": round(fps / info.fps, 2) if info.fps and not info.still else None,
        "tiles": stream.tiles_summary(),
        "objects": stream.counts,
        "events": stream.events,
        "stages_ms": {**stream.capture_timer.summary_ms(), **line.timer.summary_ms()},
        "outputs": {option: as_text(path) for option, path in outputs.files.items() if _is_written(option, path)},
        "warnings": [as_text(warning) for warning in stream.source.warnings],
        "error": as_text(str(stream.error)) if stream.error else None,
    }


def _is_written(option: str, path: str) -> bool:
    """Whether an output is there; of stills it may be a folder."""
    return path == "-" or os.path.isfile(path) or (option == "images" and os.path.isdir(path))


def listed(classes: str | Sequence[str | int]) -> list[str]:
    """``"ball, bird"`` or a sequence of names and ids, as the configuration has them."""
    return (
        [name.strip() for name in classes.split(",") if name.strip()]
        if isinstance(classes, str)
        else [str(name) for name in classes]
    )


def run(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    model: str | os.PathLike[str] | None = None,
    tile: int | str | None = None,
    overlap: float | None = None,
    look: Literal["auto", "all", "motion"] | None = None,
    conf: float | Mapping[str, float] | None = None,
    iou: float | None = None,
    classes: str | Sequence[str | int] | None = None,
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt"] | None = None,
    device: str | None = None,
    max_frames: int | None = None,
    output: str | os.PathLike[str] | None = None,
    config: Config | str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Detect and track in `source`: a path, folder, glob, camera number, address or ``"demo"``, or several of them.

    >>> for result in streamdet.run("match.mp4", model="ball", tile="auto"):
    ...     result.tracks.xyxy, result.events, result.annotated()

    `output` is a folder for film, JSON lines and summary (none: nothing is written). `config` is a :class:`Config` or a YAML
    file; the named arguments override it, `settings` overrides everything with dotted leaves (``{"tiles.sweep_s": 2}``).
    Names and defaults are those of the command line (``streamdet run --help``). Raises ConfigError at once, other
    StreamdetErrors while iterating.
    """
    base = config if isinstance(config, Config) else load(config) if config is not None else Config()
    uris = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    values: dict[str, Any] = {
        "sources": [os.fspath(uri) for uri in uris] or None,
        "model.name": None if model is None else os.fspath(model),
        "model.backend": backend,
        "model.device": device,
        "model.conf": dict(conf) if isinstance(conf, Mapping) else conf,
        "model.iou": iou,
        "model.classes": None if classes is None else listed(classes),
        "tiles.tile": tile,
        "tiles.overlap": overlap,
        "tiles.look": look,
        "source.max_frames": max_frames,
        "output.dir": None if output is None else os.fspath(output),
    }
    chosen = {path: value for path, value in values.items() if value is not None}
    return Run(with_values(base, {**chosen, **(settings or {})}))
