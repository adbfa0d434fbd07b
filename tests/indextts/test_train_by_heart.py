"""A voice can be learned: what was trained is said, and from another clip as the prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from indextts import weights
from indextts.clips import TrainingClip, read_clips
from indextts.config import DecodingConfig
from indextts.dataset import PairedPlan
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice
from indextts.lora import attach
from indextts.tasks import VoiceStage, validation_losses
from indextts.train_config import FullTrainConfig, LoraTrainConfig
from tests.indextts.gpt_training import prepared, train

GREEDY = DecodingConfig.greedy(max_mel_tokens=30, repetition_penalty=1.0, contiguous_positions=True)
LONG = {"batch_size": 2, "val_interval": 1000, "save_interval": 1000, "log_interval": 50}
LONG |= {"gradient_checkpointing": False, "epochs": 1000}
CONFIGS = {
    "lora": LoraTrainConfig.tiny(
        **LONG, max_steps=150, learning_rate=0.02, lora_rank=16, lora_alpha=32.0, lora_dropout=0.0,
        lora_include_embeddings=True,
    ),
    "full": FullTrainConfig.tiny(**LONG, max_steps=150, learning_rate=3e-3),
}  # fmt: skip


def numbers(path) -> torch.Tensor:
    return torch.from_numpy(np.load(path))[None]


@torch.no_grad()
def written(gpt: UnifiedVoice, clip: TrainingClip, prompt: TrainingClip) -> list[int]:
    """Greedy codes for a clip's text with a prompt's speaker and mood."""
    text = np.load(clip.text_ids_path).tolist()
    prefix = gpt.prefix(numbers(prompt.condition_path), numbers(prompt.emo_vec_path), [text])
    return generate(gpt, prefix, GREEDY, [0])[0].codes.tolist()


@pytest.mark.parametrize("kind", CONFIGS)
def test_two_clips_are_learned_by_heart_and_told_with_another_clip_as_the_prompt(
    tmp_path, miniature, kind
):
    job = prepared(tmp_path, miniature, [(4, 9), (6, 12)])
    train(job, CONFIGS[kind])
    sizes, output = job.folder.config.gpt, job.output
    gpt = weights.load_gpt(job.folder.gpt if kind == "lora" else output.latest, sizes)
    if kind == "lora":
        attach(gpt, output.final_checkpoint)
    clips = read_clips(job.train)
    stage = VoiceStage(gpt, CONFIGS[kind], trains_conditions=False).eval()
    losses = validation_losses(stage, PairedPlan(clips, batch_size=2))
    assert losses["mel"] < 0.05
    for clip, other in (clips, clips[::-1]):
        assert written(gpt, clip, other) == np.load(clip.codes_path).tolist()
