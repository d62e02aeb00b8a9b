"""Everything streamdet raises on purpose.

::

    StreamdetError            exit code, one clear sentence for the user
    |-- UsageError        2   a wrong argument, option or configuration value
    |   `-- ConfigError   2   the same, with the path of the value in the configuration
    |-- StartupError      3   a part could not be brought up
    |   |-- DependencyError 3 a package or system library is missing or broken
    |   |-- SourceOpenError 3 a file, camera or address cannot be opened
    |   |   `-- SourceRefusedError 3 ... because the other side said no: wrong password, unknown path
    |   |-- ModelError    3   a model file is missing, damaged or of a layout we cannot read
    |   `-- OutputError   3   an output cannot be written (also raised while running: disk full)
    |       |-- UndeliveredError 3 the run is over, but some destination did not take all events
    |       `-- OutputClosed 0 whoever read our stdout went away (``| head``): the run ends quietly
    `-- SourceLostError   4   a stream that had been running stopped delivering

Messages follow one form: what is wrong, the value, the remedy. They never hold a secret: addresses go through
:func:`redact` first.
"""

from __future__ import annotations

import re

__all__ = [
    "ConfigError",
    "DependencyError",
    "ModelError",
    "OutputClosed",
    "OutputError",
    "SourceLostError",
    "SourceOpenError",
    "SourceRefusedError",
    "StartupError",
    "StreamdetError",
    "UndeliveredError",
    "UsageError",
    "redact",
]

EXIT_DONE = 0
EXIT_INTERRUPTED = 130


class StreamdetError(Exception):
    """Base of all errors meant for users; ``str(error)`` is one sentence, ``exit_code`` is what the CLI returns."""

    exit_code = 1


class UsageError(StreamdetError):
    exit_code = 2


class ConfigError(UsageError):
    exit_code = 2


class StartupError(StreamdetError):
    exit_code = 3


class DependencyError(StartupError):
    pass


class SourceOpenError(StartupError):
    pass


class SourceRefusedError(SourceOpenError):
    pass


class ModelError(StartupError):
    pass


class OutputError(StartupError):
    pass


class UndeliveredError(OutputError):
    pass


class OutputClosed(OutputError):
    exit_code = 0


class SourceLostError(StreamdetError):
    exit_code = 4


# to the *last* @: a password may hold / and @; better a path hidden than a secret shown
_CREDENTIALS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)([^\s'\"]*)@")
_SECRET_QUERY = re.compile(
    r"([?&](?:token|password|passwd|pwd|key|apikey|api_key|secret|auth|signature)=)[^&\s'\"]*", re.I
)


def redact(text: str) -> str:
    """Return `text` with user names and passwords in addresses, and secret query values, replaced by ``***``."""
    return _SECRET_QUERY.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))
