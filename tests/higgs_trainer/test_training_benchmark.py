"""The training benchmark takes real steps of the real trainer's stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from higgs_trainer.config import Streams
from higgs_trainer.training_benchmark import HiggsCase, at_full_depth, made_up_batch, trained
from ttscommon.errors import UserError
from ttscommon.step_benchmark import StepSpeed
from ttscommon.step_memory import StepMemory

TINY = HiggsCase(layers=0, seconds=1.0, reference_seconds=1.0, threads=1, warmups=0)


def test_checkpointing_takes_less_memory_for_the_same_step():
    found = [trained(replace(TINY, checkpointing=is_on, batch_size=4)) for is_on in (True, False)]
    assert all(one.seconds > 0 for one in found)
    assert found[0].n_trained == found[1].n_trained > 0
    assert found[0].memory.weights == found[1].memory.weights
    assert found[0].memory.work < found[1].memory.work


def test_the_batch_has_the_frames_that_such_clips_take():
    case = replace(TINY, seconds=3.0, reference_seconds=2.0, batch_size=2)
    batch = made_up_batch(case, Streams(), pad_id=0)
    assert batch.frames.shape == (2, 50 + 9 + 75 + 9, 8)
    assert batch.n_targets == 2 * 8 * 76
    alone = made_up_batch(replace(case, reference_seconds=0.0), Streams(), pad_id=0)
    assert alone.frames.shape == (2, 75 + 9, 8)


def speed(layers: int, seconds: float, work: int) -> StepSpeed:
    memory = StepMemory(weights=0, optimizer=0, average=0, work=work)
    case = HiggsCase(layers=layers, amp="bf16")
    return StepSpeed(case, n_tokens=9, n_trained=1, seconds=seconds, memory=memory, peak=None)


def test_two_depths_tell_what_the_released_model_takes():
    memory, seconds = at_full_depth(speed(1, 3.0, 100), speed(2, 5.0, 110))
    assert seconds == pytest.approx(3 + 27 * 2)
    assert memory.work == 100 + 27 * 10
    n_adapters = 24_313_856
    assert memory.weights == 2 * 5_771_283_456 + 4 * n_adapters
    assert memory.optimizer == 8 * n_adapters
    with pytest.raises(ValueError, match="two depths"):
        at_full_depth(speed(2, 3.0, 100), speed(1, 5.0, 110))


def test_a_case_without_sense_is_refused():
    with pytest.raises(UserError, match="0 or more"):
        HiggsCase(layers=-1)
