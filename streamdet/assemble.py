"""Config -> parts. The only place that maps names to classes; heavy packages are imported here, when they are needed."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamdet.budget import Budget
from streamdet.config import Config
from streamdet.errors import ConfigError, ModelError, SourceOpenError, StartupError, redact
from streamdet.gpu import device_of, gpu_detector, gpu_freeing, gpu_motion
from streamdet.line import Line
from streamdet.looking import make_look
from streamdet.media import NamingRules, Shelves, broadcast_of, open_shelves, recorder_of
from streamdet.pipeline import Opener, Pipeline
from streamdet.places import Outputs, SourceSpec, outputs_of, refuse_stills, refuse_twins, sources_of
from streamdet.protocols import Detector, Sink, Source
from streamdet.stream import Stream
from streamdet.telling import Telling, open_telling
from streamdet.types import SourceInfo

if TYPE_CHECKING:
    from streamdet.sources.tap import PacketTap

__all__ = [
    "Assembled",
    "Outputs",
    "SourceSpec",
    "assemble",
    "find_model",
    "frames_held",
    "looks_at_motion",
    "make_detector",
    "make_line",
    "models",
    "open_source",
    "outputs_of",
    "sources_of",
]

LOOK_BACK, LOOK_BACK_S = 6, 0.2  # after so many frames and so long a recording's tracks are told
HIGHEST_FPS = 120.0  # of a recording that is looked back over as long as others: frames take memory
HITS_MORE = 2  # hits that a small thing must have had by then, beyond those that confirm a track
MOST_IN_FRAME, MOST_IN_STILL = 1_000, 100_000  # detections; a city from above has more than a frame of film
MOTION_THRESHOLD = 0.3  # strength from which a moving region counts with `--model motion`


# -------------------------------------------------------------------------------------------------------------- sources


def open_source(
    spec: SourceSpec,
    config: Config,
    *,
    tap: PacketTap | None = None,
    patient: bool = False,
    first_epoch: int = 0,
    first_index: int = 0,
) -> Source:
    """The source for `spec`, not entered yet. What can be lost comes back by itself (see `streamdet.sources.reconnect`).

    `tap` sees a camera's packets. `patient`: it may be unreachable at first, and a file is played in real time, for ever.
    `first_epoch`, `first_index`: of its first frame, where it goes on with a stream that was there before.
    """
    if not patient and spec.kind not in ("camera", "live", "url"):
        return _open_once(spec, config, 0, tap=tap, live=False)
    from streamdet.sources.reconnect import Reconnecting

    return Reconnecting(
        functools.partial(_open_once, spec, config, tap=tap, live=patient),
        stream=spec.stream,
        uri=redact(spec.uri),
        config=config.live,
        patient=patient,
        again=patient and spec.kind in ("demo", "video", "sequence"),
        first_epoch=first_epoch,
        first_index=first_index,
    )


def _open_once(spec: SourceSpec, config: Config, epoch: int, *, tap: PacketTap | None, live: bool) -> Source:
    """One connection. `live`: an address is that of a camera, and a file is played in real time."""
    from streamdet.sources.paced import Paced

    settings = config.source
    if spec.kind == "demo":
        from streamdet.sources.demo import DemoSource

        demo = DemoSource(stream=spec.stream, config=settings)
        return Paced(demo) if live else demo
    if spec.kind in ("images", "sequence"):
        from streamdet.sources.images import ImageSequenceSource, ImageSource, WebImageSource

        if spec.kind == "images":
            if not spec.paths:
                return WebImageSource(spec.uri, stream=spec.stream, config=settings)
            return ImageSource(spec.paths, stream=spec.stream, config=settings)
        sequence = ImageSequenceSource(spec.uri, stream=spec.stream, config=settings)
        return Paced(sequence) if live else sequence
    from streamdet.sources.video import CameraSource, VideoSource

    if spec.kind == "camera":
        return CameraSource(spec.uri, stream=spec.stream, config=settings, tap=tap, epoch=epoch)
    gpu = _decodes_on(config)
    if spec.kind == "video":
        film = VideoSource(spec.uri, stream=spec.stream, config=settings, tap=tap, epoch=epoch, hwaccel=gpu)
        return Paced(film) if live else film
    certain = True if spec.live or live else None  # http may be either
    return VideoSource(spec.uri, stream=spec.stream, config=settings, live=certain, tap=tap, epoch=epoch, hwaccel=gpu)


def _decodes_on(config: Config) -> str | None:
    """The GPU that decodes: the one asked for, or the one the network runs on; None: the CPU does."""
    wanted = config.source.hwaccel
    if wanted == "off":
        return None
    device = device_of(config)
    return device if device != "cpu" else "cuda:0" if wanted == "cuda" else None


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
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return path
    if path.is_dir():
        raise ModelError(f"model {name} is a folder; give the .onnx file in it")
    looks_like_file = path.suffix or "/" in name
    said = "does not exist" if looks_like_file else "is neither a file nor one of ours"
    raise ModelError(f"model {name} {said}; ours are: {', '.join(c.name for c in known)} (see `streamdet models`)")


def make_detector(config: Config) -> Detector:
    """The detector, not entered yet."""
    path = find_model(config.model.name)
    if path is None:
        from streamdet.detectors.motion_detector import MotionDetector

        _check_motion_options(config)
        conf = config.model.conf
        threshold = conf.get("mover") if isinstance(conf, dict) else conf
        return MotionDetector(
            smallest_px=config.motion.smallest_px,
            largest_px=config.motion.largest_px,
            threshold=MOTION_THRESHOLD if threshold is None else threshold,
        )
    device = device_of(config)
    if device != "cpu":
        return gpu_detector(config, path, device, engines_folder())
    from streamdet.detectors.network import open_detector

    return open_detector(config.model, path)


def _check_motion_options(config: Config) -> None:
    """What only a network can do is refused, not ignored."""
    model = config.model
    named = {*model.classes, *model.rename, *(model.conf if isinstance(model.conf, dict) else ())} - {"mover"}
    if named:
        raise ConfigError(
            f"`motion` knows one class, mover, and not {', '.join(sorted(named))}; name a network with --model"
        )
    if model.rename:
        raise ConfigError("`motion` has one class, mover, which cannot be renamed; leave --rename away")
    if model.device not in ("auto", "cpu"):
        raise StartupError(f"device '{model.device}': `motion` runs on the CPU; use --device cpu or auto")


# -------------------------------------------------------------------------------------------------------------- outputs


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
    telling: Telling | None = None


@contextlib.contextmanager
def assemble(config: Config, *, on_tiles: Callable[[str, int, int], None] | None = None) -> Iterator[Assembled]:
    """Bring up the detector and prepare every source; sources open when their turn comes. Raises StreamdetError.

    `on_tiles(stream, done, of)` is told how far a still of many tiles has come.
    """
    specs = sources_of(config.sources)
    outputs = [outputs_of(spec, config.output, alone=len(specs) == 1) for spec in specs]
    refuse_twins(outputs)
    detector = make_detector(config)
    with detector, contextlib.ExitStack() as opened:
        if looks_at_motion(detector):
            refuse_stills(specs, config.model.name)
        shelves = open_shelves(config, opened)
        telling = open_telling(config, opened)
        alone = len(specs) == 1
        openers: list[Opener] = [
            functools.partial(_open_stream, spec, out, config, detector, shelves, alone, telling, on_tiles)
            for spec, out in zip(specs, outputs, strict=True)
        ]
        together = any(spec.live for spec in specs)
        pipeline = Pipeline(openers, together=together, budget=Budget(turn_s=config.live.turn_s))
        yield Assembled(pipeline, detector, specs, outputs, telling)


def _open_stream(
    spec: SourceSpec,
    outputs: Outputs,
    config: Config,
    detector: Detector,
    shelves: Shelves,
    alone: bool,
    telling: Telling | None,
    on_tiles: Callable[[str, int, int], None] | None,
    opened: contextlib.ExitStack,
) -> Stream:
    recorder = None if spec.still else recorder_of(shelves, config.record, spec.stream)
    try:
        source = opened.enter_context(open_source(spec, config, tap=recorder))
    except OSError as error:
        raise SourceOpenError(f"cannot open {redact(spec.uri)}: {redact(str(error))}") from None
    line = make_line(config, detector, source.info, still=spec.still)
    if spec.still and on_tiles is not None:
        line.on_tiles = functools.partial(on_tiles, spec.stream)
    sinks = _open_sinks(outputs, config, source.info)
    if recorder is not None:
        line.rules = NamingRules(line.rules, recorder)
        sinks.append(recorder.sink())
    if telling is not None:
        line.rules = telling.rules(line.rules)
        sinks.append(telling.sink())
    broadcast = (
        None if spec.still else broadcast_of(shelves, config.broadcast, spec.stream, live=source.info.live, alone=alone)
    )
    if broadcast is not None:
        sinks.append(broadcast)
    return Stream(source, line, sinks, max_frames=config.source.max_frames)


def make_line(config: Config, detector: Detector, info: SourceInfo, *, still: bool = False) -> Line:
    from streamdet.draw import Painter
    from streamdet.merge import Merger
    from streamdet.motion.model import MotionModel
    from streamdet.rules.engine import RulesEngine
    from streamdet.tiles.plan import keep_mask
    from streamdet.tracking.belief import WARY_OF_NETWORKS
    from streamdet.tracking.lookback import Lookback
    from streamdet.tracking.tracker import Tracker

    scheduler, packer, finer, memory = make_look(
        config, detector, info.frame_wh, live=info.live, still=still or info.still
    )
    if info.frame_wh is not None:  # a mistake is told before any output is opened
        keep_mask(info.frame_wh, config.tiles, np.zeros((0, 4), np.float32))
    rules = config.rules
    usual = frames_held(info.fps)
    held = usual if config.tracker.look_back is None else config.tracker.look_back
    movers = looks_at_motion(detector) if config.tracker.doubt is None else config.tracker.doubt
    return Line(
        motion_model=gpu_motion(config, packer) or MotionModel(config.motion),
        scheduler=scheduler,
        packer=packer,
        detector=detector,
        merger=Merger(config.merge),
        tracker=Tracker(
            config.tracker,
            threshold=detector.threshold,
            movers=movers,
            wary=0.0 if detector.input is None else WARY_OF_NETWORKS,
        ),
        lookback=Lookback(
            0 if info.live or still else held,
            movers=movers,
            least_hits=config.tracker.confirm_hits + HITS_MORE,
            longest_gap=usual,
        ),
        rules=RulesEngine(rules, labels=detector.labels, stream=info.stream),
        keep=lambda frame_wh, xyxy: keep_mask(frame_wh, config.tiles, xyxy),
        finer=finer,
        memory=memory,
        max_detections=config.model.max_detections or (MOST_IN_STILL if info.still else MOST_IN_FRAME),
        free=gpu_freeing(packer),
        painter=Painter(config.draw, labels=detector.labels, zones=rules.zones, lines=rules.lines),
    )


def frames_held(fps: float | None) -> int:
    """How many frames a recording of that rate (None: not known) is looked back over, unless told otherwise."""
    return max(LOOK_BACK, round(LOOK_BACK_S * min(fps or 0.0, HIGHEST_FPS)))


def looks_at_motion(detector: Detector) -> bool:
    """Whether it is a detector of movers: its network is fed differences or several frames, or it has none."""
    return detector.input is None or detector.input.shows_motion
