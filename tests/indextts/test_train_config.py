"""Which layers and parts a config means, and which settings contradict each other."""

import pytest

from indextts.train_config import HEADS, FullTrainConfig, LoraTrainConfig
from ttscommon.errors import UserError


def test_presets_grow():
    light, standard, heavy = (LoraTrainConfig.named(n) for n in ("light", "standard", "heavy"))
    assert light.lora_rank < standard.lora_rank < heavy.lora_rank
    assert set(light.targets) < set(standard.targets) == set(heavy.targets)


def test_names_replace_the_switches():
    config = LoraTrainConfig(lora_target_modules=("mel_head",), lora_include_embeddings=True)
    assert config.targets == ("mel_head",)
    assert LoraTrainConfig(lora_gpt=False).targets == HEADS


def test_conditions_are_computed_where_something_learns_from_them():
    assert LoraTrainConfig(lora_conditioning=True).computes_conditions
    assert not LoraTrainConfig().computes_conditions
    parts = ("transformer", "speaker")
    assert FullTrainConfig(train_parts=parts).computes_conditions
    assert not FullTrainConfig(train_parts=parts, freeze_conditioning=True).computes_conditions


def test_without_a_text_loss_the_head_of_the_text_is_left_out():
    assert "text_head" in LoraTrainConfig().targets
    assert LoraTrainConfig(text_loss_weight=0.0).targets[-1:] == ("mel_head",)
    assert "text_head" not in LoraTrainConfig(text_loss_weight=0.0).targets
    assert "text_head." in FullTrainConfig().prefixes
    assert "text_head." not in FullTrainConfig(text_loss_weight=0.0).prefixes


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (LoraTrainConfig, {"lora_gpt": False, "lora_heads": False}, "no layer is adapted"),
        (LoraTrainConfig, {"crop_prompts": True}, "can't be cropped"),
        (LoraTrainConfig, {"learning_rate": 0.0}, "above 0"),
        (LoraTrainConfig, {"batch_size": 0}, "1 or more"),
        (LoraTrainConfig, {"warmup_share": 1.0}, "below 1"),
        (LoraTrainConfig, {"mel_loss_weight": 0.0}, "above 0"),
        (FullTrainConfig, {"train_parts": ("transfomer",)}, "did you mean 'transformer'"),
        (FullTrainConfig, {"train_parts": ("speaker",), "freeze_conditioning": True}, "no part"),
    ],
)
def test_what_makes_no_sense_is_refused(make, settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_an_unknown_preset_is_refused_with_a_guess():
    with pytest.raises(UserError, match="--preset light"):
        LoraTrainConfig.named("lite")
