"""Config -> recorder of clips and snapshots, for whoever opens streams."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streamdet.config import RecordConfig
from streamdet.protocols import Rules
from streamdet.types import Event, Frame, Tracks

if TYPE_CHECKING:
    from streamdet.recording.archive import Archive
    from streamdet.recording.recorder import Recorder

__all__ = ["NamingRules", "open_archive", "recorder_of"]


def open_archive(config: RecordConfig, opened: contextlib.ExitStack) -> Archive | None:
    """The folder of clips, one for all streams; None where nothing is recorded. Raises OutputError."""
    if config.dir is None or not (config.clips or config.snapshots):
        return None
    from streamdet.recording.archive import Archive

    return opened.enter_context(Archive(config.dir, config.keep))


def recorder_of(archive: Archive | None, config: RecordConfig, stream: str) -> Recorder | None:
    """The recorder of one stream: its source's ``tap``; goes into its rules (:class:`NamingRules`) and its sinks."""
    if archive is None:
        return None
    from streamdet.recording.recorder import Recorder

    return Recorder(archive, config, stream=stream)


class NamingRules:
    """Rules whose events have the names of their clips and snapshots before anyone sees them."""

    def __init__(self, rules: Rules, recorder: Recorder) -> None:
        self._rules = rules
        self._recorder = recorder

    def __call__(self, frame: Frame, tracks: Tracks) -> tuple[Event, ...]:
        events = self._rules(frame, tracks)
        return self._recorder.record(events) if events else events

    def finish(self) -> tuple[Event, ...]:
        return self._recorder.record(self._rules.finish())

    def counts(self) -> dict[str, object]:
        return self._rules.counts()
