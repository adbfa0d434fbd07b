"""A model that learned two clips by heart says both freely, to their end, and not without the end.

The last two tests are tests of the first: with either mistake of public trainers it fails.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from higgs_trainer.collator import Collator, HiggsBatch
from higgs_trainer.config import Streams
from higgs_trainer.conversation import Audio, request
from higgs_trainer.delay import IGNORED
from higgs_trainer.generation import Sampling, spoken
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.tasks import HiggsStage, LossWeights
from tests.higgs_trainer.golden import described, writer

SMALL = Streams(n_codebooks=4, n_codes=12, begin_id=12, end_id=13)
STEPS = 120


def small_model() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    sizes |= {"num_attention_heads": 3, "num_key_value_heads": 3}
    audio = {"num_codebooks": 4, "codebook_size": 14}
    audio |= {"audio_stream_bos_id": 12, "audio_stream_eos_id": 13}
    config = HiggsAudioV2Config(**{**described("native_config"), **sizes, **audio})
    return HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)


def two_clips() -> tuple[PromptWriter, list[Any], list[torch.Tensor]]:
    """Each the other's reference, so that only the text says which is wanted."""
    small = PromptWriter(writer().tokenizer, SMALL)
    chance = torch.Generator().manual_seed(5)
    clips = [torch.randint(0, 12, (4, n_steps), generator=chance) for n_steps in (9, 13)]
    texts = ["the quick brown fox.", "a lazy dog."]
    asked = [
        request(texts[i], references=[(texts[1 - i], Audio())], scene="", system="Speak.")
        for i in (0, 1)
    ]
    return small, asked, clips


def trained(spoil: Any = None) -> Any:
    torch.set_num_threads(1)
    small, asked, clips = two_clips()
    samples = [small.sample(asked[i].answered(Audio()), [clips[1 - i], clips[i]]) for i in (0, 1)]
    batch = Collator(SMALL, 401)(samples, ("a", "b"))
    batch = spoil(batch) if spoil else batch
    stage = HiggsStage(small_model(), LossWeights())
    optimizer = torch.optim.AdamW(stage.parameters(), lr=5e-3, weight_decay=0.0)
    for _ in range(STEPS):
        loss = stage(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1
    return stage.model.eval()


def told(network: Any) -> list[Any]:
    """What it says for each text, freely."""
    small, asked, clips = two_clips()
    prompts = [small.prompt(asked[i], [clips[1 - i]]) for i in (0, 1)]
    left = Collator(SMALL, 401, "left")
    return spoken(network, prompts, left, Sampling.greedy(max_steps=30))


def knows_by_heart(network: Any) -> bool:
    _, _, clips = two_clips()
    found = told(network)
    return all(
        one.is_sound and torch.equal(one.codes, clip)
        for one, clip in zip(found, clips, strict=True)
    )


def without_ends(batch: HiggsBatch) -> HiggsBatch:
    labels = batch.audio_labels
    return dataclasses.replace(batch, audio_labels=labels.masked_fill(labels == 13, IGNORED))


def unshifted(batch: HiggsBatch) -> HiggsBatch:
    """Labels one place late, so that each place is taught what it has just read."""
    labels = batch.audio_labels.roll(1, dims=1)
    labels[:, 0] = IGNORED
    return dataclasses.replace(batch, audio_labels=labels)


def test_two_clips_are_learned_by_heart_and_told_to_their_end():
    assert knows_by_heart(trained())


def test_without_labels_of_ends_the_speech_never_stops():
    network = trained(without_ends)
    assert not knows_by_heart(network)
    assert not any(one.is_sound for one in told(network))


def test_with_labels_that_are_not_shifted_nothing_is_learned_that_can_be_said():
    network = trained(unshifted)
    assert not knows_by_heart(network)
    _, _, clips = two_clips()
    for one, clip in zip(told(network), clips, strict=True):
        n_steps = min(one.codes.shape[1], clip.shape[1])
        assert float((one.codes[:, :n_steps] == clip[:, :n_steps]).float().mean()) < 0.5
