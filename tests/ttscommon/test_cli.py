from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from safetensors import SafetensorError

from ttscommon.cli import SPINS, Parser, add_config_flags, given, run
from ttscommon.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

DOC = """Do one thing.

Example: python tools/thing.py --speaker ozzy
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    batch_size: int = field(default=16, metadata={"help": "clips per step"})
    learning_rate: float = field(default=2e-3, metadata={"help": "peak"})
    head: Literal["mse", "flow"] = field(default="mse", metadata={"help": "what to predict"})
    epochs: int | None = field(default=None, metadata={"help": "passes"})
    joint: bool = field(default=False, metadata={"help": "single graph"})


def parser_of(*names: str) -> Parser:
    parser = Parser(DOC)
    parser.add_argument("--speaker", default="ozzy", help="folder name")
    add_config_flags(parser, Config, names or tuple(Config.__dataclass_fields__))
    return parser


def leaves_with(capsys, main) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as left:
        run(main)
    return left.value.code, capsys.readouterr().err


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


def test_only_settings_that_were_given_override_a_file():
    args = parser_of().parse(["--batch-size", "4", "--joint"])
    assert given(args, Config) == {"batch_size": 4, "joint": True}


@pytest.mark.parametrize(
    "words", [["--batch_size", "4"], ["--batch_size=4"], ["--batch-size=4"], ["--batch-size", "4"]]
)
def test_a_flag_may_be_written_with_underscores_as_the_guides_do(words):
    assert parser_of().parse(words).batch_size == 4


def test_values_keep_their_underscores():
    assert parser_of().parse(["--speaker", "my_voice"]).speaker == "my_voice"
    assert parser_of().parse(["--speaker=my_voice"]).speaker == "my_voice"


def test_lr_is_short_for_learning_rate():
    assert parser_of().parse(["--lr", "0.1"]).learning_rate == 0.1


def test_an_optional_number_is_read_as_a_number():
    assert parser_of().parse(["--epochs", "3"]).epochs == 3


@pytest.mark.parametrize(
    "words", [["--head", "gauss"], ["--batch-size", "four"], ["--batch", "4"], ["--unknown"]]
)
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as left:
        parser_of().parse(words)
    assert left.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_help_shows_the_purpose_each_default_and_the_example():
    text = " ".join(parser_of().format_help().split())
    assert "Do one thing." in text
    assert "clips per step (default: 16)" in text
    assert "folder name (default: ozzy)" in text
    assert "Example: python tools/thing.py --speaker ozzy" in text


def test_a_user_error_is_one_line_without_traceback_and_exit_1(capsys):
    error = UserError("no recordings", where="training/x", fix="add some")
    code, said = leaves_with(capsys, raising(error))
    assert (code, said) == (1, "error: no recordings [training/x]. Fix: add some\n")


def test_ctrl_c_exits_with_130_and_says_what_the_trainer_said(capsys):
    code, said = leaves_with(capsys, raising(KeyboardInterrupt("saved at step 5")))
    assert (code, said) == (130, "saved at step 5\n")


def test_a_missing_file_is_one_line_that_names_it(capsys):
    code, said = leaves_with(capsys, raising(FileNotFoundError(2, "No such file", "a/b.wav")))
    assert (code, said) == (1, "error: No such file [a/b.wav]\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "a/b.wav"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "a/b.wav"),
        # As safetensors 0.6 and torch 2.11 said it on a full file system.
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_a_full_disk_is_told_whichever_library_meets_it(capsys, error):
    code, said = leaves_with(capsys, raising(error))
    assert code == 1
    assert said == "error: the disk is full; free some space and run the same command again\n"


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_a_tool_that_is_done_does_not_exit_by_force():
    assert run(lambda: None) is None


def test_threads_sleep_early_unless_the_user_says_how_they_wait(monkeypatch):
    seen = []
    note = lambda: seen.append(os.environ.get("GOMP_SPINCOUNT"))  # noqa: E731
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    run(note)
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    run(note)
    monkeypatch.delenv("OMP_WAIT_POLICY")
    run(note)
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert seen == ["7", None, SPINS]


def test_a_tool_loads_torch_only_once_its_threads_know_how_to_wait():
    code = (
        "import sys, runpy; sys.argv = ['lewm_infer.py', '--help']\n"
        "import ttscommon.cli as cli\n"
        "cli.run = lambda main: sys.exit(3 if 'torch' in sys.modules else 4)\n"
        "runpy.run_path('tools/lewm_infer.py', run_name='__main__')"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 4


def test_sigterm_ends_a_tool_as_ctrl_c_does_with_time_to_clean_up():
    """A tool that dies on the spot leaves its workers running for minutes."""
    script = (
        "import atexit, signal\n"
        "from ttscommon.cli import run\n"
        "atexit.register(print, 'cleaned up')\n"
        "run(lambda: signal.raise_signal(signal.SIGTERM))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stdout == "cleaned up\n"
    assert done.stderr == "stopped; nothing half-written was left\n"
