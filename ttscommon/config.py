"""Strict configuration: a frozen dataclass is the truth, files and flags fill it.

Order of precedence: default < file < flag. An unknown key, a wrong type or a wrong value is a
`UserError` that names the key and, where one is near, the key that was probably meant.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from ttscommon.errors import UserError

C = TypeVar("C")


def from_dict(cls: type[C], data: Mapping[str, Any], *, where: Path | str | None = None) -> C:
    """Build `cls` from plain data, refusing unknown keys and wrong types.

    Raises:
        UserError: for an unknown key (with the nearest known one), a wrong type or a wrong value
    """
    _refuse_unknown_keys(cls, data, where)
    settings = dacite.Config(strict=True, cast=[tuple], type_hooks={float: _number})
    try:
        return dacite.from_dict(cls, data, settings)
    except dacite.DaciteError as error:
        raise UserError(f"bad setting: {error}", where=where) from error


def load(cls: type[C], path: Path | None, overrides: Mapping[str, Any] | None = None) -> C:
    """Read `cls` from a YAML or JSON file (or nothing) and lay `overrides` over it."""
    data = read_mapping(path) if path is not None else {}
    return from_dict(cls, {**data, **(overrides or {})}, where=path)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping at the top of a YAML or JSON file.

    Raises:
        UserError: if the file is missing, isn't UTF-8, doesn't parse or isn't a mapping
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError as error:
        raise UserError("no such configuration file", where=path) from error
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration: {error}", where=path) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"expected `key: value` lines, found a {type(data).__name__}", where=path)
    return data


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that `from_dict` turns back into an equal config."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for each setting that differs, as `key: old -> new`."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} -> {after}")
    return lines


def nearest(word: str, known: typing.Iterable[str]) -> str | None:
    """The known word that a misspelt one was probably meant to be."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def _refuse_unknown_keys(cls: type, data: Mapping[str, Any], where: Path | str | None) -> None:
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    for key, value in data.items():
        if key not in known:
            guess = nearest(str(key), known)
            fix = f"did you mean '{guess}'?" if guess else f"known: {', '.join(known)}"
            raise UserError(f"unknown setting '{key}'", where=where, fix=fix)
        inner = _dataclass_in(hints[key])
        if inner is not None and isinstance(value, Mapping):
            _refuse_unknown_keys(inner, value, where)


def _dataclass_in(hint: Any) -> type | None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((o for o in options if dataclasses.is_dataclass(o)), None)  # type: ignore[return-value]


def _number(value: Any) -> Any:
    """JSON and YAML write 1 for 1.0, and YAML 1.1 reads 1e-3 as a string."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
