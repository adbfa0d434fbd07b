import math

import pytest
import torch
from torch import Tensor

from lewm.loss import (
    MultiResolutionSpectralLoss,
    guided_attention,
    kl_to_standard_normal,
    reconstruction_l1,
    sigreg,
    stop_loss,
)

LENGTHS = torch.tensor([40, 23])


def mask_of(lengths: Tensor, n: int) -> Tensor:
    return torch.arange(n) < lengths[:, None]


def kl(x: Tensor, mask: Tensor) -> Tensor:
    return kl_to_standard_normal(*x.chunk(2, dim=-1), mask)


def l1(x: Tensor, mask: Tensor) -> Tensor:
    return reconstruction_l1(*x.transpose(1, 2).chunk(2, dim=1), mask)


def spectral(x: Tensor, mask: Tensor) -> Tensor:
    return MultiResolutionSpectralLoss((16, 32))(*x.transpose(1, 2).chunk(2, dim=1), mask)


def stop(x: Tensor, mask: Tensor) -> Tensor:
    return stop_loss(x[..., 0], mask)


def guide(x: Tensor, mask: Tensor) -> Tensor:
    attention = x[:, None].expand(-1, 4, -1, -1)
    return guided_attention([attention], torch.tensor([6, 4]), mask.sum(1))


def seeded_sigreg(x: Tensor, mask: Tensor) -> Tensor:
    torch.manual_seed(0)
    return sigreg(x, mask, n_directions=32)


@pytest.mark.parametrize("loss", [kl, l1, spectral, stop, guide, seeded_sigreg])
def test_padding_changes_neither_loss_nor_gradient(loss):
    torch.manual_seed(0)
    clean = torch.randn(2, 40, 6)
    results = []
    for n_extra, junk in ((0, 0.0), (24, torch.nan), (24, torch.inf)):
        mask = mask_of(LENGTHS, 40 + n_extra)
        x = torch.nn.functional.pad(clean, (0, 0, 0, n_extra))
        x = x.masked_fill(~mask[..., None], junk).requires_grad_()
        value = loss(x, mask)
        (gradient,) = torch.autograd.grad(value, x)
        results.append((value, gradient[mask]))
        assert gradient[~mask].abs().sum() == 0
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])


@pytest.mark.parametrize("loss", [kl, l1, spectral, stop])
def test_a_batch_costs_the_frame_weighted_mean_of_its_clips(loss):
    torch.manual_seed(0)
    x, mask = torch.randn(2, 40, 6), mask_of(LENGTHS, 40)
    alone = torch.stack(
        [loss(x[b : b + 1, :n], mask[b : b + 1, :n]) for b, n in enumerate(LENGTHS)]
    )
    torch.testing.assert_close(loss(x, mask), (alone * LENGTHS).sum() / LENGTHS.sum())


def test_kl_is_the_textbook_divergence_averaged_over_dimensions():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(1, 5, 3), torch.randn(1, 5, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0)
    ).mean()
    mask = torch.ones(1, 5, dtype=torch.bool)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance, mask), expected)


def test_the_last_real_frame_is_the_only_positive_and_weighs_eight():
    mask = mask_of(torch.tensor([3]), 5)
    undecided = stop_loss(torch.zeros(1, 5), mask)
    torch.testing.assert_close(undecided, torch.tensor((2 + 8) * math.log(2) / 3))
    right = torch.tensor([[-20.0, -20.0, 20.0, 20.0, -20.0]])
    assert stop_loss(right, mask) < 1e-6


def test_guided_attention_likes_the_diagonal_in_the_first_two_heads():
    n = 32
    diagonal, backwards = torch.eye(n), torch.eye(n).flip(0)
    lengths = torch.tensor([n])
    good = torch.stack([diagonal, diagonal, backwards, backwards])[None]
    bad = torch.stack([backwards, backwards, diagonal, diagonal])[None]
    assert guided_attention([good, good], lengths, lengths) == 0
    assert guided_attention([good, bad], lengths, lengths) > 0.3


def test_guided_attention_matches_its_formula():
    torch.manual_seed(0)
    attention = torch.rand(1, 2, 3, 4).softmax(-1)
    expected = sum(
        attention[0, h, t, n] * (1 - math.exp(-((t / 3 - n / 4) ** 2) / (2 * 0.15**2)))
        for h in range(2)
        for t in range(3)
        for n in range(4)
    )
    value = guided_attention([attention], torch.tensor([4]), torch.tensor([3]))
    torch.testing.assert_close(value, torch.as_tensor(expected) / (2 * 3))


def test_joined_clips_narrow_the_guide_by_the_root_of_their_number():
    torch.manual_seed(0)
    attention = torch.rand(1, 2, 30, 40).softmax(-1)
    lengths = torch.tensor([40]), torch.tensor([30])
    joined = guided_attention([attention], *lengths, n_joined=torch.tensor([3]))
    narrow = guided_attention([attention], *lengths, width=0.15 / math.sqrt(3))
    torch.testing.assert_close(joined, narrow)


def test_sigreg_matches_its_formula_in_one_dimension():
    z = torch.tensor([0.3, -1.2, 0.8, 2.0, -0.1])
    knots = torch.linspace(0, 3, 17)
    weights = torch.full((17,), 2 * 3 / 16)
    weights[[0, -1]] = 3 / 16
    normal = torch.exp(-(knots**2) / 2)
    angles = knots[:, None] * z
    error = (angles.cos().mean(1) - normal) ** 2 + angles.sin().mean(1) ** 2
    mask = torch.ones(5, 1, dtype=torch.bool)
    value = sigreg(z[:, None, None], mask, n_directions=8)  # a direction in one dimension is +-1
    torch.testing.assert_close(value, len(z) * (weights * normal * error).sum())


@pytest.mark.parametrize(
    "spoil", [lambda z: 0.2 * z, lambda z: z + 1, lambda z: z[..., :1] + 0 * z]
)
def test_sigreg_tells_a_standard_normal_from_other_clouds(spoil):
    torch.manual_seed(0)
    z, mask = torch.randn(512, 2, 8), torch.ones(512, 2, dtype=torch.bool)
    assert sigreg(spoil(z), mask, n_directions=64) > 5 * sigreg(z, mask, n_directions=64)


def test_the_spectral_loss_is_zero_for_a_copy_and_hears_blur_in_time():
    torch.manual_seed(0)
    mel, mask = torch.randn(2, 8, 96), torch.ones(2, 96, dtype=torch.bool)
    blurred = torch.nn.functional.avg_pool1d(mel, 5, stride=1, padding=2)
    loss = MultiResolutionSpectralLoss()
    assert loss(mel, mel, mask) == 0
    assert loss(blurred, mel, mask) > 0.5


def test_the_spectral_loss_takes_clips_shorter_than_its_windows():
    mel, mask = torch.randn(1, 8, 3, requires_grad=True), torch.ones(1, 3, dtype=torch.bool)
    loss = MultiResolutionSpectralLoss()(mel, torch.randn(1, 8, 3), mask)
    loss.backward()
    assert loss.isfinite()
    assert mel.grad is not None
    assert mel.grad.isfinite().all()
