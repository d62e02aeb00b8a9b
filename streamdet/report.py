"""What a run tells its user: progress while it goes, a few lines when it is done, a table for `bench`, scores for `demo`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from streamdet.errors import OutputError, UsageError
from streamdet.records import encode, frame_record
from streamdet.types import Result, SourceInfo

if TYPE_CHECKING:
    from streamdet.api import Run
    from streamdet.config import SourceConfig

__all__ = [
    "DemoScore",
    "Progress",
    "Window",
    "describe_bench",
    "describe_demo",
    "describe_run",
    "expected_frames",
    "write_json",
]


class Progress:
    """A bar per stream on a terminal (frames, fps, ETA, objects); silent when standard error is not one."""

    def __init__(self, run: Run, *, quiet: bool) -> None:
        self._run = run
        self._quiet = quiet
        self._bars: dict[str, Any] = {}
        self._tile_bar: Any = None
        self._shown_s = 0.0

    def __enter__(self) -> Self:
        if self._wanted:
            self._run.on_tiles = self._tiles
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in (*self._bars.values(), self._tile_bar):
            if bar is not None:
                bar.close()

    @property
    def _wanted(self) -> bool:
        return not self._quiet and sys.stderr.isatty()

    def _tiles(self, stream: str, done: int, of: int) -> None:
        """A picture of many tiles has a bar of its own while it lasts."""
        from tqdm import tqdm

        if self._tile_bar is None:
            self._tile_bar = tqdm(total=of, desc=f"{stream}: picture", unit=" tiles", file=sys.stderr, leave=False)
        self._tile_bar.update(done - self._tile_bar.n)
        if done == of:
            self._tile_bar.close()
            self._tile_bar = None

    def __call__(self, result: Result) -> None:
        if not self._wanted:
            return
        bar = self._bars.get(result.frame.stream)
        if bar is None:
            bar = self._bars[result.frame.stream] = self._new_bar(result.frame.stream)
        bar.update(1)
        now_s = time.monotonic()
        if now_s - self._shown_s > 0.2:
            self._shown_s = now_s
            tiles = f" tiles={result.tiles.slots}/{result.tiles.of}" if result.tiles else ""
            bar.set_postfix_str(f"objects={len(result.tracks.shown)}{tiles}", refresh=False)

    def _new_bar(self, stream: str) -> Any:
        from tqdm import tqdm

        limit = self._run.config.source.max_frames
        running = self._run.assembled.pipeline.running if self._run.assembled else []
        total = next((expected_frames(s.source.info) for s in running if s.name == stream), None)
        total = min(total, limit) if total and limit else total or limit or None
        return tqdm(
            total=total, desc=stream, unit=" frames", file=sys.stderr, dynamic_ncols=True, position=len(self._bars)
        )


def expected_frames(info: SourceInfo) -> int | None:
    """How many frames will come, as far as that is known: Matroska and MPEG-TS do not count theirs."""
    if info.frame_count or info.duration_s is None or info.fps is None:
        return info.frame_count
    return round(info.duration_s * info.fps)


class Window:
    """Shows annotated pictures with OpenCV; calling it returns False when the user pressed q or closed the window."""

    def __init__(self, *, show: bool) -> None:
        self._show = show

    def __enter__(self) -> Self:
        if (
            self._show
            and sys.platform.startswith("linux")
            and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        ):
            raise UsageError(
                "--show needs a screen and none is set (DISPLAY is empty); write a film with --video FILE instead"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._show:
            import cv2

            cv2.destroyAllWindows()

    def __call__(self, result: Result) -> bool:
        if not self._show:
            return True
        import cv2

        try:
            cv2.imshow(f"streamdet {result.frame.stream}", result.annotated())
            return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
        except cv2.error as error:
            raise UsageError(
                f"--show: OpenCV cannot open a window here ({error.err}); write a film with --video FILE"
            ) from None


def describe_run(summary: dict[str, Any]) -> str:
    """A few lines for people: what was done, how fast, what was found, where it was written.

    Why something stopped is not said here: errors are told once, after this.
    """
    lines = []
    for stream in summary.get("streams", []):
        if stream["error"] and not stream["frames"]:
            continue
        speed = f"{stream['fps']:.1f} fps" + (
            f", {stream['times_real_time']:.1f}x real time" if stream["times_real_time"] else ""
        )
        lines.append(
            f"{stream['stream']}: {_counted(stream['frames'], 'frame')} in {stream['wall_s']:.1f} s ({speed}); {_objects(stream)}"
        )
        if stream["tiles"]:
            tiles = stream["tiles"]
            why = ", ".join(f"{count} {name}" for name, count in tiles["why"].items())
            lines.append(
                f"  tiles run {tiles['run']} of {tiles['of']} ({100 * tiles['run'] / max(tiles['of'], 1):.0f} %): {why}"
            )
        if stream["dropped"]:
            lines.append(f"  {stream['dropped']} frames dropped: newer ones had come")
        lines += [f"  warning: {warning}" for warning in stream["warnings"]]
        written = sorted(path for path in stream["outputs"].values() if path != "-")
        if written:
            lines.append(f"  wrote{', as far as it went,' if stream['error'] else ''} {', '.join(written)}")
    for one in summary.get("deliveries", []):
        also = [f"{one[what]} {what}" for what in ("refused", "undelivered") if one[what]]
        lines.append(f"{one['delivered']} events delivered to {one['address']}{''.join(f', {a}' for a in also)}")
    lines += [f"warning: {warning}" for warning in summary.get("warnings", [])]
    return "\n".join(lines)


def _objects(stream: dict[str, Any]) -> str:
    by_label = stream["objects"].get("objects", {})
    total = sum(by_label.values())
    names = ", ".join(f"{count} {label}" for label, count in sorted(by_label.items(), key=lambda item: -item[1])[:6])
    told = _counted(total, "object") + (f" ({names})" if names else "")
    return told if stream["times_real_time"] is None else f"{told}, {_counted(stream['events'], 'event')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def describe_bench(summary: dict[str, Any]) -> str:
    """The per-stage table of `streamdet bench`."""
    lines = [f"model: {summary['model']}"]
    for stream in summary["streams"]:
        lines.append(f"{stream['stream']}: {_counted(stream['frames'], 'frame')}, {stream['fps']:.1f} fps")
        if stream["tiles"]:
            lines.append(
                f"  tiles run {stream['tiles']['run']} of {stream['tiles']['of']}, why {stream['tiles']['why']}"
            )
        lines.append(f"  {'stage':<10}{'p50 ms':>10}{'p95 ms':>10}{'max ms':>10}{'mean ms':>10}")
        for stage, times in stream["stages_ms"].items():
            lines.append(
                f"  {stage:<10}{times['p50']:>10.2f}{times['p95']:>10.2f}{times['max']:>10.2f}{times['mean']:>10.2f}"
            )
        if stream["dropped"]:
            lines.append(f"  dropped {stream['dropped']}")
    return "\n".join(lines)


class DemoScore:
    """Scores a run of the built-in scene against its exact truth, from the same records `streamdet eval` reads.

    With `folder`, what is compared is kept there: ``demo.truth.csv`` beside the run's own outputs.
    """

    def __init__(self, config: SourceConfig, *, folder: str | None) -> None:
        self._config = config
        self._lines: list[bytes] = []
        self._folder = folder

    def add(self, result: Result) -> None:
        self._lines.append(encode(frame_record(result)))

    def result(self) -> dict[str, Any]:
        """Recall, false tracks per second, localisation: see :class:`streamdet.scoring.TrackScore`."""
        import tempfile

        from streamdet.scoring import demo_score, read_frames_jsonl, read_labels
        from streamdet.sources.demo import DemoSource

        with tempfile.TemporaryDirectory() as scratch, DemoSource(stream="demo", config=self._config) as source:
            truth = Path(self._folder or scratch) / "demo.truth.csv"
            source.scene.write_truth_csv(truth, frames=len(self._lines))
            frames = Path(scratch) / "frames.jsonl"
            frames.write_bytes(b"".join(self._lines))
            found = read_frames_jsonl(str(frames))
            return demo_score(found, read_labels(str(truth)), fps=source.info.fps).to_dict()


def describe_demo(score: dict[str, Any]) -> str:
    """One line of scores for people."""
    points = score["points"]

    def shown(value: float | None, form: str = ".3f") -> str:
        return "-" if value is None else format(value, form)

    return (
        f"recall {shown(score['recall'])}, precision {shown(points['precision'])}, "
        f"false tracks per second {shown(score['false_tracks_per_s'])}, tracks {score['tracks']} "
        f"({score['true_tracks']} on movers, {score['other_tracks']} on people and cars, {score['false_tracks']} false), "
        f"median position error {shown(points['median_error_px'], '.2f')} px"
    )


def write_json(target: str, record: Any) -> None:
    """Write an indented JSON document to a path or ``-`` (standard output). Raises OutputError."""
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another path") from None
