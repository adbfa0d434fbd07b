"""The checks of `ttscommon.probe` for the language model, before its first step."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from indextts.dataset import VoiceTrainingBatch
from indextts.gpt.model import VoiceBatch
from indextts.loss import masked_cross_entropy
from indextts.tasks import VoiceStage
from ttscommon import probe


@torch.no_grad()
def probed(stage: VoiceStage, batch: VoiceTrainingBatch) -> list[probe.Check]:
    """The checks of `ttscommon.probe` for the codes of a real batch; `stage` in eval mode."""
    voiced, config = stage.voiced(batch), stage.gpt.config
    output = stage.gpt(voiced)
    inputs = torch.nn.functional.pad(voiced.codes, (1, 1), value=config.stop_mel_token)
    inputs[:, 0] = config.start_mel_token

    def outputs(codes: Tensor) -> Tensor:
        return stage.gpt(with_codes(voiced, codes)).mel_logits

    def loss_of(codes: Tensor) -> Tensor:
        logits = outputs(codes)[:, : codes.shape[1]]
        return masked_cross_entropy(logits, codes, torch.ones_like(codes, dtype=torch.bool))

    n_codes = min(config.start_mel_token, config.stop_mel_token)
    return [
        probe.check_offsets(output.mel_logits, inputs, output.mel_targets, output.mel_mask),
        probe.check_causality(outputs, voiced.codes, n_tokens=n_codes),
        probe.check_entropy_floor(
            loss_of, voiced.codes.shape, n_tokens=n_codes, device=voiced.codes.device
        ),
    ]


def with_codes(voiced: VoiceBatch, codes: Tensor) -> VoiceBatch:
    """The same utterances with other codes (B, T), all of them real, from whatever device."""
    lengths = torch.full_like(voiced.code_lengths, codes.shape[1])
    return dataclasses.replace(voiced, codes=codes.to(voiced.codes.device), code_lengths=lengths)
