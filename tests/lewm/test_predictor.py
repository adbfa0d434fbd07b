import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lewm.config import ModelConfig
from lewm.heads import FlowHead, MeanHead
from lewm.model import DecodeState, JEPAPredictor

CONFIG = dataclasses.replace(ModelConfig.tiny(), dropout=0.0, width=32, ff_dim=64)
N_ROWS, N_FRAMES, N_BYTES = 4, 12, 9
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module", params=["plain", "fused"])
def predictor(request) -> JEPAPredictor:
    torch.manual_seed(0)
    predictor = JEPAPredictor(CONFIG).eval()
    if request.param == "fused":
        predictor.fuse_steps()
    return predictor


@pytest.fixture(scope="module")
def latents() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(N_ROWS, N_FRAMES, CONFIG.latent_dim)


@pytest.fixture(scope="module")
def text() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(N_ROWS, N_BYTES, CONFIG.width)


@pytest.fixture(scope="module")
def text_mask() -> Tensor:
    return torch.arange(N_BYTES) < torch.tensor([[9], [7], [4], [9]])


def walk(
    predictor: JEPAPredictor, state: DecodeState, latents: Tensor, start: int, end: int
) -> Tensor:
    """Hidden states of frames start .. end - 1, one step each: (B, n, D)"""
    hidden = []
    for t in range(start, end):
        previous = latents[:, t - 1] if t else None
        hidden.append(predictor.step(previous, state).hidden)
    return torch.cat(hidden, dim=1)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("is_padded", [False, True])
def test_steps_give_what_the_whole_pass_gives(
    predictor, latents, text, text_mask, static, is_padded
):
    mask = text_mask if is_padded else torch.ones_like(text_mask)
    state = predictor.start(text, mask, N_FRAMES, static=static)
    stepped = walk(predictor, state, latents, 0, N_FRAMES)
    torch.testing.assert_close(stepped, predictor(latents, text, mask).hidden, **CLOSE)


def test_no_output_sees_its_own_latent_or_a_later_one(predictor, latents, text, text_mask):
    changed = latents.clone()
    changed[:, 5:] += 1
    before, after = (predictor(x, text, text_mask) for x in (latents, changed))
    torch.testing.assert_close(before.hidden[:, :6], after.hidden[:, :6])
    torch.testing.assert_close(before.stop_logits[:, :6], after.stop_logits[:, :6])
    assert not torch.allclose(before.hidden[:, 6], after.hidden[:, 6])


def test_a_batch_gives_what_each_row_gives_alone(predictor, latents, text, text_mask):
    together = predictor(latents, text, text_mask, need_attention=True)
    for b in range(N_ROWS):
        n = int(text_mask[b].sum())
        alone = predictor(
            latents[b : b + 1, :8],
            text[b : b + 1, :n],
            text_mask[b : b + 1, :n],
            need_attention=True,
        )
        torch.testing.assert_close(together.hidden[b, :8], alone.hidden[0], **CLOSE)
        for a, c in zip(together.attention, alone.attention, strict=True):
            torch.testing.assert_close(a[b, :, :8, :n], c[0], **CLOSE)
            assert a[b, :, :, n:].abs().sum() == 0


def test_text_padding_changes_no_gradient(predictor, latents, text, text_mask):
    gradients = []
    for junk in (0.0, 100.0):
        filled = text.masked_fill(~text_mask[..., None], junk)
        said = predictor(latents, filled, text_mask, need_attention=bool(junk))
        loss = said.hidden.square().mean() + said.stop_logits.mean()
        parameters = [p for n, p in predictor.named_parameters() if not n.startswith("head")]
        gradients.append(torch.autograd.grad(loss, parameters))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_asking_for_attention_changes_no_output(predictor, latents, text, text_mask):
    plain = predictor(latents, text, text_mask)
    told = predictor(latents, text, text_mask, need_attention=True)
    torch.testing.assert_close(plain.hidden, told.hidden, **CLOSE)
    assert plain.attention is None
    assert len(told.attention) == CONFIG.n_predictor_layers
    for weights in told.attention:
        assert weights.shape == (N_ROWS, CONFIG.n_heads, N_FRAMES, N_BYTES)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_a_step_tells_the_attention_of_the_whole_pass(predictor, latents, text, text_mask):
    whole = predictor(latents, text, text_mask, need_attention=True).attention
    state = predictor.start(text, text_mask, N_FRAMES)
    for t in range(3):
        previous = latents[:, t - 1] if t else None
        step = predictor.step(previous, state, need_attention=True).attention
        for a, b in zip(step, whole, strict=True):
            torch.testing.assert_close(a[:, :, 0], b[:, :, t], **CLOSE)


def test_rows_that_are_left_go_on_as_if_nobody_had_gone(predictor, latents, text, text_mask):
    whole = predictor(latents, text, text_mask).hidden
    state = predictor.start(text, text_mask, N_FRAMES)
    walk(predictor, state, latents, 0, 5)
    rows = torch.tensor([3, 1])
    stepped = walk(predictor, state.select(rows), latents[rows], 5, N_FRAMES)
    torch.testing.assert_close(stepped, whole[rows, 5:], **CLOSE)


def test_rows_that_join_late_change_nobody(predictor, latents, text, text_mask):
    whole = predictor(latents, text, text_mask).hidden
    early = predictor.start(text[:2], text_mask[:2], 7)
    walk(predictor, early, latents[:2], 0, 4)
    late = predictor.start(text[2:, :5], text_mask[2:, :5], N_FRAMES)
    short = predictor(latents, text[:, :5], text_mask[:, :5]).hidden
    state = early.merge(late)
    for t in range(3):
        new = torch.full((2, CONFIG.latent_dim), torch.nan) if t == 0 else latents[2:, t - 1]
        hidden = predictor.step(torch.cat([latents[:2, t + 3], new]), state).hidden[:, 0]
        torch.testing.assert_close(hidden[:2], whole[:2, t + 4], **CLOSE)
        torch.testing.assert_close(hidden[2:], short[2:, t], **CLOSE)
    assert state.lengths.tolist() == [7, 7, 3, 3]
    newest = state.select(torch.tensor([3, 2]))
    stepped = walk(predictor, newest, latents[[3, 2]], 3, 8)
    torch.testing.assert_close(stepped, short[[3, 2], 3:8], **CLOSE)


@pytest.mark.parametrize("static", [False, True])
def test_a_prompt_is_read_as_if_it_had_been_generated(predictor, latents, text, text_mask, static):
    whole = predictor(latents, text, text_mask).hidden
    lengths = [6, 0, 3, 6]
    state = predictor.start(text, text_mask, N_FRAMES, static=static)
    read = predictor.prefill(latents[:, :6], state, lengths)
    torch.testing.assert_close(read.hidden[0], whole[0, :6], **CLOSE)
    for t in range(4):
        previous = torch.stack([latents[b, max(0, n + t - 1)] for b, n in enumerate(lengths)])
        hidden = predictor.step(previous, state).hidden[:, 0]
        expected = torch.stack([whole[b, n + t] for b, n in enumerate(lengths)])
        torch.testing.assert_close(hidden, expected, **CLOSE)


def test_a_static_state_takes_over_another_in_its_own_memory(predictor, latents, text, text_mask):
    mine = predictor.start(text, text_mask, N_FRAMES, static=True)
    walk(predictor, mine, latents, 0, 3)
    places = [tensor.data_ptr() for tensor in mine.tensors()]
    flipped, mask = text.flip(0), text_mask.flip(0)
    mine.copy_(predictor.start(flipped, mask, N_FRAMES, static=True))
    stepped = walk(predictor, mine, latents, 0, 4)
    torch.testing.assert_close(stepped, predictor(latents, flipped, mask).hidden[:, :4], **CLOSE)
    assert [tensor.data_ptr() for tensor in mine.tensors()] == places


def operations(run: Callable[[], object]) -> set[str]:
    """Names of the tensor operations that `run` makes."""
    with torch.autograd.profiler.profile() as seen:
        run()
    return {event.name for event in seen.function_events}


def test_a_static_step_never_looks_at_a_value_on_the_device(predictor, latents, text, text_mask):
    state = predictor.start(text, text_mask, N_FRAMES, static=True)
    assert "aten::item" in operations(lambda: bool(text_mask.all()))
    seen = operations(lambda: predictor.step(latents[:, 0], state))
    assert "aten::addmm" in seen
    assert not seen & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def test_a_step_without_room_is_refused(predictor, latents, text, text_mask):
    state = predictor.start(text, text_mask, 2)
    walk(predictor, state, latents, 0, 2)
    with pytest.raises(ValueError, match="no room after 2"):
        predictor.step(latents[:, 1], state)
    with pytest.raises(ValueError, match="room for 2"):
        predictor.prefill(latents, predictor.start(text, text_mask, 2))


def test_decoding_goes_on_far_beyond_any_clip(predictor, text, text_mask):
    latents = torch.randn(1, 3000, CONFIG.latent_dim)
    state = predictor.start(text[:1], text_mask[:1], 3000)
    predictor.prefill(latents[:, :2998], state)
    stepped = walk(predictor, state, latents, 2998, 3000)
    whole = predictor(latents, text[:1], text_mask[:1]).hidden
    torch.testing.assert_close(stepped, whole[:, 2998:], **CLOSE)


def test_decoding_first_leaves_the_model_trainable(text, text_mask, latents):
    predictor = JEPAPredictor(CONFIG)
    with torch.inference_mode():
        walk(predictor, predictor.start(text, text_mask, 3), latents, 0, 3)
    predictor(latents, text, text_mask).hidden.sum().backward()
    assert predictor.begin.grad is not None


def test_half_precision_steps_follow_half_precision_passes(latents, text, text_mask):
    torch.manual_seed(0)
    predictor = JEPAPredictor(CONFIG).eval().bfloat16()
    latents, text = latents.bfloat16(), text.bfloat16()
    state = predictor.start(text, text_mask, N_FRAMES)
    stepped = walk(predictor, state, latents, 0, N_FRAMES)
    assert stepped.dtype == torch.bfloat16
    whole = predictor(latents, text, text_mask).hidden
    torch.testing.assert_close(stepped, whole, atol=0.1, rtol=0)


@pytest.mark.parametrize("head_class", [MeanHead, FlowHead])
def test_padding_changes_neither_prediction_loss_nor_gradient(head_class):
    torch.manual_seed(0)
    head = head_class(16, 4)
    hidden, target = torch.randn(2, 6, 16), torch.randn(2, 6, 4)
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    results = []
    for junk in (0.0, torch.nan, torch.inf):
        torch.manual_seed(1)
        h = hidden.masked_fill(~mask[..., None], junk).requires_grad_()
        loss = head.loss(h, target.masked_fill(~mask[..., None], junk), mask, n_draws=2)
        results.append((loss, torch.autograd.grad(loss, h)[0][mask]))
    for loss, gradient in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])


def test_the_mean_head_pays_squared_error_per_dimension():
    head = MeanHead(3, 2)
    hidden, target = torch.randn(1, 2, 3), torch.randn(1, 2, 2)
    mask = torch.tensor([[True, False]])
    expected = (head(hidden)[0, 0] - target[0, 0]).square().mean()
    torch.testing.assert_close(head.loss(hidden, target, mask), expected)


def test_a_flow_sample_depends_on_its_own_noise_alone():
    torch.manual_seed(0)
    head, hidden, noise = FlowHead(16, 4).eval(), torch.randn(5, 16), torch.randn(5, 4)
    together = head.sample(hidden, noise, 0.6)
    alone = torch.cat([head.sample(hidden[b : b + 1], noise[b : b + 1], 0.6) for b in range(5)])
    torch.testing.assert_close(together, alone, **CLOSE)
    assert not torch.allclose(together, head.sample(hidden, noise.flip(0), 0.6))
    torch.testing.assert_close(head.sample(hidden, noise, 0.0), head.sample(hidden, None))


def test_the_flow_head_learns_both_of_two_answers():
    torch.manual_seed(0)
    head = FlowHead(8, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    hidden, mask = torch.zeros(64, 1, 8), torch.ones(64, 1, dtype=torch.bool)
    target = torch.tensor([-1.0, 1.0]).repeat(32)[:, None, None]
    for _ in range(100):
        optimizer.zero_grad()
        head.loss(hidden, target, mask, n_draws=8).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = head.sample(torch.zeros(200, 8), torch.randn(200, 1), temperature=1.0)
    assert (drawn.abs() - 1).abs().mean() < 0.35  # a mean would say 0: 1.0 away from both
    assert 60 < (drawn > 0).sum() < 140
