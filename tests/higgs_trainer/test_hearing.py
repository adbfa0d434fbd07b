"""Samples on the way are spoken, recorded and judged."""

from __future__ import annotations

import json
import logging

import pytest

from higgs_trainer import hearing
from higgs_trainer.config import HiggsTrainConfig
from tests.higgs_trainer.higgs_training import elsewhere, job_of, trained
from ttscommon.errors import UserError


def test_samples_are_recorded_and_warned_of_and_change_no_weight(
    tmp_path, miniature, caplog, monkeypatch
):
    monkeypatch.setattr(hearing, "MOST_STEPS", 12)
    quiet = job_of(tmp_path, miniature[0])
    loud = elsewhere(quiet, "loud")
    same = {"max_steps": 3, "val_interval": 1, "lora_dropout": 0.1}
    trained(quiet, **same)
    with caplog.at_level(logging.WARNING):
        told = trained(
            type(loud)(**{**vars(loud), "codec": miniature[1]}),
            **same,
            sample_interval=2,
            n_samples=1,
        )
    found = [r.getMessage() for r in caplog.records if r.name == "higgs_trainer.hearing"]
    assert [line.partition(":")[0] for line in found] == ["sample of clip3 at step 2"]
    lines = (loud.output.logs / "progress.jsonl").read_text().splitlines()
    assert {"valid", "stopped", "seconds"} <= {key for line in lines for key in json.loads(line)}
    ours, theirs = (
        (job.output.final_checkpoint / "adapter_model.safetensors").read_bytes()
        for job in (loud, quiet)
    )
    assert ours == theirs
    assert told.best.is_dir()


def test_samples_are_due_when_an_interval_has_passed():
    due = [step for step in range(2, 22, 2) if hearing.is_due(step, interval=5, every=2)]
    assert due == [6, 10, 16, 20]


def test_numbers_of_samples_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="sample_interval"):
        HiggsTrainConfig(sample_interval=-1)
