"""What is done to a step's scores before a code is chosen, in the original's order.

Scores are (B, V) float32; a code that is ruled out gets -inf.
"""

from __future__ import annotations

import torch
from torch import Tensor

from indextts.config import DecodingConfig


def process(scores: Tensor, used: Tensor, config: DecodingConfig) -> Tensor:
    """Penalise, then narrow down (when drawing).

    Args:
        scores: (B, V) logits, or log-probabilities when there are several beams
        used: (B, V) bool, True on codes that the penalty sees
    """
    n_kept = 2 if config.num_beams > 1 else 1  # one beam may take the stop token, another goes on
    scores = penalise_repetition(scores, used, config.repetition_penalty)
    if config.typical_sampling:
        scores = keep_typical(scores, config.typical_mass, n_kept)
    if not config.do_sample:
        return scores
    scores = scores / config.temperature
    scores = keep_top_k(scores, max(config.top_k, n_kept)) if config.top_k else scores
    return keep_top_p(scores, config.top_p, n_kept)


def penalise_repetition(scores: Tensor, used: Tensor, penalty: float) -> Tensor:
    """Divide positive scores of used codes by `penalty`, multiply negative ones (Keskar 2019, 4.1).

    Log-probabilities are all negative, so with beams every used code is multiplied.
    """
    if penalty == 1.0:
        return scores
    penalised = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(used, penalised, scores)


def keep_typical(scores: Tensor, mass: float, n_kept: int = 1) -> Tensor:
    """Keep codes whose surprise is nearest the entropy, up to `mass` (Meister et al. 2022)."""
    log_probabilities = scores.log_softmax(-1)
    entropy = -(log_probabilities.exp() * log_probabilities).nansum(-1, keepdim=True)
    distance = (-log_probabilities - entropy).abs()
    order = distance.argsort(dim=-1, stable=True)
    cumulative = scores.gather(-1, order).softmax(-1).cumsum(-1)
    last = (cumulative < mass).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
    ranked_out = torch.arange(scores.shape[-1], device=scores.device) > last.clamp(min=n_kept - 1)
    return scores.masked_fill(_unsorted(ranked_out, order), -torch.inf)


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Keep the k best, and whatever equals the last of them."""
    worst = scores.topk(min(k, scores.shape[-1])).values[:, -1:]
    return scores.masked_fill(scores < worst, -torch.inf)


def keep_top_p(scores: Tensor, p: float, n_kept: int = 1) -> Tensor:
    """Keep the fewest best codes whose probabilities sum up to `p` (Holtzman et al. 2020)."""
    if p >= 1:
        return scores
    ascending, order = scores.sort(-1)
    ruled_out = ascending.softmax(-1).cumsum(-1) <= 1 - p
    ruled_out[:, -n_kept:] = False
    return scores.masked_fill(_unsorted(ruled_out, order), -torch.inf)


def draw(probabilities: Tensor, chances: Tensor) -> Tensor:
    """Draw without replacement, by numbers that are handed in: a row doesn't depend on its batch.

    Args:
        probabilities: (B, N), not necessarily summing up to 1
        chances: (B, n) float64, uniform in [0, 1)

    Returns:
        (B, n) long, in the order drawn; impossible ones come only when nothing else is left
    """
    # In double, what is left of a sum after the likeliest draws isn't lost to rounding, and 1e-60
    # is too little to be drawn while anything possible is left.
    weights = probabilities.double() + 1e-60
    drawn = []
    for chance in chances.unbind(1):
        cumulative = weights.cumsum(-1)
        target = (1 - chance[:, None]) * cumulative[:, -1:]  # above 0, so index has some weight
        index = torch.searchsorted(cumulative, target)
        index = index.clamp(max=weights.shape[1] - 1)  # among NaN nothing is found
        weights = weights.scatter(1, index, 0.0)
        drawn.append(index)
    return torch.cat(drawn, dim=1)


def _unsorted(mask: Tensor, order: Tensor) -> Tensor:
    """Bring a mask over sorted scores back to the order of the scores."""
    return torch.zeros_like(mask).scatter(-1, order, mask)
