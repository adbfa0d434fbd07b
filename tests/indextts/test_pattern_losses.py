"""What each loss rewards, where it is least, and that the public one is the public one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indextts.pattern_embeddings import PatternEmbedding
from indextts.pattern_losses import (
    decision_cross_entropy,
    distillation,
    event_loss,
    log_masses,
    masked_mean,
    pause_loss,
    rate_loss,
    reference_losses,
    silence_mass_losses,
    token_losses,
)
from tests.indextts.gpt_golden import read

N_CODES = 10
SILENCE = torch.arange(N_CODES) < 3


def clip(n_clips: int = 2, n_codes: int = 40, seed: int = 0):
    """Codes with pauses of silence codes, which leave the ends alone: codes, pauses, mask."""
    chance = torch.Generator().manual_seed(seed)
    codes = torch.randint(3, N_CODES, (n_clips, n_codes), generator=chance)
    pauses = torch.zeros_like(codes, dtype=torch.bool)
    for row in range(n_clips):
        for first, length in ((5, 4), (18, 7)):
            pauses[row, first + row : first + row + length] = True
    quiet = torch.randint(0, 3, codes.shape, generator=chance)
    mask = torch.ones_like(pauses)
    mask[-1, -6:] = False
    return torch.where(pauses, quiet, codes), pauses & mask, mask


def noise(shape, seed: int = 1):
    return torch.randn(*shape, N_CODES, generator=torch.Generator().manual_seed(seed))


def of_odds(p: torch.Tensor) -> torch.Tensor:
    """Logits (..., V) that give the silent codes together this probability."""
    quiet, loud = (p / 3).log()[..., None], ((1 - p) / (N_CODES - 3)).log()[..., None]
    return torch.where(SILENCE, quiet, loud)


def pause_of(logits):
    codes, pauses, mask = clip()
    return pause_loss(log_masses(logits, SILENCE), codes, pauses, mask, SILENCE)


def test_the_public_loss_and_its_gradient_are_the_originals():
    info, tensors = read("pattern_reference")
    logits = tensors["in.logits"].transpose(1, 2).requires_grad_()
    starts = torch.zeros_like(tensors["in.targets"], dtype=torch.bool)
    for row, places in enumerate(info["pause_positions"]):
        starts[row, places] = True
    found = reference_losses(logits, tensors["in.targets"], tensors["in.mask"].bool(), starts,
                             silence_code=info["silence_code"])  # fmt: skip
    for name, key in (("ce", "ce_loss"), ("pause", "pause_loss"), ("rate", "rate_loss"),
                      ("total", "total")):  # fmt: skip
        torch.testing.assert_close(found[name][None], tensors[f"out.loss.{key}"])
    found["total"].backward()
    assert logits.grad is not None
    gradient = logits.grad.transpose(1, 2)
    torch.testing.assert_close(gradient, tensors["out.loss.grad_logits"], atol=1e-7, rtol=1e-4)


def test_the_public_loss_counts_no_pause_where_there_is_none():
    codes, pauses, mask = clip()
    found = reference_losses(noise(codes.shape), codes, mask, torch.zeros_like(pauses),
                             silence_code=1)  # fmt: skip
    assert found["pause"] == 0


def test_masses_are_complete_however_far_apart_logits_are():
    logits = 300 * noise((1, 6))
    quiet, loud = log_masses(logits, SILENCE)
    assert quiet.isfinite().all()
    assert loud.isfinite().all()
    torch.testing.assert_close(torch.logaddexp(quiet, loud), torch.zeros(1, 6))


@pytest.mark.parametrize("place", ["start", "inside", "end", "speech"])
def test_the_pause_loss_falls_when_a_decision_is_foreseen(place):
    codes, pauses, _ = clip()
    logits = noise(codes.shape).requires_grad_()
    pause_of(logits).backward()
    assert logits.grad is not None
    frame = {"start": 5, "inside": 7, "end": 9, "speech": 14}[place]
    pull = logits.grad[0, frame, SILENCE].sum()
    assert bool(pull < 0) == (place in ("start", "inside"))
    assert pull != 0
    assert bool(pauses[0, frame]) == (place in ("start", "inside"))


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.02, 0.9))
def test_the_least_pause_loss_is_at_the_speakers_own_rates(share):
    _, pauses, mask = clip()
    before = torch.nn.functional.pad(pauses, (1, 0))[:, :-1]
    began = (pauses & ~before)[:, 1:].sum() / (mask & ~before)[:, 1:].sum()
    went_on = (pauses & before).sum() / (mask & before).sum()
    right = torch.where(before, went_on, began)
    starts, ends = torch.where(before, went_on, share), torch.where(before, share, began)
    least, *found = (pause_of(of_odds(odds)) for odds in (right, starts, ends))
    assert all(least <= other + 1e-5 for other in found)


def test_weighing_what_happened_asks_for_more_pauses_than_there_are():
    """Why decisions are scored on both outcomes."""
    codes, pauses, mask = clip()
    own = float(pauses[mask].float().mean())
    starts_weighed = torch.zeros(codes.shape)
    starts_weighed[:, 5:7] = 4.0
    shares = torch.linspace(0.02, 0.98, 97)

    def least(weight):
        found = []
        for share in shares:
            losses = token_losses(of_odds(share.expand(codes.shape)), codes)
            quiet = torch.where(pauses, starts_weighed, 0)
            found.append(masked_mean(losses, mask) + weight * decision_cross_entropy(losses, quiet))
        return float(shares[int(torch.stack(found).argmin())])

    assert least(0.0) == pytest.approx(own, abs=0.02)
    assert least(2.0) > 2 * own


def test_speech_without_pauses_asks_for_none():
    codes = torch.full((1, 12), 5)
    nowhere, mask = torch.zeros_like(codes, dtype=torch.bool), torch.ones_like(codes).bool()
    losses = [
        pause_loss(log_masses(of_odds(torch.full((1, 12), p)), SILENCE), codes, nowhere, mask,
                   SILENCE)
        for p in (1e-6, 0.01, 0.3)
    ]  # fmt: skip
    assert losses[0] < 1e-3 < losses[1] < losses[2]


def test_frames_are_left_out_where_codes_and_pauses_disagree():
    codes = torch.tensor([[0, 5, 5, 5, 5, 0, 1, 7, 5, 5, 0]])  # 7: a breath in the pause
    pauses = torch.zeros_like(codes, dtype=torch.bool)
    pauses[0, 5:8] = True
    logits = noise(codes.shape).requires_grad_()
    mask = torch.ones_like(pauses)
    pause_loss(log_masses(logits, SILENCE), codes, pauses, mask, SILENCE).backward()
    assert logits.grad is not None
    reached = logits.grad.abs().sum(-1)[0].nonzero().flatten().tolist()
    assert reached == [2, 3, 4, 5, 6, 8, 9]


def test_both_sides_of_the_silence_mass_go_where_they_should():
    codes, _, mask = clip()
    is_silent = SILENCE[codes]
    right = of_odds(torch.where(is_silent, 0.999, 0.001))
    wrong = of_odds(torch.where(is_silent, 0.1, 0.001))
    false = of_odds(torch.where(is_silent, 0.999, 0.4))
    found = {
        name: silence_mass_losses(log_masses(logits, SILENCE), codes, mask, SILENCE)
        for name, logits in (("right", right), ("wrong", wrong), ("false", false))
    }
    assert sum(found["right"]) < 0.01
    assert found["wrong"][0] > found["right"][0]
    assert found["wrong"][1] == pytest.approx(float(found["right"][1]))
    assert found["false"][1] > found["right"][1]


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.02, 0.98))
def test_the_least_silence_mass_is_at_the_speakers_share(share):
    codes, _, mask = clip()
    own = SILENCE[codes][mask].float().mean()
    both = [
        sum(silence_mass_losses(log_masses(of_odds(p.expand(codes.shape)), SILENCE), codes, mask,
                                SILENCE))
        for p in (own, torch.tensor(share))
    ]  # fmt: skip
    assert both[0] <= both[1] + 1e-5


def test_the_rate_loss_is_zero_at_the_right_number_of_silent_frames():
    codes, _, mask = clip()
    share = (SILENCE[codes] & mask).sum(dim=1) / mask.sum(dim=1)
    right = share[:, None].expand(codes.shape)
    found = [
        float(rate_loss(log_masses(of_odds(p), SILENCE), codes, mask, SILENCE))
        for p in (right, 0.5 * right, 0.2 * right, 1.5 * right)
    ]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] < found[2]
    assert found[3] > 0


def test_events_are_learned_behind_their_first_frame():
    codes, pauses, _ = clip()
    logits = noise(codes.shape).requires_grad_()
    event_loss(token_losses(logits, codes), pauses).backward()
    assert logits.grad is not None
    reached = logits.grad.abs().sum(-1) > 0
    expected = pauses.clone()
    expected[0, [5, 18]] = expected[1, [6, 19]] = False
    assert torch.equal(reached, expected)


def test_distillation_is_zero_for_equals_and_grows_with_the_difference():
    mask = torch.ones(1, 5, dtype=torch.bool)
    wanted, change = noise((1, 5)), noise((1, 5), 2)
    found = [float(distillation(wanted + s * change, wanted, mask)) for s in (0.0, 0.5, 1.0)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] < found[2]


def all_losses(logits, codes, pauses, mask):
    masses = log_masses(logits, SILENCE)
    losses = token_losses(logits, codes)
    missing, false = silence_mass_losses(masses, codes, mask, SILENCE)
    return {
        "ce": masked_mean(losses, mask),
        "pause": pause_loss(masses, codes, pauses, mask, SILENCE),
        "missing": missing,
        "false": false,
        "rate": rate_loss(masses, codes, mask, SILENCE),
        "events": event_loss(losses, pauses & mask),
        "reference": reference_losses(logits, codes, mask, pauses, silence_code=1)["total"],
    }


def test_what_lies_behind_a_clip_changes_neither_losses_nor_gradients():
    codes, pauses, mask = clip()
    logits = noise(codes.shape)
    other = torch.where(mask[..., None], logits, 50.0).requires_grad_()
    plain = all_losses(logits, codes, pauses, mask)
    found = all_losses(other, torch.where(mask, codes, 1), pauses, mask)
    torch.testing.assert_close(plain, found)
    torch.stack([*found.values()]).sum().backward()
    assert other.grad is not None
    assert not other.grad[~mask].any()
    assert other.grad.isfinite().all()


def test_extreme_logits_in_half_precision_give_finite_losses_in_full():
    codes, pauses, mask = clip()
    logits = (100 * noise(codes.shape)).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = all_losses(logits, codes, pauses, mask)
    assert {value.dtype for value in found.values()} == {torch.float32}
    torch.stack([*found.values()]).sum().backward()
    assert all(value.isfinite() for value in found.values())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["ce", "pause", "missing", "false", "rate", "events", "reference"])
def test_every_loss_reaches_the_pattern(name):
    codes, pauses, mask = clip()
    torch.manual_seed(0)
    pattern = PatternEmbedding(8, 2, initialization="reference")
    read_out = torch.randn(8, N_CODES)
    told = pattern.get_injection_embedding(torch.randn(2, 4, 8)).sum(dim=1)  # (B, 8)
    logits = noise(codes.shape) + (told @ read_out)[:, None]
    all_losses(logits, codes, pauses, mask)[name].backward()
    assert all(p.grad is not None and p.grad.any() for p in pattern.parameters())
