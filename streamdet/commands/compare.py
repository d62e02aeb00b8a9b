"""``streamdet compare``: several runs on the same labels, as one page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from streamdet.commands.evaluate import add_scoring, check_scoring
from streamdet.errors import EXIT_DONE, OutputError, UsageError
from streamdet.options import Help, span_of

__all__ = ["add"]


def add(commands: Any) -> None:
    text = "compare runs on the same labels: a page with tables, plots and what was missed"
    sub = commands.add_parser("compare", help=text, description=text, formatter_class=Help)
    sub.add_argument(
        "runs", nargs="+", metavar="RUN_DIR", help="folders `streamdet run --output` wrote, or frames.jsonl files"
    )
    sub.add_argument(
        "--labels", required=True, metavar="L", help="label file, or folder with <clip>.csv, .txt (MOT), .json (COCO)"
    )
    sub.add_argument("--html", metavar="FILE.html", help="the page: one file that needs nothing else")
    sub.add_argument("--json", metavar="FILE|-", help="the numbers (default without --html: standard output)")
    sub.add_argument("--title", default="Comparison of runs", metavar="TEXT", help="heading of the page")
    add_scoring(sub)
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from streamdet.report import write_json
    from streamdet.tuning.comparison import compare

    check_scoring(arguments)
    if arguments.html and Path(arguments.html).is_dir():
        raise UsageError(f"--html {arguments.html} is a folder; give a file name such as report.html")
    comparison = compare(
        arguments.runs,
        arguments.labels,
        within_px=arguments.within,
        within_box=arguments.within_box,
        span=span_of(arguments.span),
        limit=arguments.max_det,
    )
    if arguments.json or not arguments.html:
        write_json(arguments.json or "-", comparison.to_dict())
    if arguments.html:
        from streamdet.tuning.page import comparison_page
        from streamdet.tuning.thumbnails import misses

        page = comparison_page(comparison, misses(comparison), title=arguments.title)
        try:
            Path(arguments.html).parent.mkdir(parents=True, exist_ok=True)
            Path(arguments.html).write_text(page, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {arguments.html}: {error.strerror}; choose another path") from None
        sys.stderr.write(f"wrote {arguments.html} ({len(page) // 1024} KiB)\n")
    return EXIT_DONE
