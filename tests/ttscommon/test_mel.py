"""The mel is the public vocoder's mel."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchaudio
from vocos.feature_extractors import MelSpectrogramFeatures

from ttscommon.mel import MelRecipe, log_mel

RECIPE = MelRecipe()


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_mel_equals_torchaudio_with_the_published_settings():
    audio = noise(2, 24_000)
    extract = torchaudio.transforms.MelSpectrogram(
        sample_rate=24_000, n_fft=1024, hop_length=256, n_mels=100, center=True, power=1
    )
    expected = extract(audio).clamp(min=1e-7).log()
    torch.testing.assert_close(log_mel(audio, RECIPE), expected, atol=1e-5, rtol=0)


def test_mel_equals_the_features_vocos_was_trained_on():
    audio = noise(2, 30_001)
    audio[:, 10_000:20_000] = 0  # the floor counts too
    torch.testing.assert_close(
        log_mel(audio, RECIPE), MelSpectrogramFeatures()(audio), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("n_samples", [513, 1024, 24_000, 24_255, 24_256])
def test_the_number_of_frames_follows_from_the_samples(n_samples):
    assert log_mel(noise(n_samples), RECIPE).shape == (100, 1 + n_samples // 256)


def test_one_clip_and_a_batch_of_it_are_the_same():
    audio = noise(3, 4_000)
    torch.testing.assert_close(log_mel(audio, RECIPE)[1], log_mel(audio[1], RECIPE))


def test_audio_shorter_than_the_padding_is_refused():
    with pytest.raises(ValueError, match="too few"):
        log_mel(noise(512), RECIPE)


@pytest.mark.parametrize(
    "change", [{"f_max": 8000.0}, {"n_mels": 80}, {"hop_length": 300}, {"floor": 1e-5}]
)
def test_any_other_recipe_has_another_hash(change):
    other = dataclasses.replace(RECIPE, **change)
    assert other.hash != RECIPE.hash
    assert MelRecipe(**other.to_dict()) == other


def test_the_hash_of_the_default_recipe_never_changes():
    assert RECIPE.hash == "b4413931775f"  # it is in every checkpoint
