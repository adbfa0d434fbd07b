"""What is generated is made of whole frames, as transformers would say it, alone or in a batch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kani.generation import Reader, draw, nucleus, penalize, seeds_of, spoken, steps
from kani.sampling import Sampling
from kani.tokens import frame_positions, prompt_ids
from kani.weights import load_language_model, load_tokenizer
from tests.kani.golden import SPACE
from ttscommon.errors import UserError


@pytest.fixture(scope="module")
def reader(miniature) -> Reader:
    torch.set_num_threads(1)
    return Reader(load_language_model(miniature[0]), SPACE)


@pytest.fixture(scope="module")
def prompts(miniature) -> list[list[int]]:
    tokenizer = load_tokenizer(miniature[0])
    return [prompt_ids(text, "Anna", tokenizer, SPACE) for text in ("Good morning.", "Hi")]


def said(reader: Reader, prompts: list[list[int]], sampling: Sampling) -> torch.Tensor:
    """(B, N)"""
    seeds = seeds_of([str(ids) for ids in prompts], sampling.seed)
    return torch.stack(list(steps(reader, prompts, sampling, seeds)), dim=1)


def test_every_place_holds_a_code_of_its_layer(reader, prompts):
    ids = said(reader, prompts, Sampling(max_new_tokens=30, temperature=2.0, top_p=1.0))
    assert ids.shape == (2, 28)
    for place in range(28):
        layer = SPACE.layer_ids(place % 4)
        assert all(id_ in layer for id_ in ids[:, place].tolist())


def test_a_clip_without_an_end_keeps_its_whole_frames(reader, prompts):
    found = spoken(reader, prompts, Sampling(max_new_tokens=24), [1, 2])
    assert [one.codes.shape for one in found] == [(4, 5), (4, 5)]  # 22 ids
    assert {one.problem for one in found} == {"speech never ended"}


def test_a_row_says_the_same_alone_as_in_a_batch(reader, prompts):
    sampling = Sampling(max_new_tokens=26, temperature=1.0)
    together = spoken(reader, prompts, sampling, [1, 2])
    alone = [
        spoken(reader, [ids], sampling, [seed])[0]
        for ids, seed in zip(prompts, [1, 2], strict=True)
    ]
    for one, other in zip(together, alone, strict=True):
        assert (one.codes == other.codes).all()


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_codes_are_those_of_transformers_own_loop(reader, prompts, penalty):
    """Its penalty looks at everything, so ours does here."""
    prompt = torch.tensor([[*prompts[0], SPACE.start_of_ai, SPACE.start_of_speech]])
    begin = prompt.shape[1]

    def grammar(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = ids.shape[1] - begin
        layer = SPACE.layer_ids(step % 4)
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, layer.start : layer.stop] = scores[:, layer.start : layer.stop]
        if step % 4 == 0 and step:
            allowed[:, SPACE.end_of_speech] = scores[:, SPACE.end_of_speech]
        return allowed

    found = reader.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False,
        repetition_penalty=penalty, logits_processor=[grammar],
        eos_token_id=SPACE.end_of_speech, pad_token_id=SPACE.pad_token,
    )  # fmt: skip
    greedy = Sampling.greedy(max_new_tokens=22, repetition_penalty=penalty, repetition_window=0)
    assert said(reader, prompts[:1], greedy)[0].tolist() == found[0, begin:].tolist()


def test_speech_stops_at_its_end_and_only_between_frames():
    space = SPACE
    fake = Reader(model_that_ends(), space)
    ids = torch.stack(list(steps(fake, [[1]], Sampling.greedy(), [0])), dim=1)[0].tolist()
    assert len(ids) == 5
    assert ids[-1] == space.end_of_speech


def model_that_ends() -> SimpleNamespace:
    """Wants to end at once, and all the time."""
    head = torch.nn.Linear(2, SPACE.vocab_size, bias=False)
    torch.nn.init.zeros_(head.weight)
    head.weight.data[SPACE.end_of_speech] = 1

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = torch.nn.Embedding(1, 1)

        def forward(self, *, input_ids, **_):
            shape = (*input_ids.shape, 2)
            return SimpleNamespace(last_hidden_state=torch.ones(shape), past_key_values=None)

    return SimpleNamespace(model=Inner(), lm_head=head)


def test_positions_while_speaking_are_those_of_training(reader, prompts):
    codes = np.array([SPACE.audio_id(k, 7) for _ in range(3) for k in range(4)])
    opened = [*prompts[0], SPACE.start_of_ai, SPACE.start_of_speech]
    lengths = torch.tensor([len(opened)])
    for step in (None, 1, 0.5):
        counted = Reader(reader.model, SPACE, step)
        ours = [float(counted.positions(lengths, n)) for n in range(len(codes))]
        every = (
            np.arange(len(opened) + len(codes))
            if step is None
            else frame_positions([*opened, *codes], SPACE, step)
        )
        assert ours == every[len(opened) :].tolist()


def test_frames_that_share_positions_are_read_as_without_a_cache(reader, prompts):
    """The reference is the model on everything at once, with the positions of training."""
    counted = Reader(reader.model, SPACE, 1)
    greedy = Sampling.greedy(max_new_tokens=14)
    ids = said(counted, prompts[:1], greedy)[0]
    whole = torch.tensor([[*prompts[0], SPACE.start_of_ai, SPACE.start_of_speech, *ids.tolist()]])
    hidden = reader.model.model(
        input_ids=whole,
        attention_mask=torch.ones_like(whole),
        position_ids=torch.from_numpy(frame_positions(whole.numpy(), SPACE, 1)),
    ).last_hidden_state[0]
    for place, id_ in enumerate(ids.tolist()):
        row = hidden[len(prompts[0]) + 1 + place]
        logits = counted.logits(row[None], place % 4, may_end=place > 0 and place % 4 == 0)
        assert int(logits.argmax()) + SPACE.layer_ids(place % 4).start == id_


def test_the_penalty_looks_back_over_its_window_only():
    logits = torch.zeros(1, 6) + torch.tensor([3.0, 2.0, 1.0, -1.0, -2.0, 0.0])
    sampling = Sampling.greedy(repetition_penalty=10.0, repetition_window=2)
    chance = [torch.Generator()]
    assert draw(logits.clone(), torch.tensor([[0, 1, 2]]), sampling, chance).tolist() == [0]
    everything = Sampling.greedy(repetition_penalty=10.0, repetition_window=0)
    assert draw(logits.clone(), torch.tensor([[0, 1]]), everything, chance).tolist() == [2]
    penalize(logits, torch.tensor([[0, 3, -5, 5]]), 2.0)
    assert logits.tolist() == [[1.5, 2.0, 1.0, -2.0, -2.0, 0.0]]


def test_the_nucleus_is_that_of_transformers():
    from transformers import TopPLogitsWarper

    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2)) * 3
    warped = TopPLogitsWarper(0.8)(torch.zeros(0), logits.clone())  # type: ignore[arg-type]
    kept = warped.isfinite()
    assert torch.equal(nucleus(logits.softmax(-1), 0.8) > 0, kept)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"repetition_penalty": 0.0},
              {"repetition_window": -1}, {"max_new_tokens": 2}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UserError):
        Sampling(**wrong)
