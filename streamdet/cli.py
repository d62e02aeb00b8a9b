"""The command line: words to a Config, Results to a progress bar, errors to one sentence and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from streamdet import __version__
from streamdet.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    DependencyError,
    OutputClosed,
    OutputError,
    StreamdetError,
    redact,
)

if TYPE_CHECKING:
    from streamdet.api import Run
    from streamdet.config import Config
    from streamdet.types import Result

__all__ = ["main"]

log = logging.getLogger("streamdet")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 usage, 3 start-up failed, 4 stream lost, 130 interrupted)."""
    _fill_standard_streams()
    try:
        return _main(_parser().parse_args(argv))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _fill_standard_streams() -> None:
    """Who starts us with one of them closed (``2>&-``) must not find what libraries say in the first file we open."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _main(arguments: argparse.Namespace) -> int:
    logging.basicConfig(
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(arguments.verbose, 2)],
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # the line has its own threads
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # ... and no matrix is large enough to wait for a second one
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it would say of a damaged file is told in one sentence
    gc.set_threshold(5000, 20, 20)  # a frame makes hundreds of small objects, and hardly a cycle among them
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        code = command(arguments)
        sys.stdout.flush()
        return code
    except OutputClosed:  # `streamdet ... | head`: the reader has had enough
        return EXIT_DONE
    except StreamdetError as error:
        print(f"streamdet: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_DONE
    except OSError as error:  # a full disk behind `> file`; what else fails on a disk was told as a StreamdetError
        if error.errno != errno.ENOSPC:
            raise
        print(f"streamdet: cannot write standard output: {error.strerror}; make room there", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be flushed at exit would fail again
        return OutputError.exit_code


def _check_opencv() -> None:
    """OpenCV's wheel needs a few system libraries: say which line brings them."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        hint = "`apt-get install -y libgl1 libglib2.0-0` (Debian, Ubuntu) or `dnf install mesa-libGL glib2` (Fedora)"
        raise DependencyError(f"OpenCV cannot be loaded ({error}); install what it needs: {hint}") from None


def _parser() -> argparse.ArgumentParser:
    from streamdet.commands import COMMANDS
    from streamdet.options import EXAMPLES, add_demo, add_run

    parser = argparse.ArgumentParser(
        prog="streamdet",
        description="Detect and track small fast objects in video and camera feeds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"streamdet {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_run(commands, "run", "the main job: SOURCE in, annotated film and JSON out", _run)
    add_run(commands, "bench", "where the time goes: fps, per-stage p50/p95, tiles, drops", _bench)
    add_demo(commands, _demo)
    for add in COMMANDS:
        add(commands)
    for name, text, command in (
        ("models", "the models that come with streamdet", _models),
        ("info", "what this machine can do, and why not", _info),
        ("config-schema", "JSON Schema of the configuration file", _config_schema),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, verbose=0)
    return parser


def _configure(arguments: argparse.Namespace) -> Config:
    from streamdet.options import config_of

    _check_opencv()
    return config_of(arguments)


# ------------------------------------------------------------------------------------------------------------- commands


def _run(arguments: argparse.Namespace) -> int:
    from streamdet.api import Run
    from streamdet.config import to_yaml

    config = _configure(arguments)
    if arguments.print_config:
        sys.stdout.write(to_yaml(config))
        return EXIT_DONE
    with _with_default_output(config, show=arguments.show) as config:
        run = Run(config)
        try:
            return _drive(run, arguments)
        finally:
            _tell(run, arguments)


def _tell(run: Run, arguments: argparse.Namespace) -> None:
    """What was done, also when something failed: one source that is missing must not hide the others."""
    from streamdet.report import describe_run

    if not arguments.quiet and (told := describe_run(run.summary)):
        print(told, file=sys.stderr)
    for error in run.summary.get("errors", [])[1:]:  # the first is told last, by main
        print(f"streamdet: {redact(error)}", file=sys.stderr)


@contextlib.contextmanager
def _with_default_output(config: Config, *, show: bool) -> Iterator[Config]:
    """Nothing asked for: a folder of its own for files; events on standard output for live sources."""
    from streamdet.config import with_values
    from streamdet.places import run_folder, sources_of
    from streamdet.telling import has_destinations

    output = config.output
    sent = (config.record.dir, config.broadcast.push, config.broadcast.hls, config.broadcast.segments)
    if (
        show
        or has_destinations(config)
        or any((*sent, output.dir, output.video, output.frames, output.events, output.summary, output.mot, output.coco))
    ):
        yield config
        return
    specs = sources_of(config.sources)
    if any(spec.live for spec in specs):
        yield with_values(config, {"output.events": "-"})
        return
    with run_folder(specs[0].stream if len(specs) == 1 else "many") as folder:
        yield with_values(config, {"output.dir": str(folder)})


def _drive(run: Run, arguments: argparse.Namespace, *, each: Callable[[Result], None] | None = None) -> int:
    """Iterate to the end with a progress bar, windows and signals. First SIGINT finishes the files, second aborts."""
    from streamdet.report import Progress, Window

    signals: list[int] = []

    def interrupted(number: int, _frame: object) -> None:
        signals.append(number)
        run.stop(abort=len(signals) > 1)
        if len(signals) > 1:
            raise KeyboardInterrupt
        print("\nstreamdet: finishing the files; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Progress(run, quiet=arguments.quiet) as progress, Window(show=arguments.show) as window:
            for result in run:
                progress(result)
                if not window(result):
                    run.stop()
                if each is not None:
                    each(result)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return EXIT_INTERRUPTED if signals else EXIT_DONE


def _bench(arguments: argparse.Namespace) -> int:
    from streamdet.api import Run
    from streamdet.report import describe_bench, write_json

    run = Run(_configure(arguments))
    code = _drive(run, arguments)
    if arguments.json:
        write_json(arguments.json, run.summary)
    if arguments.json != "-":
        print(describe_bench(run.summary))
    return code


def _demo(arguments: argparse.Namespace) -> int:
    from streamdet.api import Run
    from streamdet.config import to_yaml, with_values
    from streamdet.report import DemoScore, describe_demo, write_json

    named = {
        "size": "source.demo_size",
        "seconds": "source.demo_seconds",
        "movers": "source.demo_movers",
        "seed": "source.seed",
    }
    values = {leaf: getattr(arguments, name) for name, leaf in named.items() if getattr(arguments, name) is not None}
    config = with_values(_configure(arguments), values)
    if arguments.print_config:
        sys.stdout.write(to_yaml(config))
        return EXIT_DONE
    with _with_default_output(config, show=arguments.show) as config:
        run = Run(config)
        demo = DemoScore(config.source, folder=config.output.dir)
        code = _drive(run, arguments, each=demo.add)
        score = demo.result()
    record = {"score": score, **run.summary}
    if arguments.json:
        write_json(arguments.json, record)
    _tell(run, arguments)
    if arguments.json != "-":
        print(describe_demo(score))
    return code


def _models(arguments: argparse.Namespace) -> int:
    from streamdet.assemble import models

    for number, card in enumerate(models()):
        print(f"{card.name:<16} {'(default) ' if number == 0 else ''}{card.summary}")
        if card.path:
            print(f"{'':<16} {card.path}")
    return EXIT_DONE


def _info(arguments: argparse.Namespace) -> int:
    from streamdet.machine import machine_report

    print(machine_report())
    return EXIT_DONE


def _config_schema(arguments: argparse.Namespace) -> int:
    from streamdet.config import json_schema
    from streamdet.report import write_json

    write_json("-", json_schema())
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
