"""The whole configuration as one typed tree. Unknown key, wrong type or bad value = ConfigError with the path of the value.

A YAML file holds the same tree (``streamdet run --print-config``
prints it, ``streamdet config-schema`` its JSON Schema for editors);
the command line and :func:`streamdet.run` are thin layers that set its leaves. The nodes are in :mod:`streamdet.config.tree`
and the files beside it, the whole in :mod:`streamdet.config.whole`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from streamdet.config.cameras import CameraConfig, CameraName, LiveConfig
from streamdet.config.delivery import (
    EventLogConfig,
    KafkaConfig,
    MqttConfig,
    OnlyConfig,
    PostgresConfig,
    StoreConfig,
    WebhookConfig,
    secret_of,
)
from streamdet.config.event_address import move_addresses
from streamdet.config.gpu import GpuConfig, Precision
from streamdet.config.hidden import Hidden, HiddenAddress, read, shown, written
from streamdet.config.known import did_you_mean, with_known
from streamdet.config.pictures import PicturesConfig
from streamdet.config.record import BroadcastConfig, KeepConfig, RecordConfig
from streamdet.config.secrets import reveal
from streamdet.config.serve import ServeConfig
from streamdet.config.tree import (
    Anchor,
    DrawConfig,
    Line,
    MergeConfig,
    ModelConfig,
    MotionConfig,
    OutputConfig,
    Point,
    RulesConfig,
    SourceConfig,
    TilesConfig,
    TrackerConfig,
    Zone,
)
from streamdet.config.whole import Config
from streamdet.errors import ConfigError, redact

__all__ = [
    "Anchor",
    "BroadcastConfig",
    "CameraConfig",
    "Config",
    "DrawConfig",
    "EventLogConfig",
    "GpuConfig",
    "Hidden",
    "HiddenAddress",
    "KafkaConfig",
    "KeepConfig",
    "Line",
    "LiveConfig",
    "MergeConfig",
    "ModelConfig",
    "MotionConfig",
    "MqttConfig",
    "OnlyConfig",
    "OutputConfig",
    "PicturesConfig",
    "Point",
    "PostgresConfig",
    "Precision",
    "RecordConfig",
    "RulesConfig",
    "ServeConfig",
    "SourceConfig",
    "StoreConfig",
    "TilesConfig",
    "TrackerConfig",
    "WebhookConfig",
    "Zone",
    "from_text",
    "from_tree",
    "json_schema",
    "load",
    "reveal",
    "secret_of",
    "to_shown_tree",
    "to_tree",
    "to_yaml",
    "with_values",
]


def load(path: str | os.PathLike[str]) -> Config:
    """Read a YAML file; ``${NAME}`` in it is replaced by the environment variable. Raises ConfigError."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read configuration {file}: {getattr(error, 'strerror', None) or error}") from None
    return from_tree(_expand(_tree_of(text, str(file)), str(file)), origin=str(file))


_MOST_ALIASES, _DEEPEST = 20, 40
_MOST_VALUES = 1_000_000  # of a file


def from_text(text: str, *, origin: str = "configuration") -> Config:
    """The configuration a file of that text would give, with every ``${NAME}`` left as it is. Raises ConfigError.

    For texts of strangers: few aliases are taken, since each may stand for all that the one before it does, and little depth.
    """
    import yaml

    aliases = depth = 0
    with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):  # told below
        for event in yaml.parse(text):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if aliases > _MOST_ALIASES or depth > _DEEPEST:
                what = f"nested more than {_DEEPEST} deep" if depth > _DEEPEST else f"more than {_MOST_ALIASES} aliases"
                raise ConfigError(f"{origin}: {what}; no configuration needs that, write it out plainly")
    return from_tree(_tree_of(text, origin), origin=origin)


def _tree_of(text: str, origin: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Of two cameras of one name YAML would silently forget the first."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"'{key.value}' is there twice; leave one away", key.start_mark
                    )
                seen.add(str(key.value))
            return node

    try:
        tree = yaml.load(text, Loader) or {}
        if _written_out(tree, {}) > _MOST_VALUES:
            raise ConfigError(
                f"{origin}: its aliases stand for more than {_MOST_VALUES:,} values; write it out plainly"
            )
        return _keys_as_words(tree)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-13-01
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        deep = isinstance(error, RecursionError) and "it contains itself, or is nested too deeply"
        raise ConfigError(
            f"{origin}{where}: not valid YAML ({deep or getattr(error, 'problem', None) or error})"
        ) from None


def _written_out(tree: Any, known: dict[int, int]) -> int:
    """How many values it holds if an alias counts for all that it stands for."""
    if id(tree) not in known:
        inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
        known[id(tree)] = 1 + sum(_written_out(value, known) for value in inside)
    return known[id(tree)]


def _keys_as_words(tree: Any) -> Any:
    """YAML 1.1 reads the key in ``on: [new]`` as True, a camera called 1 as a number; no key of ours is anything but a word."""
    if isinstance(tree, dict):

        def word(key: Any) -> Any:
            return ("off", "on")[key] if isinstance(key, bool) else str(key) if isinstance(key, int) else key

        return {word(key): _keys_as_words(value) for key, value in tree.items()}
    return [_keys_as_words(value) for value in tree] if isinstance(tree, list) else tree


def from_tree(tree: Any, *, origin: str = "configuration") -> Config:
    """Validate a plain tree of dicts and lists. Raises ConfigError naming `origin` and the path of the bad value."""
    _refuse_nan(tree, origin, "")
    try:
        return msgspec.convert(move_addresses(_with_words(tree)), Config, dec_hook=read)
    except msgspec.ValidationError as error:
        said = _with_camera(_readable(str(error)), tree)
        raise ConfigError(f"{origin}: {with_known(said, json_schema())}") from None


def _with_camera(said: str, tree: Any) -> str:
    """msgspec says ``cameras[...]`` whichever camera it is: name it."""
    if not said.startswith(("cameras[...]", "cameras: ")) and "in `$.cameras`" not in said:
        return said
    for name, camera in tree["cameras"].items() if isinstance(tree.get("cameras"), dict) else ():
        try:
            msgspec.convert(str(name), CameraName)
        except msgspec.ValidationError:
            return f"cameras: '{name}' cannot be a camera's name; use up to 64 letters (a-z), digits, - and _"
        try:
            msgspec.convert(camera, CameraConfig, dec_hook=read)
        except msgspec.ValidationError as error:
            path, _, text = _readable(str(error)).rpartition(": ")
            return f"cameras.{name}{'.' + path if path else ''}: {text}"
    return said


_SAY_OFF = (("source", "hwaccel"), ("motion", "compensate"), ("tiles", "collage"))  # settings of which "off" is a value


def _with_words(tree: Any) -> Any:
    """YAML 1.1 reads a bare ``off`` as False: give those settings their word back."""
    for branch, leaf in _SAY_OFF:
        node = tree.get(branch) if isinstance(tree, dict) else None
        if isinstance(node, dict) and isinstance(node.get(leaf), bool):
            tree = {**tree, branch: {**node, leaf: "on" if node[leaf] else "off"}}
    return tree


def _refuse_nan(tree: Any, origin: str, path: str) -> None:
    if isinstance(tree, float) and not math.isfinite(tree):
        raise ConfigError(f"{origin}: {path}: {tree} is not a number that can be used")
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in items:
        _refuse_nan(value, origin, f"{path}.{key}" if path else str(key))


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with dotted leaves set: ``{"tiles.look": "all"}``. Raises ConfigError for an unknown path or a bad value."""
    tree = to_tree(config)
    for dotted, value in values.items():
        node, parts = tree, dotted.split(".")
        for depth, part in enumerate(parts):
            known = isinstance(node, dict) and (part in node or _is_free_form(parts[:depth]))
            if not known and not (isinstance(node, dict) and parts[0] == "cameras"):  # a camera is checked as a whole
                close = did_you_mean(part, node if isinstance(node, dict) else ())
                raise ConfigError(f"no setting called '{dotted}'{close}; `--print-config` lists them all")
            if depth == len(parts) - 1:
                node[part] = value
            else:
                node = node.setdefault(part, {})
    return from_tree(tree, origin="settings")


def to_tree(config: Config) -> dict[str, Any]:
    """A plain tree that ``from_tree`` reads again: secrets as they are, so not to be shown."""
    tree: dict[str, Any] = msgspec.to_builtins(config, enc_hook=written)
    return tree


def to_shown_tree(config: Config) -> dict[str, Any]:
    """A plain tree to be shown: secrets and the credentials in addresses are ``***``."""
    tree: dict[str, Any] = shown(msgspec.to_builtins(config, enc_hook=str), redact)
    return tree


def to_yaml(config: Config) -> str:
    """The configuration as a file, to be printed: secrets and the credentials in addresses are ``***``."""
    import yaml

    text: str = yaml.safe_dump(to_shown_tree(config), sort_keys=False, default_flow_style=None, width=110)
    return text


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file, for editors."""
    schema = msgspec.json.schema(Config, schema_hook=lambda kind: {"type": "string", "writeOnly": True})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "streamdet configuration", **schema}


def _is_free_form(path: list[str]) -> bool:
    return path in (["model", "rename"], ["cameras"])


def _readable(message: str) -> str:
    """msgspec says "Object contains unknown field `x` - at `$.tiles`": turn it into the user's words."""
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    text = text.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "missing key"
    )
    return f"{path}: {text}" if path else text


def _expand(tree: Any, origin: str, path: tuple[str, ...] = ()) -> Any:
    """References to secrets are replaced, but in how a camera is reached: there they are replaced when it is opened."""
    if isinstance(tree, dict):
        return {key: _expand(value, origin, (*path, str(key))) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_expand(value, origin, path) for value in tree]
    if not isinstance(tree, str):
        return tree
    revealed = reveal(tree, f"{origin}: {'.'.join(path)}" if path else origin)
    return tree if path[:1] == ("cameras",) and path[2:] in _HOW_TO_REACH else revealed


_HOW_TO_REACH = (("source",), ("username",), ("password",))
