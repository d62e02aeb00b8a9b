"""Config -> recorder of clips and snapshots, for whoever opens streams."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streamdet.config import RecordConfig

if TYPE_CHECKING:
    from streamdet.recording.archive import Archive
    from streamdet.recording.recorder import Recorder

__all__ = ["open_archive", "recorder_of"]


def open_archive(config: RecordConfig, opened: contextlib.ExitStack) -> Archive | None:
    """The folder of clips, one for all streams; None where nothing is recorded. Raises OutputError."""
    if config.dir is None or not (config.clips or config.snapshots):
        return None
    from streamdet.recording.archive import Archive

    return opened.enter_context(Archive(config.dir, config.keep))


def recorder_of(archive: Archive | None, config: RecordConfig, stream: str) -> Recorder | None:
    """The recorder of one stream: its source's ``tap``; ``record`` for its Line; ``sink()`` beside its other sinks."""
    if archive is None:
        return None
    from streamdet.recording.recorder import Recorder

    return Recorder(archive, config, stream=stream)
