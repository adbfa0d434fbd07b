"""What all fine-tuning shares: settings, what a resume may change, and the loop's settings."""

from dataclasses import dataclass, fields
from typing import ClassVar

import pytest

from ttscommon.config import from_dict, to_dict
from ttscommon.errors import UserError
from ttscommon.train_settings import LoraSettings, TrainSettings, default, setting


@dataclass(frozen=True, kw_only=True)
class Tuning(LoraSettings, TrainSettings):
    FREE: ClassVar[tuple[str, ...]] = (*TrainSettings.FREE, "listeners")

    epochs: int = default("epochs", 7)
    lora_rank: int = default("lora_rank", 2)
    listeners: int = setting(1, "who listens")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_adapters()


def test_another_default_keeps_the_words_of_the_setting():
    words = {f.name: f.metadata["help"] for f in fields(Tuning)}
    assert words["epochs"] == "passes over the clips"
    assert words["lora_rank"] == "size of the adapters"
    assert (Tuning().epochs, Tuning().lora_rank, TrainSettings().epochs) == (7, 2, 3)


def test_settings_come_back_from_plain_data():
    tuning = Tuning(amp="bf16", learning_rate=2e-5)
    assert from_dict(Tuning, to_dict(tuning)) == tuning


def test_what_only_is_told_may_change_on_a_resume():
    assert Tuning(log_interval=3, listeners=4).kept() == Tuning().kept()
    assert Tuning(epochs=8).kept() != Tuning().kept()


def test_steps_follow_from_epochs_processes_and_the_limit():
    tuning = Tuning(epochs=3, grad_accumulation=2, warmup_share=0.1)
    known = {"device": "cpu", "title": "tune", "task_settings": {}}
    alone = tuning.fit_config(20, n_processes=1, **known)
    assert (alone.steps, alone.warmup_steps, alone.evaluate_every) == (30, 3, 10)
    both = tuning.fit_config(20, n_processes=2, **known)
    assert (both.steps, both.evaluate_every) == (15, 5)
    limited = Tuning(max_steps=4, val_interval=3).fit_config(20, n_processes=1, **known)
    assert (limited.steps, limited.evaluate_every) == (4, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"patience": -1}, "patience must be 0 or more"),
        ({"final_share": 1.0}, "final_share must be from 0 to below 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"lora_rank": 0}, "lora_rank must be 1 or more"),
        ({"lora_dropout": 1.0}, "lora_dropout must be from 0 to below 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Tuning(**values)
