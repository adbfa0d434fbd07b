"""That fused steps equal plain ones is tested in test_predictor, which runs with both."""

import dataclasses

import pytest
import torch
from numba.core import event
from torch import Tensor

from lewm.config import ModelConfig
from lewm.predictor import JEPAPredictor

# No size is a multiple of what the compiled loops take at once.
CONFIG = dataclasses.replace(ModelConfig.tiny(), dropout=0.0, width=36, ff_dim=51, n_heads=3)
N_ROWS, N_FRAMES, N_BYTES = 5, 11, 13


@pytest.fixture(scope="module")
def predictor() -> JEPAPredictor:
    torch.manual_seed(0)
    predictor = JEPAPredictor(CONFIG).eval()
    predictor.fuse_steps()
    return predictor


def steps(predictor: JEPAPredictor, latents: Tensor, text: Tensor) -> Tensor:
    """Hidden states of all frames: (B, T, D)"""
    state = predictor.start(text, torch.ones(text.shape[:2], dtype=torch.bool), latents.shape[1])
    previous = [None, *latents.unbind(1)[:-1]]
    return torch.cat([predictor.step(latent, state).hidden for latent in previous], 1)


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(N_ROWS, N_FRAMES, CONFIG.latent_dim), torch.randn(N_ROWS, N_BYTES, 36)


def test_sizes_that_divide_by_nothing_give_what_the_whole_pass_gives(predictor, inputs):
    latents, text = inputs
    whole = predictor(latents, text, torch.ones(N_ROWS, N_BYTES, dtype=torch.bool)).hidden
    torch.testing.assert_close(steps(predictor, latents, text), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1e-3, 30.0, 1e3])
def test_small_and_large_numbers_are_followed_too(predictor, inputs, size):
    latents, text = inputs[0] * size, inputs[1] * size
    whole = predictor(latents, text, torch.ones(N_ROWS, N_BYTES, dtype=torch.bool)).hidden
    torch.testing.assert_close(steps(predictor, latents, text), whole, atol=1e-4, rtol=1e-4)


def test_what_is_not_a_number_is_not_hidden(predictor, inputs):
    latents, text = inputs[0].clone(), inputs[1]
    latents[2, 4] = torch.nan
    hidden = steps(predictor, latents, text)
    assert hidden[2, 5:].isnan().all()
    assert hidden[[0, 1, 3, 4]].isfinite().all()
    assert hidden[2, :5].isfinite().all()


def test_weights_are_those_of_the_moment_of_fusing(inputs):
    latents, text = inputs
    torch.manual_seed(3)
    predictor = JEPAPredictor(CONFIG).eval()
    predictor.fuse_steps()
    before = steps(predictor, latents, text)
    with torch.no_grad():
        predictor.get_parameter("blocks.0.ff.narrow.weight").zero_()
    assert torch.equal(steps(predictor, latents, text), before)
    predictor.fuse_steps()
    assert not torch.equal(steps(predictor, latents, text), before)


def test_nothing_that_happens_to_a_batch_compiles_the_step_anew(predictor, inputs):
    latents, text = inputs
    steps(predictor, latents, text)  # compiled, or read from the cache, by now
    mask = torch.arange(N_BYTES) < torch.tensor([[13], [7], [4], [13], [2]])
    with event.install_recorder("numba:compile") as compiled:
        steps(predictor, latents[:1], text[:1])
        state = predictor.start(text, mask, N_FRAMES)
        predictor.prefill(latents[:, :3], state, [3, 1, 0, 2, 3])
        predictor.step(latents[:, 2], state)
        fewer = state.select(torch.tensor([3, 0]))
        predictor.step(latents[:2, 3], fewer)
        predictor.step(latents[:4, 4], fewer.merge(state.select(torch.tensor([1, 2]))))
    assert not compiled.buffer
