"""Where things come from and where they go: the SOURCE words and output options of a command, before anything is opened."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamdet.config import OutputConfig
from streamdet.errors import ConfigError, OutputError, UsageError, redact
from streamdet.records import as_text

__all__ = [
    "Outputs",
    "SourceSpec",
    "only_source",
    "outputs_of",
    "refuse_stills",
    "refuse_twins",
    "run_folder",
    "sources_of",
]


_WRITTEN_BY = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".jpg", ".jpeg", ".png"), "video"),
    ".jsonl": "frames",
}


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
    if any(not uri.strip() for uri in uris):
        raise UsageError("SOURCE '' names nothing; give a file, image, folder, glob, camera or address")
    specs = _together([spec for uri in uris for spec in _specs(uri)])
    taken: set[str] = set()
    unique = []
    for spec in specs:
        stem = re.sub(
            r"[\x00-\x1f\x7f]", "_", as_text(spec.stream)
        )  # a line break would cut logs and progress bars in two
        names = (stem if count == 1 else f"{stem}-{count}" for count in itertools.count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        unique.append(SourceSpec(spec.kind, spec.uri, name, spec.paths))
    return unique


def only_source(uris: Sequence[str]) -> SourceSpec:
    """The one source named: a clip, or pictures. Raises UsageError if there are several."""
    specs = sources_of(uris)
    if len(specs) > 1:
        raise UsageError(f"{', '.join(uris)} is {len(specs)} sources ({specs[0].uri}, ...); give one clip")
    return specs[0]


def _together(specs: list[SourceSpec]) -> list[SourceSpec]:
    """Single pictures named one by one (a shell's ``*.jpg``) are one source."""
    single = [spec for spec in specs if spec.still and len(spec.paths) == 1]
    if len(single) < 2:
        return specs
    paths = tuple(spec.paths[0] for spec in single)
    whole = SourceSpec("images", single[0].uri, paths[0].resolve().parent.name or "images", paths)
    return [whole if spec is single[0] else spec for spec in specs if spec is single[0] or spec not in single]


def _specs(uri: str) -> list[SourceSpec]:
    from streamdet.sources.fetch import is_web_address, name_at
    from streamdet.sources.images import expand, is_image
    from streamdet.sources.opening import ALWAYS_LIVE

    if uri == "demo":
        return [SourceSpec("demo", uri, "demo")]
    if uri.isdigit() or uri.startswith(("/dev/video", "/dev/v4l/")):
        return [
            SourceSpec("camera", f"/dev/video{uri}" if uri.isdigit() else uri, f"camera{re.sub(r'[^0-9]', '', uri)}")
        ]
    if "://" in uri:
        if is_web_address(uri) and is_image(name_at(uri)):
            return [SourceSpec("images", uri, Path(name_at(uri)).stem)]
        live = uri.split("://", 1)[0].lower() in ALWAYS_LIVE
        return [SourceSpec("live" if live else "url", uri, _name_of_url(uri))]
    if re.search(r"%0?\d*d", uri) and not Path(uri).exists():
        return [
            SourceSpec(
                "sequence", uri, re.sub(r"[_.-]*%0?\d*d", "", Path(uri).stem) or Path(uri).parent.name or "sequence"
            )
        ]
    path = Path(os.path.expanduser(uri))
    if path.is_dir() or (glob.has_magic(uri) and not path.exists()):
        videos, images = expand(str(path))
        found = [SourceSpec("video", str(video), Path(video).stem) for video in videos]
        name = path.resolve().name if path.is_dir() else (path.parent.resolve().name or "images")
        return found + ([SourceSpec("images", uri, name, tuple(images))] if images else [])
    if is_image(path):
        return [SourceSpec("images", uri, path.stem, (path,))]
    return [SourceSpec("video", str(path), path.stem)]


def _name_of_url(uri: str) -> str:
    tail = re.sub(r"[?#].*", "", redact(uri).split("://", 1)[1].split("@")[-1])
    return re.sub(r"[^A-Za-z0-9]+", "-", tail).strip("-")[:60] or "stream"


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


@contextlib.contextmanager
def run_folder(name: str) -> Iterator[Path]:
    """``runs/NAME``, or ``runs/NAME-2`` and so on where that is there, and gone again if nothing was written into it.

    It is made at once: two runs of one clip, begun together, must not write into each other's films. Raises OutputError.
    """
    parent = Path("runs")
    fresh = not parent.exists()
    for count in itertools.count(1):
        folder = parent / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"cannot make {folder}: {error.strerror}; choose another with --output DIR") from None
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
            if fresh:
                parent.rmdir()


def outputs_of(spec: SourceSpec, output: OutputConfig, *, alone: bool) -> Outputs:
    """The outputs of one stream. `alone`: it is the only one, so a single file name is unambiguous."""
    asked = {k: getattr(output, k) for k in ("video", "frames", "events", "mot", "coco")}
    named = {k: None if path is None else os.path.expanduser(path) for k, path in asked.items()}
    if not alone:
        for option, path in named.items():
            if path not in (None, "-"):
                raise ConfigError(f"--{option} {path}: one file cannot hold several sources; use --output DIR")
    folder = Path(os.path.expanduser(output.dir)) if output.dir else None
    if folder:
        _refuse_file_names(folder)
        stem = spec.stream
        named["frames"] = named["frames"] or str(folder / f"{stem}.frames.jsonl")
        if not spec.still:  # nothing happens in a still
            named["events"] = named["events"] or str(folder / f"{stem}.events.jsonl")
            if not output.no_video:
                named["video"] = named["video"] or str(folder / f"{stem}.mp4")
    images = None
    if spec.still:
        pictures = (
            folder if alone or folder is None else folder / spec.stream
        )  # x.jpg of one source is not x.jpg of another
        images = str(pictures) if pictures and not output.no_video else None
        images, named["video"] = named["video"] or images, None
    outputs = Outputs(images=images, **named)
    _refuse_to_overwrite_input(spec, outputs)
    return outputs


def _refuse_file_names(folder: Path) -> None:
    """Who says ``--output film.mp4`` wants a film, not a folder of that name."""
    option = _WRITTEN_BY.get(folder.suffix.lower())
    if option and not folder.is_dir():
        raise ConfigError(
            f"--output {folder} is called like a file and would be a folder; for one file use --{option} {folder}"
        )


def _refuse_to_overwrite_input(spec: SourceSpec, outputs: Outputs) -> None:
    inputs = (*spec.paths, Path(spec.uri))
    if outputs.images and any(_same(path.parent, outputs.images) for path in inputs):
        raise ConfigError(
            f"--output {outputs.images} holds the images that are read and would overwrite them; choose another"
        )
    for option, path in outputs.files.items():
        if path != "-" and any(_same(source, path) for source in inputs):
            raise ConfigError(f"the {option} output {path} would overwrite the source; choose another --output folder")


def refuse_twins(outputs: Sequence[Outputs]) -> None:
    taken: dict[Path, str] = {}
    for option, path in ((option, path) for one in outputs for option, path in one.files.items() if path != "-"):
        place = Path(path).resolve()
        if place in taken and option != "images":
            raise ConfigError(
                f"{taken[place]} and {option} would both be written to {path}; give each a file of its own"
            )
        taken[place] = option


def refuse_stills(specs: Sequence[SourceSpec], model: str) -> None:
    """Raises UsageError, for a model that looks at what moves, if there are stills."""
    for spec in specs:
        if not spec.still:
            continue
        name = "the embedded model" if model == "auto" else f"`{model}`"
        what = "holds still pictures" if len(spec.paths) > 1 else "is a still picture"
        film = _film_of(spec.paths)
        hint = f", or name the pictures as the film they are: {film}" if film else ""
        raise UsageError(
            f"{spec.uri} {what} and {name} finds only what moves; give a network with --model FILE.onnx{hint}"
        )


def _film_of(pictures: Sequence[Path]) -> str | None:
    """``shots/im_%04d.png`` where that names the first two of `pictures`, one after the other."""
    numbered = re.fullmatch(r"(.*?)(\d+)", pictures[0].stem) if len(pictures) > 1 else None
    if numbered is None:
        return None
    digits = numbered[2]
    form = f"%0{len(digits)}d" if digits.startswith("0") and len(digits) > 1 else "%d"
    name = f"{numbered[1].replace('%', '%%')}{form}{pictures[0].suffix}"
    return str(pictures[0].with_name(name)) if pictures[1].name == name % (int(digits) + 1) else None


def _same(a: Path, b: str | Path) -> bool:
    """Whether both are one file, by any name (links too)."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return a.resolve() == Path(b).resolve()
