"""Weights shared out among two processes: the same adapters, exact resume, whole files."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from higgs_trainer.dataset import SamplePlan
from higgs_trainer.tasks import HiggsStage
from higgs_trainer.train import Job
from higgs_trainer.weights import load_model
from tests.higgs_trainer.higgs_training import elsewhere, job_of, trained
from tests.two_processes import launch_two
from ttscommon.errors import UserError

SETTINGS = {"batch_size": 1, "max_steps": 2, "lora_dropout": 0.1, "learning_rate": 1e-3}
SETTINGS |= {"lora_heads": True, "val_interval": 100}
IN_TWO, ALONE = {**SETTINGS, "grad_accumulation": 2}, {**SETTINGS, "grad_accumulation": 4}
SPOKEN = {"sample_interval": 1, "n_samples": 1}


def in_shares(job: Job, folder: Path) -> None:
    """As `accelerate launch --config_file configs/accelerate/fsdp.yaml` says it to a process."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    os.environ |= {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    trained(elsewhere(job, "whole"), **IN_TWO, **SPOKEN)
    load, calls = SamplePlan.load, []

    def stopping(plan, key):
        if not calls and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)
        calls.append(key)
        return load(plan, key)

    SamplePlan.load = stopping
    with pytest.raises(KeyboardInterrupt, match="saved at step 1"):
        trained(elsewhere(job, "stopped"), **IN_TWO, **SPOKEN)
    trained(elsewhere(job, "stopped"), **IN_TWO, **SPOKEN)
    HiggsStage.text_weight = lambda *_: 0.0
    with pytest.raises(UserError, match=r"2 trainable tensors got no gradient.*text_lm_head"):
        trained(elsewhere(job, "dead"), **{**IN_TWO, "max_steps": 3})
    (folder / f"done{os.environ['RANK']}").touch()


@pytest.mark.slow  # two processes, each of which imports everything
@pytest.mark.timeout(1800)
def test_shares_train_resume_and_are_saved_as_one_whole(tmp_path, miniature):
    job = dataclasses.replace(job_of(tmp_path, miniature[0]), codec=miniature[1])
    launch_two(functools.partial(in_shares, job), tmp_path / "two")
    assert (tmp_path / "two/done0").exists()
    assert (tmp_path / "two/done1").exists()
    trained(elsewhere(job, "one"), **ALONE)
    names = ("one", "whole", "stopped")
    finals = [elsewhere(job, name).output.final_checkpoint for name in names]
    one, whole, stopped = (load_file(f / "adapter_model.safetensors") for f in finals)
    assert one.keys() == whole.keys() == stopped.keys()
    moved = max(float(tensor.abs().max()) for name, tensor in one.items() if "lora_B" in name)
    for name, tensor in whole.items():
        torch.testing.assert_close(one[name], tensor, rtol=1e-4, atol=1e-2 * moved, msg=name)
        assert torch.equal(stopped[name], tensor)
    base = load_model(job.checkpoint, text_head=True)
    peft.PeftModel.from_pretrained(base, str(finals[1]))
    assert (tmp_path / "whole/logs/progress.jsonl").read_text().count('"group": "samples"') == 1
