"""What was changed through the page or the API, kept beside the configuration file, which stays as its owner wrote it."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streamdet.config import CameraConfig, Config, Line, Zone, from_tree, to_tree
from streamdet.errors import ConfigError, OutputError

__all__ = ["Overlay", "overlay_path"]


class _Camera(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What replaces a camera's settings; None: as the configuration file says."""

    source: str | None = None  # only of cameras added by the API
    username: str | None = None
    password: str | None = None
    fps: float | None = None
    enabled: bool | None = None
    zones: list[Zone] | None = None
    lines: list[Line] | None = None


class _Changes(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    schema: int = 1
    cameras: dict[str, _Camera] = {}
    removed: list[str] = []


def overlay_path(config: Config, config_file: str | os.PathLike[str] | None) -> Path:
    """Where the changes to a configuration are kept: beside it, or where a service manager gave us a place to write."""
    if config.serve.overlay:
        return Path(os.path.expanduser(config.serve.overlay))
    beside = Path(config_file).with_suffix(".page.json") if config_file else Path("streamdet.page.json")
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]  # systemd: /etc is read-only for the service
    return Path(state) / beside.name if state and not beside.exists() else beside


class Overlay:
    """Reads on making (ConfigError if damaged); every change is on disk, whole, before its call returns.

    One that cannot be written (OutputError) was not made. Who has to do more than write does that in :meth:`unless_it_fails`.

    The file is readable by its owner only: an added camera's address may hold its password.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._changes = self._read()

    # ------------------------------------------------------------------------------------------------------- reading

    def apply(self, config: Config) -> Config:
        """`config` with the changes put over it. A change to a camera that is no longer in the file is left out."""
        tree = to_tree(config)
        cameras: dict[str, Any] = tree.setdefault("cameras", {})
        for name in self._changes.removed:
            cameras.pop(name, None)
        for name, change in self._changes.cameras.items():
            values = {key: value for key, value in msgspec.to_builtins(change).items() if value is not None}
            if name in cameras or change.source:
                cameras[name] = {**cameras.get(name, {}), **values}
        try:
            return from_tree(tree, origin=str(self.path))
        except ConfigError as error:
            raise ConfigError(f"{error}; mend or delete that file") from None

    def added(self, camera: str) -> bool:
        """Whether the camera came by the API."""
        change = self._changes.cameras.get(camera)
        return change is not None and change.source is not None

    # ------------------------------------------------------------------------------------------------------- changing

    @contextlib.contextmanager
    def unless_it_fails(self) -> Iterator[None]:
        """What is changed inside is taken back if what else is done inside raises."""
        before = self._changes
        try:
            yield
        except BaseException:
            with self._lock:
                if self._changes is not before:
                    self._changes = before
                    with contextlib.suppress(OutputError):  # it could be written a moment ago
                        self._write(before)
            raise

    def add_camera(self, name: str, camera: CameraConfig) -> None:
        with self._changing() as changes:
            changes.cameras[name] = _Camera(
                source=camera.source, username=camera.username, password=camera.password, fps=camera.fps
            )
            changes.removed = [known for known in changes.removed if known != name]

    def remove_camera(self, name: str) -> None:
        with self._changing() as changes:
            change = changes.cameras.pop(name, None)
            if (change is None or change.source is None) and name not in changes.removed:
                changes.removed.append(name)

    def set_enabled(self, name: str, enabled: bool) -> None:
        with self._changing() as changes:
            changes.cameras.setdefault(name, _Camera()).enabled = enabled

    def set_rules(self, name: str, zones: Sequence[Zone], lines: Sequence[Line]) -> None:
        with self._changing() as changes:
            change = changes.cameras.setdefault(name, _Camera())
            change.zones, change.lines = list(zones), list(lines)

    # ----------------------------------------------------------------------------------------------------------- file

    def _read(self) -> _Changes:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Changes)
        except FileNotFoundError:
            return _Changes()
        except OSError as error:
            raise ConfigError(f"cannot read {self.path}: {error.strerror}; mend or delete that file") from None
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self.path}: {error}; mend or delete that file") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Changes]:
        with self._lock:
            changes = copy.deepcopy(self._changes)
            yield changes
            self._write(changes)

    def _write(self, changes: _Changes) -> None:
        data = msgspec.json.format(msgspec.json.encode(changes), indent=2)
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data + b"\n")
                file.flush()
                os.fsync(fd)
            os.replace(beside, self.path)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}; set serve.overlay to a place that can be written"
            ) from None
        self._changes = changes
