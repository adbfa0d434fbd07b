"""A voice can be learned: what was trained is said, and from another clip as the prompt."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.clips import TrainingClip, read_clips
from indextts.config import DecodingConfig
from indextts.dataset import PairedPlan
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice, VoiceBatch, VoiceOutput
from indextts.lora import attach
from indextts.probing import probed
from indextts.tasks import VoiceStage, validation_losses
from indextts.train_config import FullTrainConfig, LoraTrainConfig
from tests.indextts.gpt_training import prepared, train
from ttscommon.batching import BatchKey

GREEDY = DecodingConfig.greedy(max_mel_tokens=30, repetition_penalty=1.0)
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


def one_place_early(gpt: UnifiedVoice, batch: Any, output: VoiceOutput) -> VoiceOutput:
    return dataclasses.replace(output, mel_logits=output.mel_logits.roll(-1, dims=1))


@pytest.mark.parametrize("contiguous", [False, True])
@torch.no_grad()
def test_what_is_trained_is_what_speaks(tmp_path, miniature, contiguous):
    """Teacher-forced logits in a batch are those of writing the same codes one by one, alone."""
    job = prepared(tmp_path, miniature, [(4, 9), (6, 12)])
    gpt = weights.load_gpt(job.folder.gpt, job.folder.config.gpt).eval()
    spoken = DecodingConfig(contiguous_positions=True) if contiguous else DecodingConfig()
    trained = LoraTrainConfig(contiguous_positions=True) if contiguous else LoraTrainConfig()
    stage = VoiceStage(gpt, trained, trains_conditions=False).eval()
    plan = PairedPlan(read_clips(job.train), batch_size=2)
    voiced = stage.voiced(plan.load(BatchKey(0, 0, (0, 1))))
    forced, padded, renumbered = (
        gpt(dataclasses.replace(voiced, **changes)).mel_logits
        for changes in ({}, {"hides_padding": False}, {"contiguous": not voiced.contiguous})
    )
    for row in (0, 1):
        text = voiced.text[row, : voiced.text_lengths[row]].tolist()
        prefix = gpt.prefix(voiced.speaker[row : row + 1], voiced.emotion[row : row + 1], [text])
        logits, state = gpt.start(prefix, contiguous=spoken.contiguous_positions)
        codes = voiced.codes[row, : voiced.code_lengths[row]]
        stepped = torch.cat([logits] + [gpt.step(code[None], state) for code in codes])
        n = len(stepped)
        torch.testing.assert_close(forced[row, :n], stepped, atol=1e-4, rtol=0)
        assert float((renumbered[row, :n] - stepped).abs().max()) > 1e-3
    shorter = int(voiced.text_lengths.argmin())
    assert float((padded[shorter] - forced[shorter]).abs().max()) > 1e-3


@torch.no_grad()
def test_the_longest_clip_has_a_position_for_every_code(miniature):
    folder = CheckpointFolder.open(miniature)
    gpt, most = weights.load_gpt(folder.gpt, folder.config.gpt), folder.config.gpt.max_mel_tokens
    voiced = VoiceBatch(
        text=torch.tensor([[5, 6]]),
        text_lengths=torch.tensor([2]),
        codes=torch.zeros(1, most, dtype=torch.long),
        code_lengths=torch.tensor([most]),
        speaker=torch.zeros(1, gpt.config.condition_num_latent, gpt.config.model_dim),
        emotion=torch.zeros(1, gpt.config.model_dim),
        contiguous=False,
    )
    assert gpt(voiced).mel_logits.shape[1] == most + 2


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
    batch = PairedPlan(clips, batch_size=4).load(BatchKey(0, 0, (0, 1, 0, 1)))
    assert [check.passed for check in probed(stage, batch)] == [True, True, True]
    hook = gpt.register_forward_hook(one_place_early)
    assert probed(stage, batch)[0].passed is False
    hook.remove()
    for clip, other in (clips, clips[::-1]):
        assert written(gpt, clip, other) == np.load(clip.codes_path).tolist()
