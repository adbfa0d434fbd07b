"""The training benchmark takes real steps of the real model, and its estimate is the trainer's."""

import pytest
import torch

from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.train_config import LoraTrainConfig
from indextts.training_benchmark import TrainingCase, made_up_batch, measured, trained
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.memory import resident

TINY = TrainingCase(preset="tiny", seconds=1.0, threads=1, warmups=0)


def test_steps_are_timed_and_what_trains_is_what_the_trainer_trains():
    found = trained(TINY)
    assert found.seconds > 0
    assert found.clips_per_second == pytest.approx(1 / found.seconds)
    gpt = UnifiedVoice(GptConfig.tiny())
    targets = lora.find_targets(gpt, LoraTrainConfig().targets)
    lora.inject(gpt, targets, rank=16, alpha=32)
    counts = {n: c for n, c in lora.trainable_counts(gpt).items() if "gpt.h" in n}
    assert 0 < sum(counts.values()) < found.n_trained
    assert found.to_dict()["case"]["batch_size"] == 1


def test_the_batch_has_the_columns_that_such_clips_take():
    sizes = GptConfig.tiny()
    case = TrainingCase(preset="tiny", seconds=2.0, batch_size=3)
    batch = made_up_batch(case, sizes, torch.device("cpu"))
    assert batch.codes.shape == (3, 100)
    assert batch.text.shape == (3, 10)
    assert batch.n_targets == 303
    assert batch.codes.max() < sizes.start_mel_token


@pytest.mark.slow  # a process for each, which imports everything
@pytest.mark.skipif(resident() is None, reason="the system doesn't tell")
def test_the_estimate_is_within_a_fifth_of_the_peak():
    found = {
        on: measured(TrainingCase(preset="tiny", batch_size=48, checkpointing=on, threads=1))
        for on in (True, False)
    }
    shares = [one.estimate_share for one in found.values()]
    assert all(share is not None and 0.8 < share < 1.2 for share in shares), shares
    assert found[True].estimate < found[False].estimate


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"repeats": 0}, {"seconds": 0.0}])
def test_a_case_without_work_is_refused(wrong):
    with pytest.raises(UserError, match="more"):
        TrainingCase(**wrong)
