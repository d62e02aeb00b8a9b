"""From the network's class ids to the user's: renaming and merging, filter, thresholds; worked out once, then two tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdet.config import ModelConfig
from streamdet.errors import ConfigError

__all__ = ["ClassMap", "map_classes"]


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """``labels``: the user's names, indexed by the user's ids. ``ids`` (C,) i32: network id -> user's id, -1 not wanted.
    ``threshold`` (C,) f32 by network id. ``floor``: the lowest threshold of a wanted class."""

    labels: tuple[str, ...]
    ids: NDArray[np.int32]
    threshold: NDArray[np.float32]
    floor: float

    @property
    def by_label(self) -> NDArray[np.float32]:
        """(L,) threshold by the user's id: the lowest of the classes renamed to it, 1 where none is wanted."""
        lowest = np.ones(len(self.labels), np.float32)
        wanted = self.ids >= 0
        np.minimum.at(lowest, self.ids[wanted], self.threshold[wanted])
        return lowest


def map_classes(
    names: tuple[str, ...], config: ModelConfig, card: float | Mapping[str, float], *, usual: float
) -> ClassMap:
    """`names` of the network ("" where an id is unused); `card`: threshold of the model card; `usual`: of its family.

    A threshold and a filter may use names from before or after renaming; a filter also takes the network's ids.
    Raises ConfigError for a name nobody knows.
    """
    for old in config.rename:
        _known(old, names, "model.rename")
    renamed = tuple(config.rename.get(name, name) for name in names)
    labels = tuple(dict.fromkeys(name for name in renamed if name))
    position = {name: row for row, name in enumerate(labels)}
    ids = np.array([position.get(name, -1) for name in renamed], np.int32)
    if config.classes:
        wanted = _wanted(config.classes, names, renamed)
        ids[~wanted] = -1
    threshold = _thresholds(names, renamed, config.conf, card, usual)
    used = threshold[ids >= 0]
    return ClassMap(labels, ids, threshold, float(used.min()) if len(used) else 1.0)


def _wanted(classes: Iterable[str], names: tuple[str, ...], renamed: tuple[str, ...]) -> NDArray[np.bool_]:
    wanted = np.zeros(len(names), bool)
    for text in classes:
        if text.isdecimal() and text not in names:
            if int(text) >= len(names):
                raise ConfigError(f"model.classes: there is no class {text}; the model has ids 0..{len(names) - 1}")
            wanted[int(text)] = True
            continue
        _known(text, (*names, *renamed), "model.classes")
        wanted |= np.array([text in pair for pair in zip(names, renamed)], bool)
    return wanted


def _thresholds(
    names: tuple[str, ...],
    renamed: tuple[str, ...],
    conf: float | dict[str, float] | None,
    card: float | Mapping[str, float],
    usual: float,
) -> NDArray[np.float32]:
    if isinstance(conf, float | int):
        return np.full(len(names), conf, np.float32)
    base = card if isinstance(card, Mapping) else {}
    default = usual if isinstance(card, Mapping) else card
    threshold = np.array([base.get(name, default) for name in names], np.float32)
    for name, value in (conf or {}).items():
        _known(name, (*names, *renamed), "model.conf")
        threshold[[name in pair for pair in zip(names, renamed)]] = value
    return threshold


def _known(name: str, names: Iterable[str], where: str) -> None:
    known = [known for known in dict.fromkeys(names) if known]
    if name in known:
        return
    close = difflib.get_close_matches(name, known, 1)
    hint = (
        f"did you mean '{close[0]}'?"
        if close
        else f"it has {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
    )
    raise ConfigError(f"{where}: the model has no class '{name}'; {hint}")
