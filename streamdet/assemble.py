"""Config -> parts. The only place that maps names to classes; heavy packages are imported here, when they are needed."""

from __future__ import annotations

import contextlib
import functools
import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdet.config import Config, OutputConfig
from streamdet.errors import ConfigError, ModelError, SourceOpenError, UsageError, redact
from streamdet.pipeline import Line, Pipeline, Stream
from streamdet.protocols import Detector, Packer, Scheduler, Sink, Source
from streamdet.types import F32, Bool, SourceInfo

__all__ = ["Assembled", "Outputs", "SourceSpec", "assemble", "find_model", "models", "outputs_of", "sources_of"]

Opener = Callable[[contextlib.ExitStack], Stream]
MOTION_THRESHOLD = 0.3  # strength from which a moving region counts with `--model motion`
LIVE_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "udp://", "rtp://", "tcp://")


# -------------------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One stream to be opened: what kind, where, under which name. `paths` only for stills."""

    kind: str  # demo, camera, live, url, video, sequence, images
    uri: str
    stream: str
    paths: tuple[Path, ...] = ()

    @property
    def live(self) -> bool:
        return self.kind in ("camera", "live")

    @property
    def still(self) -> bool:
        return self.kind == "images"


def sources_of(uris: Sequence[str]) -> list[SourceSpec]:
    """What the SOURCE words of a command name, folders and globs expanded; stream names are made unique."""
    if not uris:
        raise UsageError("no SOURCE given: a file, image, folder, glob, 0 (camera), rtsp://..., http(s)://... or demo")
    specs = [spec for uri in uris for spec in _specs(uri)]
    taken: dict[str, int] = {}
    unique = []
    for spec in specs:
        count = taken[spec.stream] = taken.get(spec.stream, 0) + 1
        name = spec.stream if count == 1 else f"{spec.stream}-{count}"
        unique.append(SourceSpec(spec.kind, spec.uri, name, spec.paths))
    return unique


def _specs(uri: str) -> list[SourceSpec]:
    from streamdet.sources.images import expand, is_image

    if uri == "demo":
        return [SourceSpec("demo", uri, "demo")]
    if uri.isdigit() or uri.startswith("/dev/video"):
        return [
            SourceSpec("camera", f"/dev/video{uri}" if uri.isdigit() else uri, f"camera{re.sub(r'[^0-9]', '', uri)}")
        ]
    if "://" in uri:
        live = uri.lower().startswith(LIVE_SCHEMES)
        return [SourceSpec("live" if live else "url", uri, _name_of_url(uri))]
    if re.search(r"%0?\d*d", uri) and not Path(uri).exists():
        return [
            SourceSpec(
                "sequence", uri, re.sub(r"[_.-]*%0?\d*d", "", Path(uri).stem) or Path(uri).parent.name or "sequence"
            )
        ]
    path = Path(uri).expanduser()
    if path.is_dir() or (glob.has_magic(uri) and not path.exists()):
        videos, images = expand(str(path))
        found = [SourceSpec("video", str(video), Path(video).stem) for video in videos]
        name = path.resolve().name if path.is_dir() else (path.parent.resolve().name or "images")
        return found + ([SourceSpec("images", uri, name, tuple(images))] if images else [])
    if path.suffix.lower() == ".pdf":
        raise UsageError(f"{uri}: PDF pages are not supported yet; turn them into images first (pdftoppm -r 200 -png)")
    if is_image(path):
        return [SourceSpec("images", uri, path.stem, (path,))]
    return [SourceSpec("video", str(path), path.stem)]


def _name_of_url(uri: str) -> str:
    tail = re.sub(r"[?#].*", "", redact(uri).split("://", 1)[1].split("@")[-1])
    return re.sub(r"[^A-Za-z0-9]+", "-", tail).strip("-")[:60] or "stream"


def _open_source(spec: SourceSpec, config: Config) -> Source:
    settings = config.source
    if spec.kind == "demo":
        from streamdet.sources.demo import DemoSource

        return DemoSource(stream=spec.stream, config=settings)
    if spec.kind in ("images", "sequence"):
        from streamdet.sources.images import ImageSequenceSource, ImageSource

        if spec.kind == "images":
            return ImageSource(spec.paths, stream=spec.stream, config=settings)
        return ImageSequenceSource(spec.uri, stream=spec.stream, config=settings)
    from streamdet.sources.video import CameraSource, VideoSource

    if spec.kind == "camera":
        return CameraSource(spec.uri, stream=spec.stream, config=settings)
    return VideoSource(spec.uri, stream=spec.stream, config=settings, live=True if spec.live else None)


# --------------------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One entry of `streamdet models`. `path` is None for `motion`, which needs no file."""

    name: str
    path: Path | None
    summary: str


def engines_folder() -> Path:
    """Where our own models lie: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).resolve().parent / "engines"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "engines"


def models() -> list[ModelCard]:
    """The models that come with streamdet, the default first."""
    import tomllib

    cards = []
    for manifest in sorted(engines_folder().glob("*.toml")):
        card = tomllib.loads(manifest.read_text(encoding="utf-8")).get("card", {})
        file = manifest.with_suffix(".onnx")
        if file.is_file():
            cards.append((not card.get("default", False), ModelCard(manifest.stem, file, str(card.get("summary", "")))))
    ordered = [card for _, card in sorted(cards, key=lambda pair: (pair[0], pair[1].name))]
    return [*ordered, ModelCard("motion", None, "no network: what moves and is small, by difference and background")]


def find_model(name: str) -> Path | None:
    """The file of a model named on the command line; None for ``motion``. Raises ModelError."""
    known = models()
    if name == "auto":
        return known[0].path
    for card in known:
        if card.name == name:
            return card.path
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ModelError(f"model {name} is a folder; give the .onnx file in it")
    looks_like_file = path.suffix or "/" in name
    said = "does not exist" if looks_like_file else "is neither a file nor one of ours"
    raise ModelError(f"model {name} {said}; ours are: {', '.join(c.name for c in known)} (see `streamdet models`)")


def _make_detector(config: Config) -> Detector:
    """The detector, not entered yet."""
    path = find_model(config.model.name)
    if path is None:
        from streamdet.detectors.motion_detector import MotionDetector

        conf = config.model.conf
        threshold = conf.get("mover") if isinstance(conf, dict) else conf
        return MotionDetector(
            smallest_px=config.motion.smallest_px,
            largest_px=config.motion.largest_px,
            threshold=MOTION_THRESHOLD if threshold is None else threshold,
        )
    from streamdet.detectors.network import open_detector

    return open_detector(config.model, path)


# -------------------------------------------------------------------------------------------------------------- outputs


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results of one stream go; None: nowhere. `images`: folder (or file) of annotated stills."""

    video: str | None = None
    images: str | None = None
    frames: str | None = None
    events: str | None = None
    mot: str | None = None
    coco: str | None = None

    @property
    def files(self) -> dict[str, str]:
        named = {name: getattr(self, name) for name in ("video", "images", "frames", "events", "mot", "coco")}
        return {name: path for name, path in named.items() if path is not None}


def outputs_of(spec: SourceSpec, output: OutputConfig, *, alone: bool) -> Outputs:
    """The outputs of one stream. `alone`: it is the only one, so a single file name is unambiguous."""
    named = {k: getattr(output, k) for k in ("video", "frames", "events", "mot", "coco")}
    if not alone:
        for option, path in named.items():
            if path not in (None, "-"):
                raise ConfigError(f"--{option} {path}: one file cannot hold several sources; use --output DIR")
    folder = Path(output.dir) if output.dir else None
    if folder:
        stem = spec.stream
        named["frames"] = named["frames"] or str(folder / f"{stem}.frames.jsonl")
        if not spec.still:  # nothing happens in a still
            named["events"] = named["events"] or str(folder / f"{stem}.events.jsonl")
            if not output.no_video:
                named["video"] = named["video"] or str(folder / f"{stem}.mp4")
    images = None
    if spec.still:
        images = str(folder) if folder and not output.no_video else None
        images, named["video"] = named["video"] or images, None
    outputs = Outputs(images=images, **named)
    _refuse_to_overwrite_input(spec, outputs)
    return outputs


def _refuse_to_overwrite_input(spec: SourceSpec, outputs: Outputs) -> None:
    inputs = {path.resolve() for path in (*spec.paths, Path(spec.uri))}
    folder = Path(outputs.images).resolve() if outputs.images else None
    if folder is not None and any(path.parent == folder for path in inputs):
        raise ConfigError(
            f"--output {outputs.images} is the folder the images come from; they would be overwritten: choose another"
        )
    for option, path in outputs.files.items():
        if path != "-" and Path(path).resolve() in inputs:
            raise ConfigError(f"the {option} output {path} would overwrite the source; choose another --output folder")


def _open_sinks(outputs: Outputs, config: Config, info: SourceInfo) -> list[Sink]:
    sinks: list[Sink] = []
    if outputs.video:
        from streamdet.sinks.video import VideoSink

        sinks.append(VideoSink(outputs.video, info=info, crf=config.output.crf, audio=config.output.audio))
    if outputs.images:
        from streamdet.sinks.images import ImageSink

        sinks.append(ImageSink(outputs.images))
    if outputs.frames:
        from streamdet.sinks.jsonl import FramesSink

        sinks.append(FramesSink(outputs.frames, tentative=config.output.tentative))
    if outputs.events:
        from streamdet.sinks.jsonl import EventsSink

        sinks.append(EventsSink(outputs.events))
    if outputs.mot:
        from streamdet.sinks.mot import MotSink

        sinks.append(MotSink(outputs.mot))
    if outputs.coco:
        from streamdet.sinks.coco import CocoSink

        sinks.append(CocoSink(outputs.coco))
    return sinks


# ------------------------------------------------------------------------------------------------------------- the line


@dataclass(slots=True)
class Assembled:
    """A pipeline ready to run, and what it will say about itself."""

    pipeline: Pipeline
    detector: Detector
    specs: list[SourceSpec]
    outputs: list[Outputs]


@contextlib.contextmanager
def assemble(config: Config) -> Iterator[Assembled]:
    """Bring up the detector and prepare every source; sources open when their turn comes. Raises StreamdetError."""
    specs = sources_of(config.sources)
    outputs = [outputs_of(spec, config.output, alone=len(specs) == 1) for spec in specs]
    detector = _make_detector(config)
    stills = [spec.uri for spec in specs if spec.still]
    if stills and find_model(config.model.name) is None:
        raise UsageError(
            f"{stills[0]} is a still picture and `motion` finds only what moves; give a network with --model FILE.onnx"
        )
    with detector:
        openers: list[Opener] = [
            functools.partial(_open_stream, spec, out, config, detector)
            for spec, out in zip(specs, outputs, strict=True)
        ]
        together = any(spec.live for spec in specs)
        yield Assembled(Pipeline(openers, together=together), detector, specs, outputs)


def _open_stream(
    spec: SourceSpec, outputs: Outputs, config: Config, detector: Detector, opened: contextlib.ExitStack
) -> Stream:
    try:
        source = opened.enter_context(_open_source(spec, config))
    except SourceOpenError:
        raise
    except OSError as error:
        raise SourceOpenError(f"cannot open {redact(spec.uri)}: {redact(str(error))}") from None
    line = _make_line(config, detector, source.info)
    return Stream(source, line, _open_sinks(outputs, config, source.info), max_frames=config.source.max_frames)


def _make_line(config: Config, detector: Detector, info: SourceInfo) -> Line:
    from streamdet.draw import Painter
    from streamdet.merge import Merger
    from streamdet.motion.model import MotionModel
    from streamdet.rules.engine import RulesEngine
    from streamdet.tiles.plan import keep_mask
    from streamdet.tracking.tracker import Tracker

    scheduler, packer = _make_look(config, detector)
    rules = config.rules
    return Line(
        motion_model=MotionModel(config.motion),
        scheduler=scheduler,
        packer=packer,
        detector=detector,
        merger=Merger(config.merge),
        tracker=Tracker(config.tracker, threshold=detector.threshold),
        rules=RulesEngine(rules, labels=detector.labels, stream=info.stream),
        keep=functools.partial(_keep, keep_mask, config),
        painter=Painter(config.draw, labels=detector.labels, zones=rules.zones, lines=rules.lines),
    )


def _keep(keep_mask: Callable[..., Any], config: Config, frame_wh: tuple[int, int], xyxy: F32) -> Bool | None:
    mask: Bool | None = keep_mask(frame_wh, config.tiles, xyxy)
    return mask


def _make_look(config: Config, detector: Detector) -> tuple[Scheduler, Packer]:
    spec = detector.input
    if spec is None:
        from streamdet.tiles.none import NoPacker, NoScheduler

        return NoScheduler(), NoPacker()
    from streamdet.tiles.pack_cpu import CpuPacker
    from streamdet.tiles.plan import plan_tiles
    from streamdet.tiles.schedule import TileScheduler

    make_plan = functools.partial(
        plan_tiles, input_wh=spec.wh, config=config.tiles, stretch=spec.stretch, stride=spec.stride
    )
    return TileScheduler(config.tiles, make_plan=make_plan), CpuPacker(spec)
