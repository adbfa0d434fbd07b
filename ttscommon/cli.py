"""What every tool shares: flags that read alike, one-line errors, exit codes, logging."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import logging
import os
import runpy
import signal
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ttscommon.errors import UserError
from ttscommon.workspace import TRAINING_ROOT

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
# How often OpenMP's threads look for each other before they sleep. Left alone they look for
# milliseconds; on a busy machine they keep the cores from the very thread that they wait for.
# Beside one busy process on two cores Griffin-Lim took 17 times as long as with this, and on an
# idle machine training is as fast (docs/lewm.md).
SPINS = "10000"
DISK_FULL = "the disk is full; free some space and run the same command again"
# safetensors gives the system's words but no number; torch's archive writer gives neither.
FULL_WORDS = ("No space left on device", "Disk quota exceeded", "inline_container.cc")
ALIASES = {
    "--learning-rate": ["--lr"],
    "--lora-rank": ["--lora-r"],
}


class Parser(argparse.ArgumentParser):
    """ArgumentParser in the house style.

    Flags are kebab-case and `--a_b` is accepted for `--a-b`; the docstring's first line is the
    description and the rest the epilog; every flag shows its default. Sub-commands are made by
    `add_subparsers().add_parser(name, doc=...)` and read alike.
    """

    def __init__(self, doc: str | None, *, prog: str | None = None):
        first, _, rest = (doc or "").strip().partition("\n")
        super().__init__(
            prog=prog,
            description=first,
            epilog=rest.strip(),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse `argv`, with underscores in flag names read as hyphens."""
        words = list(sys.argv[1:] if argv is None else argv)
        return self.parse_args([_kebab(word) for word in words])


def add_config_flags(group: Any, cls: type, names: Sequence[str]) -> None:
    """One flag per named field of a config dataclass, with the field's help and default.

    A flag that isn't given is absent from the namespace, so that a file's value can stand;
    `given` collects those that are.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for name in names:
        field = fields[name]
        flag = "--" + name.replace("_", "-")
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        help_text = str(field.metadata.get("help", ""))
        options["help"] = f"{help_text} (default: {_shown(field)})"
        kind = hints[name]
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        if typing.get_origin(kind) is typing.Literal:
            options["choices"] = typing.get_args(kind)
            options["type"] = type(options["choices"][0])
        elif kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = kind
        group.add_argument(flag, *ALIASES.get(flag, []), **options)


def add_training_root(group: Any) -> None:
    """--training-root, beside --speaker."""
    group.add_argument(
        "--training-root", type=Path, default=TRAINING_ROOT, help="where the speakers' folders are"
    )


def add_overwrite(group: Any) -> None:
    """--overwrite, for a tool that else refuses to touch what exists."""
    group.add_argument("--overwrite", action="store_true", help="replace what exists")


def add_json(group: Any, what: str) -> None:
    """--json FILE, for everything that was `what`: measured, found, done."""
    group.add_argument("--json", type=Path, help=f"also write what was {what} to this file")


def add_device(group: Any) -> None:
    """--device, where to compute."""
    group.add_argument("--device", default="auto", help="auto, cpu or cuda")


def add_measuring(group: Any, language: str = "spoken in all of them (default: en)") -> None:
    """What speech is measured with, as `ttscommon.evaluation.measuring.load_instruments` takes it.

    Args:
        language: what --language says of itself
    """
    group.add_argument(
        "--whisper-model", "-w", default="base", help="name, .pt or CTranslate2 folder; or none"
    )
    group.add_argument("--language", "-l", help=language)
    group.add_argument(
        "--speaker-encoder", type=Path, help="folder of WavLM with x-vectors, a second opinion"
    )


def named_folders(parser: Parser, words: Sequence[str]) -> dict[str, Path]:
    """NAME=FOLDER for each condition; anything else is a wrong call."""
    folders: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            parser.error(f"'{word}' isn't NAME=FOLDER")
        if name in folders:
            parser.error(f"condition '{name}' is there twice")
        folders[name] = Path(folder)
    return folders


def given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of `cls` that were set by a flag."""
    names = {f.name for f in dataclasses.fields(cls)}
    return {name: value for name, value in vars(args).items() if name in names}


def run(main: Callable[[], int | None]) -> None:
    """Run a tool's `main`: exit 0 when done, 1 with one line for a `UserError`, 130 for Ctrl-C.

    A number that `main` returns is the exit code, for a tool whose answer can be "no". SIGTERM is
    taken as Ctrl-C: killed on the spot, a tool would leave its worker processes to clean up.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded, in `main`
    with contextlib.suppress(ValueError):  # outside the main thread signals aren't ours
        signal.signal(signal.SIGTERM, _stop)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "matplotlib", "datasets", "numba", "speechbrain", "faster_whisper"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        code = main()
    except UserError as error:
        _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt as stop:
        _fail(str(stop) or "stopped; nothing half-written was left", EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except Exception as error:  # whichever library was writing when the disk was full
        if _is_full_disk(error):
            _fail(DISK_FULL, EXIT_FAILED)
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            _fail(f"{error.strerror} [{error.filename}]", EXIT_FAILED)
        raise
    if code:
        sys.exit(code)


def run_tool(name: str) -> None:
    """Run `tools/<name>.py` of this clone, for `python lewm/train.py` as the guides write it."""
    root = Path(__file__).resolve().parents[1]
    sys.path[0] = str(root)
    runpy.run_path(str(root / "tools" / f"{name}.py"), run_name="__main__")


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, RuntimeError | OSError) or type(error).__name__ == "SafetensorError":
        return any(words in str(error) for words in FULL_WORDS)
    return False


def _fail(message: str, code: int) -> typing.NoReturn:
    if not message.startswith("error:") and code == EXIT_FAILED:
        message = f"error: {message}"
    sys.stderr.write(message + "\n")
    sys.exit(code)


def _kebab(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _shown(field: dataclasses.Field) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of every flag that has one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        hidden = (None, False, argparse.SUPPRESS)
        if action.default in hidden or "default" in text or not action.option_strings:
            return text
        return text + " (default: %(default)s)"
