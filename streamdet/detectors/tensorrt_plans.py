"""Compiled plans on disk, so that a model is compiled once per machine.

A plan is good for one TensorRT version on one kind of GPU with one driver. All that, the model's content, its precision and
the shapes are the key. Beside ``<stem>-<key>.plan`` lies ``<stem>-<key>.json``: the key in words, and the plan's size and hash,
by which a damaged or half-copied plan is known *before* TensorRT reads it. Both are written whole or not at all. Two processes
that want the same plan do not both build it. Losing the folder costs a build, nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamdet.detectors.choose import cache_dir

__all__ = ["Key", "PlanCache", "plan_folder"]

_LOG = logging.getLogger(__name__)
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Key:
    """What a plan depends on. ``model``: sha256 of the very ONNX bytes that are compiled."""

    model: str
    runtime: str  # flavour and version
    gpu: str
    capability: str
    driver: str
    precision: str
    profile: str

    @property
    def short(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def plan_folder(asked: str | None, engines: Path) -> Path:
    """Where plans lie: as `asked`, ``engines/cache`` of a checkout (git-ignored), else the user's cache folder."""
    if asked:
        return Path(os.path.expanduser(asked))
    checkout = (engines.parent / ".git").exists() and os.access(engines, os.W_OK)
    return engines / "cache" if checkout else cache_dir() / "plans"


class PlanCache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, stem: str, key: Key) -> Path:
        return self.folder / f"{stem}-{key.short}.plan"

    def find(self, stem: str, key: Key) -> bytes | None:
        """The plan, if it is there and whole. What is damaged is told and removed."""
        path = self.path(stem, key)
        try:
            record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            plan = path.read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._discard(path, f"it cannot be read ({getattr(error, 'strerror', None) or 'damaged record'})")
            return None
        if not isinstance(record, dict) or record.get("schema") != _SCHEMA or record.get("key") != asdict(key):
            self._discard(path, "it belongs to something else")
            return None
        if record.get("bytes") != len(plan) or record.get("sha256") != hashlib.sha256(plan).hexdigest():
            self._discard(path, "it is damaged")
            return None
        return plan

    def discard(self, stem: str, key: Key, why: str) -> None:
        """Forget a plan that TensorRT refused."""
        self._discard(self.path(stem, key), why)

    def get_or_build(self, stem: str, key: Key, build: Callable[[], bytes]) -> bytes:
        """The plan from disk, or built now and kept; built only once if several processes ask. Errors of `build` pass through."""
        plan = self.find(stem, key)
        if plan is not None:
            return plan
        with self._locked(stem, key):
            plan = self.find(stem, key)  # another process may have built it meanwhile
            if plan is None:
                plan = build()
                self.keep(stem, key, plan)
        return plan

    def keep(self, stem: str, key: Key, plan: bytes) -> None:
        path = self.path(stem, key)
        record: dict[str, Any] = {"schema": _SCHEMA, "key": asdict(key), "bytes": len(plan)}
        record["sha256"] = hashlib.sha256(plan).hexdigest()
        try:
            self.write(path, plan)
            self.write(path.with_suffix(".json"), (json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            _LOG.warning(
                "the compiled plan cannot be kept in %s (%s) and is compiled again next time; set gpu.plans to another folder",
                self.folder,
                error.strerror,
            )

    def write(self, path: Path, content: bytes) -> None:
        """Whole or not at all, also when the machine stops. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as handle:
            try:
                os.fchmod(handle.fileno(), 0o644)  # a service and its administrator may share the folder
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            except BaseException:
                Path(handle.name).unlink(missing_ok=True)
                raise
        os.replace(handle.name, path)

    def timing_cache(self, name: str) -> bytes | None:
        """What earlier builds of any model measured on this GPU with this version."""
        with contextlib.suppress(OSError):
            return (self.folder / f"{name}.timing").read_bytes()
        return None

    def keep_timing_cache(self, name: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            self.write(self.folder / f"{name}.timing", content)

    def _discard(self, path: Path, why: str) -> None:
        _LOG.warning("the compiled plan %s is not used: %s; it is compiled again", path, why)
        for file in (path.with_suffix(".json"), path):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, stem: str, key: Key) -> Iterator[None]:
        """The kernel frees the lock of a process that dies. A folder that cannot be written is not locked."""
        lock = self.path(stem, key).with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("wb")
        except OSError:
            yield
            return
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _LOG.warning("another process is compiling %s; waiting for it", stem)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
