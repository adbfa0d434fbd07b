"""What is generated is what the original and the native program generate."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from higgs_trainer.collator import Collator
from higgs_trainer.generation import Sampling, forced, generated, spoken
from tests.higgs_trainer.golden import (
    CLOSE,
    STREAMS,
    codes,
    conversation,
    model,
    tensors,
    writer,
)
from ttscommon.errors import UserError

ASKED = ("plain_tts", "zero_shot_clone")
LEFT = Collator(STREAMS, 401, "left")


def prompts() -> list[Any]:
    turns = [conversation(name) for name in ASKED]
    asked = [dataclasses.replace(one, learned_from=len(one.turns) - 1).prompt for one in turns]
    held = [codes(name)[:-1] for name in ASKED]
    return [writer().prompt(one, audio) for one, audio in zip(asked, held, strict=True)]


@pytest.mark.parametrize("number", [0, 1])
def test_greedy_frames_are_the_golden_ones(number):
    golden = tensors(f"generation_native_{ASKED[number]}")["audio_sequence"].T
    frames = generated(model(), [prompts()[number]], LEFT, Sampling.greedy(max_steps=40)).frames
    assert torch.equal(frames[0], golden)
    original = tensors("generation")[f"{ASKED[number]}.audio_sequence"].T
    assert torch.equal(frames[0, : len(original), :7], original[:, :7])


def test_a_batch_says_what_each_prompt_says_alone():
    sampling = Sampling.greedy(max_steps=40)
    together = spoken(model(), prompts(), LEFT, sampling)
    alone = [spoken(model(), [one], LEFT, sampling)[0] for one in prompts()]
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.equal(ours.codes, theirs.codes)
        assert ours.stopped


@pytest.mark.parametrize("name", ASKED)
@torch.no_grad()
def test_teacher_forced_logits_are_those_of_the_originals_steps(name):
    golden = part_of_generation(name)
    prompt = prompts()[ASKED.index(name)]
    frames = golden["audio_sequence"].T  # the answer's, the first of them all begins
    logits = forced(model(), prompt, frames, LEFT)
    torch.testing.assert_close(logits[:-1], golden["audio_logits_steps"], **CLOSE)
    found = generated(model(), [prompt], LEFT, Sampling.greedy(max_steps=40))
    n_steps = len(frames) - 1
    torch.testing.assert_close(
        found.logits[0, 1 : 1 + n_steps], golden["audio_logits_steps"], **CLOSE
    )


def part_of_generation(name: str) -> dict[str, torch.Tensor]:
    held = tensors("generation")
    return {k.removeprefix(f"{name}."): v for k, v in held.items() if k.startswith(f"{name}.")}


def test_drawn_codes_follow_from_the_seed():
    def drawn(seed: int) -> torch.Tensor:
        sampling = Sampling(temperature=1.0, max_steps=6, seed=seed)
        return generated(model(), prompts()[:1], LEFT, sampling).frames

    before = torch.random.get_rng_state()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_steps": 0}])
def test_sampling_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError):
        Sampling(**wrong)
