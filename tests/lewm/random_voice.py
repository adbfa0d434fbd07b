"""A small network with random weights, shared by the tests of speaking."""

from __future__ import annotations

from dataclasses import replace

import torch

from lewm.config import ModelConfig
from lewm.model import LeWMTTS
from lewm.weights import CheckpointInfo
from ttscommon.mel import MelRecipe

INFO = CheckpointInfo(step=3, frames_per_byte=1.5, max_text_bytes=48)


def random_voice(**changes) -> LeWMTTS:
    """The tiny preset, thinner still, whose cross-attention and stop head have something to say."""
    sizes = {"width": 32, "ff_dim": 64, "encoder_dim": 32, "encoder_ff_dim": 64, "decoder_dim": 32}
    config = replace(ModelConfig.tiny(), **{**sizes, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LeWMTTS(config, MelRecipe())
        with torch.no_grad():
            for block in model.predictor.blocks:
                block.cross.out.weight.mul_(4)
            model.predictor.stop.weight.mul_(8)
    model.set_mel_statistics(-4.0, 2.0)
    return model.eval()
