"""Reads a run's YAML files strictly, and tells everything that is wrong with them at once."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from kani.config import (
    DatasetConfig,
    Experiments,
    InferenceConfig,
    ModelConfig,
    TrainerArgs,
)
from kani.evaluation_config import EvalConfig, EvalSet
from ttscommon.config import nearest, read_mapping
from ttscommon.errors import UserError

C = TypeVar("C")
CONFIG_DIR = Path("configs/kani")
FILES: dict[str, type] = {
    "dataset_config": DatasetConfig,
    "experiments": Experiments,
    "model_config": ModelConfig,
    "inference_config": InferenceConfig,
    "eval_config": EvalConfig,
    "eval_set": EvalSet,
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or only odd.

    Attributes:
        where: file, and key in it
        is_remark: nothing fails of it
    """

    where: str
    what: str
    fix: str = ""
    is_remark: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"  ({self.fix})" if self.fix else "")


@dataclass(frozen=True)
class Read(Generic[C]):
    """A file's settings; None where something is wrong with them."""

    value: C | None
    findings: tuple[Finding, ...]
    folder: Path = CONFIG_DIR

    def require(self) -> C:
        """The settings.

        Raises:
            UserError: with the first finding, and the number of others
        """
        if self.value is None:
            first, n_more = self.findings[0], len(self.findings) - 1
            command = f"python tools/kani_check_config.py --config-dir {self.folder}"
            more = f", and {n_more} more: {command}" if n_more else ""
            raise UserError(f"{first.what}{more}", where=first.where, fix=first.fix or None)
        return self.value


def read(cls: type[C], path: Path) -> Read[C]:
    """A file as the settings it stands for, or everything that is wrong with it."""
    try:
        data = read_mapping(path)
    except UserError as error:
        return Read(None, (Finding(str(path), error.what, error.fix or ""),), path.parent)
    reading = _Reading(path)
    value = reading.settings(cls, data, "")
    return Read(None if reading.findings else value, tuple(reading.findings), path.parent)


def read_folder(folder: Path) -> dict[str, Read[Any]]:
    """All six files, by their names without suffix."""
    return {name: read(cls, folder / f"{name}.yaml") for name, cls in FILES.items()}


class _BadValueError(Exception):
    """What is wrong with a value, for a finding."""


class _Reading:
    """One file, with what was found on the way."""

    def __init__(self, path: Path):
        self.path = path
        self.findings: list[Finding] = []

    def settings(self, cls: type[C], data: Any, key: str) -> C | None:
        """Every field is looked at, whatever is wrong with the others."""
        if not isinstance(data, Mapping):
            self._tell(key, f"expected `key: value` lines, got {_shown(data)}")
            return None
        before = len(self.findings)
        data = _translated(cls, data)
        hints, fields = typing.get_type_hints(cls), _fields(cls)
        for name in data:
            if name not in fields:
                guess = nearest(str(name), fields)
                fix = f"did you mean '{guess}'?" if guess else f"known: {', '.join(fields)}"
                self._tell(_joined(key, name), f"unknown setting '{name}'", fix)
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in data:
                values[field.name] = self.value(hints[field.name], data[name], _joined(key, name))
            elif _is_required(field):
                self._tell(_joined(key, name), f"'{name}' is missing")
        if len(self.findings) > before:
            return None
        try:
            return cls(**values)
        except UserError as error:
            self._tell(key, _in_the_files_words(cls, error.what), error.fix or "")
            return None

    def value(self, hint: Any, data: Any, key: str) -> Any:
        options = typing.get_args(hint) if _is_union(hint) else (hint,)
        if data is None and types.NoneType in options:
            return None
        options = tuple(option for option in options if option is not types.NoneType) or options
        inner = options[0]
        if dataclasses.is_dataclass(inner):
            return self.settings(typing.cast(type, inner), data, key)
        if typing.get_origin(inner) is tuple:
            return self._items(typing.get_args(inner)[0], data, key)
        if typing.get_origin(inner) is dict:
            return self._mapping(typing.get_args(inner)[1], data, key)
        try:
            return _scalar(options, data)
        except _BadValueError as error:
            self._tell(key, str(error))
            return None

    def _items(self, hint: Any, data: Any, key: str) -> Any:
        if not isinstance(data, list):
            self._tell(key, f"expected a list, got {_shown(data)}")
            return None
        return tuple(self.value(hint, item, f"{key}[{i}]") for i, item in enumerate(data, 1))

    def _mapping(self, hint: Any, data: Any, key: str) -> Any:
        if not isinstance(data, Mapping):
            self._tell(key, f"expected `name: ...`, got {_shown(data)}")
            return None
        return {
            str(name): self.value(hint, item, _joined(key, name)) for name, item in data.items()
        }

    def _tell(self, key: str, what: str, fix: str = "") -> None:
        self.findings.append(Finding(f"{self.path}: {key}" if key else str(self.path), what, fix))


def file_names(cls: type) -> dict[str, str]:
    """{field: key in the files} of a class of settings; what no file says is left out."""
    names: Mapping[str, str] = getattr(cls, "FILE_NAMES", {})
    found = {f.name: names.get(f.name, f.name) for f in dataclasses.fields(cls)}
    return {name: key for name, key in found.items() if key}


def as_written(config: Any) -> dict[str, Any]:
    """Plain data with the keys of the files, which `read` would read again."""
    data: dict[str, Any] = {}
    for name, key in file_names(type(config)).items():
        data[key] = _plain(getattr(config, name))
    return data


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_written(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _fields(cls: type) -> dict[str, dataclasses.Field]:
    """By the key in the files."""
    names = file_names(cls)
    return {names[f.name]: f for f in dataclasses.fields(cls) if f.name in names}


def _translated(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """With transformers' new name of the share of warm-up: `warmup_steps: 0.1`."""
    data = dict(data)
    if cls is TrainerArgs and "warmup_steps" in data and "warmup_ratio" not in data:
        share = _number(data["warmup_steps"])
        if share is not None and 0 <= share < 1:
            data["warmup_ratio"] = data.pop("warmup_steps")
    return data


def _in_the_files_words(cls: type, what: str) -> str:
    for name, key in file_names(cls).items():
        if name != key and what.startswith(f"{name} "):
            return key + what.removeprefix(name)
    return what


def _scalar(options: tuple[Any, ...], data: Any) -> Any:
    """`data` as one of these plain types."""
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            if data in typing.get_args(option):
                return data
        elif option is Any or (type(data) is option and option in (str, int, float, bool)):
            return data
        elif option is float and (number := _number(data)) is not None:
            return number
        elif option is int and isinstance(data, float) and data.is_integer():
            return int(data)
    raise _BadValueError(f"expected {' or '.join(map(_kind, options))}, got {_shown(data)}")


def _number(data: Any) -> float | None:
    """YAML 1.1 reads 5e-5 as a string."""
    if isinstance(data, bool) or not isinstance(data, int | float | str):
        return None
    try:
        return float(data)
    except ValueError:
        return None


def _kind(option: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(map(str, typing.get_args(option)))
    return "null" if option is types.NoneType else words.get(option, str(option))


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _joined(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _shown(data: Any) -> str:
    words = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return words.get(type(data), repr(data))
