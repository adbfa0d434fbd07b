"""Decoding in fixed shapes must write the same codes as decoding with a cache that grows."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from indextts.config import DecodingConfig, GptConfig
from indextts.gpt import fixed
from indextts.gpt.decoding import generate
from indextts.gpt.fixed import FixedVoice
from indextts.gpt.model import UnifiedVoice
from tests.indextts.gpt_golden import CLOSE

TEXTS = [[5, 9, 13, 22, 7], [8, 4], [30]]
WAYS = {
    "greedy": DecodingConfig.greedy(max_mel_tokens=20),
    "numbered as in training": DecodingConfig.greedy(max_mel_tokens=9, contiguous_positions=True),
    "sampled": DecodingConfig(num_beams=1, max_mel_tokens=24),
    "beams": DecodingConfig(do_sample=False, num_beams=3, max_mel_tokens=16),
    "sampled beams": DecodingConfig(num_beams=3, max_mel_tokens=24),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = UnifiedVoice(GptConfig.tiny()).eval().requires_grad_(False)
    made.mel_head.weight.mul_(3)  # livelier, so that rows differ
    made.mel_head.bias[made.config.stop_mel_token] = 0.8  # and stop one after the other
    return made


def prefix_of(model, texts=TEXTS):
    chance = torch.Generator().manual_seed(1)
    speaker = torch.randn(len(texts), 6, 48, generator=chance)
    return model.prefix(speaker, torch.randn(len(texts), 48, generator=chance), texts)


def codes(voice, config, texts=TEXTS):
    written = generate(voice, prefix_of(voice.model, texts), config, range(len(texts)))
    return [(one.codes.tolist(), one.is_complete, one.score) for one in written]


class Growing(UnifiedVoice):
    """The ordinary way, behind the attribute the other has."""

    @property
    def model(self):
        return self


@pytest.fixture(scope="module")
def growing(model):
    made = Growing(model.config).eval().requires_grad_(False)
    made.load_state_dict(model.state_dict())
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]])
def test_codes_are_those_of_the_growing_cache(model, growing, way, texts):
    voice = FixedVoice(model, compiler=None)
    expected = codes(growing, WAYS[way], texts)
    first, again = codes(voice, WAYS[way], texts), codes(voice, WAYS[way], texts)
    for row, want in zip(first, expected, strict=True):
        assert row[:2] == want[:2]
        assert row[2] == pytest.approx(want[2], abs=1e-4)
    assert again == first  # buffers that were used before change nothing


def test_rows_stop_at_different_times_in_these_tests(growing):
    assert len({len(row[0]) for row in codes(growing, WAYS["sampled"])}) == len(TEXTS)
    assert any(row[1] for row in codes(growing, WAYS["sampled beams"]))


@pytest.mark.slow  # the compiler takes seconds to load
def test_a_step_is_one_graph_that_is_compiled_once(model):
    counter = CompileCounterWithBackend("aot_eager")
    compiled, plain = FixedVoice(model, compiler=counter), FixedVoice(model, compiler=None)
    for texts in (TEXTS, [[1, 2, 3], [4, 5, 6, 7, 8, 9], [10]]):
        (logits, state), (wanted, other) = (
            v.start(prefix_of(model, texts)) for v in (compiled, plain)
        )
        for _ in range(4):
            torch.testing.assert_close(logits, wanted, **CLOSE)
            chosen = wanted.argmax(-1)
            logits, wanted = compiled.step(chosen, state), plain.step(chosen, other)
    assert counter.frame_count == 1


def test_a_text_started_later_takes_the_buffers(model):
    voice = FixedVoice(model, compiler=None)
    logits, state = voice.start(prefix_of(model))
    voice.start(prefix_of(model))
    with pytest.raises(ValueError, match="another text was started"):
        voice.step(logits.argmax(-1), state)


def test_more_codes_than_room_was_made_for_are_refused(model, monkeypatch):
    monkeypatch.setattr(fixed, "ROOM", 1)
    voice = FixedVoice(model, compiler=None, max_new=2)
    logits, state = voice.start(prefix_of(model))
    for _ in range(2):
        logits = voice.step(logits.argmax(-1), state)
    with pytest.raises(ValueError, match="columns are written"):
        voice.step(logits.argmax(-1), state)
