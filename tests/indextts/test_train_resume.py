"""A training that is killed, or shared by two processes, ends where one that ran through does."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from indextts.train import Job
from indextts.train_config import FullTrainConfig, LoraTrainConfig
from tests.indextts.gpt_training import (
    moved,
    prepared,
    started,
    train,
    train_and_die,
    train_in_two_processes,
)

# Three batches an epoch and two a step, so steps and epochs share no boundary.
STEPS = {"max_steps": 5, "batch_size": 2, "grad_accumulation": 2, "save_interval": 2}
LORA = LoraTrainConfig.tiny(**STEPS, val_interval=2, lora_dropout=0.3, gpt_dropout=0.1)
FULL = FullTrainConfig.tiny(**STEPS, val_interval=2, gpt_dropout=0.1, ema_decay=0.9)
CONFIGS = {"lora": LORA, "full": FULL}


def tensors(job: Job) -> dict[str, torch.Tensor]:
    """All that a run leaves: resume point, best and last."""
    output = job.output
    state = output.run("gpt") / "state"
    files = {name: state / f"{name}.safetensors" for name in ("model", "optimizer")}
    adapters = {"best": output.best_checkpoint, "final": output.final_checkpoint}
    files |= {n: folder / "adapter_model.safetensors" for n, folder in adapters.items()}
    found = {f"{n}:{k}": t for n, p in files.items() if p.exists() for k, t in load_file(p).items()}
    for path in (output.best_model, output.latest):
        if path.exists():
            whole = torch.load(path, weights_only=True)["model"]
            found |= {f"{path.name}:{k}": t for k, t in whole.items()}
    return found


@pytest.fixture(scope="module")
def jobs(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Runs that nobody stopped."""
    folder = tmp_path_factory.mktemp("straight")
    job = prepared(folder, miniature)
    straight = {name: moved(job, name) for name in CONFIGS}
    for name, config in CONFIGS.items():
        train(straight[name], config)
    return straight


@pytest.mark.parametrize(
    ("kind", "at_batch", "workers"),
    [
        ("lora", 1, 0),  # in the first step's accumulation, before there is a resume point
        ("lora", 5, 2),  # in the third step's accumulation, right behind the resume point
        ("lora", 8, 0),  # at the end of the fourth step's, two steps behind it
        ("lora", 9, 0),  # in the last step's
        ("full", 7, 0),
    ],
)
def test_a_killed_and_resumed_training_ends_in_the_same_bits(jobs, kind, at_batch, workers):
    config = dataclasses.replace(CONFIGS[kind], num_workers=workers)
    job = moved(jobs[kind], f"killed_{at_batch}_{workers}")
    doomed = started(train_and_die, job, config, at_batch)
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    saved = (job.output.run("gpt") / "state" / "state.json").exists()
    assert saved == (at_batch > 4)
    train(job, config)
    expected, found = tensors(jobs[kind]), tensors(job)
    assert found.keys() == expected.keys()
    assert len({name.partition(":")[0] for name in found}) == 4
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_two_processes_equal_one_at_the_same_global_batch(jobs):
    one, two = moved(jobs["lora"], "one"), moved(jobs["lora"], "two")
    config = dataclasses.replace(LORA, lora_dropout=0.0, gpt_dropout=0.0)
    train_in_two_processes(two, dataclasses.replace(config, grad_accumulation=1))
    train(one, config)
    expected, found = tensors(one), tensors(two)
    assert found.keys() == expected.keys()
    differences = {name: float((found[name] - expected[name]).abs().max()) for name in found}
    assert max(differences.values()) < 1e-6
