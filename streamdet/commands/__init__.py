"""Commands with a file of their own. Each file has ``add(commands)``, which adds one sub-parser and names what it runs.

Nothing heavy is imported when these load (``streamdet --help`` stays under 0.3 s): a command imports what it needs when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamdet.commands import build, compare, deliver, evaluate, export_frames, serve, slice_dataset, tune, widen

__all__ = ["COMMANDS"]

COMMANDS: tuple[Callable[[Any], None], ...] = (
    evaluate.add,
    build.add,
    serve.add,
    deliver.add,
    widen.add,
    compare.add,
    tune.add,
    slice_dataset.add,
    export_frames.add,
)
