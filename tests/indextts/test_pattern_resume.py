"""A training of a manner of speaking that is killed ends where one that ran through does."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from indextts.pattern_train import PatternJob
from tests.indextts.gpt_training import started
from tests.indextts.pattern_training import elsewhere, prepared, train
from ttscommon import training

# Three batches an epoch and two a step, so steps and epochs share no boundary; ten batches a stage.
STEPS = {"max_steps": 5, "batch_size": 2, "grad_accumulation": 2, "save_interval": 2}
CHANCES = {"gpt_dropout": 0.1, "lora_dropout": 0.3, "off_share": 0.5, "val_interval": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "apart": {**STEPS, **CHANCES},
    "joint": {**STEPS, **CHANCES, "joint": True},
}


def train_and_die(job: PatternJob, settings: dict[str, Any], at_batch: int) -> None:
    """For a process of its own, which is killed once it has the gradients of a batch."""
    count, backward = [0], training.Accelerator.backward

    def dying(accelerator: Any, loss: torch.Tensor, **options: Any) -> None:
        backward(accelerator, loss, **options)
        count[0] += 1
        if count[0] == at_batch:
            os.kill(os.getpid(), signal.SIGKILL)

    training.Accelerator.backward = dying  # type: ignore[reportAttributeAccessIssue]
    train(job, **settings)


def tensors(job: PatternJob) -> dict[str, torch.Tensor]:
    """All that a run leaves: resume points, and best and last of each stage."""
    home, found = job.output.folder, {}
    for path in sorted(home.rglob("*.safetensors")):
        found |= {f"{path.relative_to(home)}:{k}": t for k, t in load_file(path).items()}
    for path in sorted(home.rglob("pattern_embedding.pt")):
        whole = torch.load(path, weights_only=True)["state_dict"]
        found |= {f"{path.relative_to(home)}:{k}": t for k, t in whole.items()}
    return found


@pytest.fixture(scope="module")
def whole(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PatternJob]:
    """Runs that nobody stopped."""
    job = prepared(tmp_path_factory.mktemp("straight"), miniature)
    jobs = {name: elsewhere(job, name) for name in SETTINGS}
    for name, settings in SETTINGS.items():
        train(jobs[name], **settings)
    return jobs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "at_batch"),
    [
        ("apart", 1),  # before there is a resume point
        ("apart", 5),  # in the pattern's third step, right behind its resume point
        ("apart", 11),  # in the adapter's first step
        ("apart", 18),  # in the adapter's fourth, two steps behind its resume point
        ("joint", 7),
    ],
)
def test_a_killed_and_resumed_training_ends_in_the_same_bits(whole, kind, at_batch):
    job = elsewhere(whole[kind], f"killed_{kind}_{at_batch}")
    doomed = started(train_and_die, job, SETTINGS[kind], at_batch)
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    n_points = len(list(job.output.folder.rglob("state.json")))
    assert n_points == (at_batch > 4) + (at_batch > 14)
    train(job, **SETTINGS[kind])
    expected, found = tensors(whole[kind]), tensors(job)
    assert found.keys() == expected.keys()
    assert sum("best_checkpoint" in name for name in found) > 5
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
