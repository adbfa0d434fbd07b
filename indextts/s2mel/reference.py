"""From a reference recording to what IndexTTS2 knows of a voice."""

from __future__ import annotations

import torch
from torch import Tensor
from torchaudio.transforms import Resample

from indextts.frontend.fbank import SAMPLE_RATE, centred_fbank
from indextts.frontend.mel import mel_spectrogram
from indextts.s2mel.campplus import Campplus
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures


def to_16k(audio: Tensor, sample_rate: int) -> Tensor:
    """Resample (B, S) by windowed sinc, as the original does for speaker encoder and w2v-bert.

    By torchaudio's transform: its function rounds the kernel elsewhere, 2e-5 apart for loud noise.
    """
    return Resample(sample_rate, SAMPLE_RATE).to(audio.device)(audio)


@torch.no_grad()
def speaker_features(
    audio: Tensor, spk_cond_emb: Tensor, s2mel: S2Mel, codec: SemanticCodec, campplus: Campplus
) -> SpeakerFeatures:
    """Everything but w2v-bert's part of a voice.

    Args:
        audio: (1, S) reference at the mel's sample rate, already cut to its longest
        spk_cond_emb: (1, L, D) normalised w2v-bert features of the same audio
    """
    mel_config = s2mel.config.mel
    _, semantic = codec.quantize(spk_cond_emb)
    ref_mel = mel_spectrogram(audio, mel_config)
    bank = centred_fbank(to_16k(audio, mel_config.sample_rate), campplus.config.n_mels)
    return SpeakerFeatures(
        spk_cond_emb=spk_cond_emb,
        style=campplus(bank),
        prompt_condition=s2mel.prompt_condition(semantic, ref_mel.shape[2]),
        ref_mel=ref_mel,
    )
