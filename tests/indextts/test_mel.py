"""Mels must be the original's, number for number."""

import pytest
import torch

from indextts.frontend.mel import mel_spectrogram
from indextts.s2mel.config import MelConfig
from tests.indextts.acoustic_golden import furthest, golden

CONFIG = MelConfig()


@pytest.mark.parametrize("case", ["", "_batch", "_silence"])
def test_mels_equal_the_originals(case):
    data = golden("mel_spectrogram")
    mel = mel_spectrogram(data[f"in.wav{case}"], CONFIG)
    assert furthest(mel, data[f"out.mel{case}"]) < 1e-5


def test_another_number_of_bands_gets_its_own_filters():
    audio = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    wide = mel_spectrogram(audio, CONFIG)
    narrow = mel_spectrogram(audio, MelConfig(n_mels=12))
    assert wide.shape == (1, 80, 16)
    assert narrow.shape == (1, 12, 16)


def test_too_short_audio_is_refused_and_the_shortest_is_not():
    with pytest.raises(ValueError, match="384 samples are too few"):
        mel_spectrogram(torch.zeros(1, 384), CONFIG)
    assert mel_spectrogram(torch.zeros(1, 385), CONFIG).shape == (1, 80, 1)
