"""While decoding, guided heads see the text around the furthest place they have read."""

import dataclasses

import pytest
import torch
from torch import Tensor

from lewm.config import ModelConfig, TrainConfig
from lewm.generation import GenerationSettings, Request, generate
from lewm.inference_engine import Engine
from lewm.loss import GUIDED_HEADS
from lewm.model import DecodeState, JEPAPredictor
from lewm.static_decoding import StaticDecoder
from lewm.window import Window, place_read, spans
from tests.lewm.random_voice import INFO, random_voice
from ttscommon.config import to_dict
from ttscommon.errors import UserError

CONFIG = dataclasses.replace(ModelConfig.tiny(), dropout=0.0, width=32, ff_dim=64)
N_ROWS, N_FRAMES, N_BYTES = 3, 14, 40
NARROW = Window(back=2, ahead=3)
GUIDED = dataclasses.replace(INFO, training={"config": to_dict(TrainConfig())})
TEXTS = ("hello there, hello again", "hm", "what a long way to go", "no, not now", "yes")
SETTINGS = GenerationSettings(stop_threshold=0.7, window=NARROW)


@pytest.fixture(scope="module", params=["plain", "fused", "static"])
def how(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def predictor(how) -> JEPAPredictor:
    torch.manual_seed(0)
    predictor = JEPAPredictor(CONFIG).eval()
    if how == "fused":
        predictor.fuse_steps()
    return predictor


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents, text, and its mask."""
    torch.manual_seed(1)
    mask = torch.arange(N_BYTES) < torch.tensor([[40], [17], [3]])
    text = 4 * torch.randn(N_ROWS, N_BYTES, CONFIG.width)
    return torch.randn(N_ROWS, N_FRAMES, CONFIG.latent_dim), text, mask


def start(predictor, inputs, how, window) -> DecodeState:
    return predictor.start(*inputs[1:], N_FRAMES, static=how == "static", window=window)


def walk(predictor, state, latents) -> list[tuple[Tensor, Tensor]]:
    """Of each step, the furthest byte read before it (B,) and its attention (N, B, H, L)."""
    looks = []
    for previous in [None, *latents.unbind(1)[:-1]]:
        reached = state.reached.clone()
        said = predictor.step(previous, state, need_attention=True)
        looks.append((reached, torch.stack(said.attention)[:, :, :, 0]))
    return looks


def test_guided_heads_see_nothing_but_the_window_and_the_others_all(predictor, inputs, how):
    state = start(predictor, inputs, how, NARROW)
    byte, n_text = torch.arange(N_BYTES), inputs[2].sum(1)
    for reached, attention in walk(predictor, state, inputs[0]):
        stray = byte - reached[:, None]
        inside = (stray >= -NARROW.back) & (stray <= NARROW.ahead) & inputs[2]
        guided, free = attention[:, :, :GUIDED_HEADS], attention[:, :, GUIDED_HEADS:]
        assert (guided.masked_fill(inside[:, None], 0) == 0).all()
        assert (guided.masked_select(inside[:, None].expand_as(guided)) > 0).all()
        assert (free.masked_select(inputs[2][:, None].expand_as(free)) > 0).all()
        torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
    assert (state.reached < n_text).all()


def test_the_window_follows_the_furthest_place_read(predictor, inputs, how):
    state = start(predictor, inputs, how, NARROW)
    looks = walk(predictor, state, inputs[0])
    furthest = torch.zeros(N_ROWS, dtype=torch.long)
    for reached, attention in looks:
        assert torch.equal(reached, furthest)
        seen = attention[:, :, :GUIDED_HEADS].mean((0, 2)).argmax(1)
        furthest = furthest.maximum(seen)
    assert furthest[0] > NARROW.back  # or the window would never have left the beginning


def test_a_window_over_all_of_the_text_changes_nothing(predictor, inputs, how):
    free, wide = (
        walk(predictor, start(predictor, inputs, how, window), inputs[0])
        for window in (None, Window(N_BYTES, N_BYTES))
    )
    for (_, a), (_, b) in zip(free, wide, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_after_a_prompt_the_window_stands_where_its_last_frame_looked(predictor, inputs, how):
    latents, text, mask = inputs
    lengths = [6, 0, 3]
    state = start(predictor, inputs, how, NARROW)
    predictor.prefill(latents[:, :6], state, lengths)
    whole = predictor(latents, text, mask, need_attention=True).attention
    for b, n in enumerate(lengths):
        last = place_read([layer[b : b + 1, :, n - 1] for layer in whole])
        assert state.reached[b] == (last if n else 0)


def test_rows_take_their_windows_along(predictor, inputs, how):
    latents = inputs[0]
    whole = walk(predictor, start(predictor, inputs, how, NARROW), latents)
    state = start(predictor, inputs, how, NARROW)
    walk(predictor, state, latents[:, :6])
    chosen = torch.tensor([2, 0])
    state = state.select(chosen[:1]).merge(state.select(chosen[1:]))
    for t in range(6, N_FRAMES):
        assert torch.equal(state.reached, whole[t][0][chosen])
        said = predictor.step(latents[chosen, t - 1], state, need_attention=True)
        seen = torch.stack(said.attention)[:, :, :, 0]
        torch.testing.assert_close(seen, whole[t][1][:, chosen], atol=1e-5, rtol=0)


def test_spans_end_with_the_text():
    n_text, reached = torch.tensor([20, 6]), torch.tensor([9, 5])
    assert spans(n_text, 3, reached, NARROW).tolist() == [
        [[7, 13], [7, 13], [0, 20]],
        [[3, 6], [3, 6], [0, 6]],
    ]
    assert spans(n_text, 3, reached, None).tolist() == [[[0, 20]] * 3, [[0, 6]] * 3]


def speak(model, info, settings, **kwargs) -> list[Tensor]:
    requests = [Request(text=text) for text in TEXTS]
    return [g.latents for g in generate(model, info, requests, settings, **kwargs)]


def assert_same(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_windowed_rows_say_the_same_in_any_company():
    model = random_voice()
    together = speak(model, GUIDED, SETTINGS)
    alone = [generate(model, GUIDED, [Request(text=t)], SETTINGS)[0].latents for t in TEXTS]
    few = dataclasses.replace(SETTINGS, batch_size=2)
    assert_same(together, alone)
    assert_same(speak(model, GUIDED, few), alone)
    assert_same(speak(model, GUIDED, few, run=StaticDecoder(model).run), alone)
    free = dataclasses.replace(SETTINGS, window=None)
    assert any(
        a.shape != b.shape or not torch.allclose(a, b, atol=1e-3)
        for a, b in zip(alone, speak(model, GUIDED, free), strict=True)
    )


def test_one_static_decoder_serves_both_ways():
    model = random_voice()
    decoder = StaticDecoder(model)
    free = dataclasses.replace(SETTINGS, window=None)
    for settings in (SETTINGS, free, SETTINGS):
        assert_same(speak(model, GUIDED, settings, run=decoder.run), speak(model, GUIDED, settings))


@pytest.mark.parametrize("training", [{}, {"config": to_dict(TrainConfig(guide_weight=0.0))}])
def test_heads_that_never_had_a_guide_are_left_free(training):
    model, info = random_voice(), dataclasses.replace(INFO, training=training)
    free = dataclasses.replace(SETTINGS, window=None)
    assert_same(speak(model, info, SETTINGS), speak(model, GUIDED, free))


def test_an_engine_passes_its_window_on():
    model = random_voice()
    for window in (NARROW, None):
        settings = dataclasses.replace(SETTINGS, window=window)
        engine = Engine((model, GUIDED), vocoder="griffinlim", settings=settings)
        said = engine.generate([Request(text=text) for text in TEXTS])
        assert_same([g.latents for g in said], speak(model, GUIDED, settings))


def test_a_window_must_not_be_negative():
    for wrong in (Window(-1, 3), Window(3, -1)):
        with pytest.raises(UserError, match="window"):
            GenerationSettings(window=wrong)
