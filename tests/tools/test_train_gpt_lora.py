"""The trainer of adapters from the command line: stopped by Ctrl-C, gone on with as it says."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.indextts.gpt_training import prepared, started
from tools import train_gpt_lora
from ttscommon import training
from ttscommon.cli import run
from ttscommon.errors import UserError

LITTLE = ["--max-steps", "4", "--batch-size", "2", "--grad-accumulation", "2", "--lora-rank", "2"]
LITTLE += ["--device", "cpu", "--lora-dropout", "0.2", "--num-workers", "0"]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """Clips of a miniature, as flags."""
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("command")
    write_miniature(folder / "miniature")
    job = prepared(folder, folder / "miniature")
    data = ["--train-manifest", str(job.train[0]), "--val-manifest", str(job.validation[0])]
    return [*data, "--model-dir", str(folder / "miniature"), *LITTLE]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final_checkpoint" / "adapter_model.safetensors")


def interrupted(words: list[str], at_batch: int, said: Path) -> None:
    """In a process of its own, as the shell runs it; Ctrl-C comes with a batch's gradients."""
    torch.set_num_threads(1)
    sys.argv = ["tools/train_gpt_lora.py", *words]
    count, backward = [0], training.Accelerator.backward

    def stopping(accelerator, loss, **options):
        backward(accelerator, loss, **options)
        count[0] += 1
        if count[0] == at_batch:
            os.kill(os.getpid(), signal.SIGINT)

    training.Accelerator.backward = stopping  # type: ignore[reportAttributeAccessIssue]
    with said.open("w", encoding="utf-8") as sys.stderr:
        run(train_gpt_lora.main)


def test_ctrl_c_saves_and_the_command_it_prints_ends_in_the_same_bits(words, tmp_path, capsys):
    torch.set_num_threads(1)
    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    child = started(interrupted, [*words, "--output-dir", str(stopped)], 3, tmp_path / "said")
    child.join()
    assert child.exitcode == 130
    last = (tmp_path / "said").read_text(encoding="utf-8").splitlines()[-1]
    told, _, command = last.partition(" Go on: ")
    assert told == "stopped and saved at step 2."
    python, tool, *given = shlex.split(command)
    assert (python, tool) == ("python", "tools/train_gpt_lora.py")
    train_gpt_lora.main(given)
    assert f"Best voice: {stopped / 'best_checkpoint'}" in capsys.readouterr().out
    train_gpt_lora.main([*words, "--output-dir", str(straight)])
    expected, found = adapter(straight), adapter(stopped)
    assert expected.keys() == found.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_nothing_to_train_on_is_told_with_what_makes_it(tmp_path):
    with pytest.raises(UserError, match="nothing to train on"):
        train_gpt_lora.main(["--output-dir", str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"prepare_lora_dataset\.py --speaker ozzy"):
        train_gpt_lora.main(["--speaker", "ozzy", "--training-root", str(tmp_path)])
