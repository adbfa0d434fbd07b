"""Conditional flow matching (Lipman et al. 2023): from noise to a mel by following velocities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from indextts.s2mel.config import DiTConfig
from indextts.s2mel.dit import DiT

SIGMA_MIN = 1e-6  # width of the flow's end around each training mel


class CFM(nn.Module):
    """The flow; its estimator may work in half precision, the mel itself stays in float32."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.estimator = DiT(config)

    @torch.no_grad()
    def inference(
        self,
        condition: Tensor,
        prompt: Tensor,
        style: Tensor,
        noise: Tensor,
        *,
        lengths: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        n_steps: int = 25,
        guidance: float = 0.7,
        temperature: float = 1.0,
        flow_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Solve the flow by Euler steps with classifier-free guidance (Ho and Salimans 2022).

        Rows of unequal length give what each gives alone, up to rounding.

        Args:
            condition: (B, T, C) for the prompt's frames, then for the frames to make
            prompt: (B, M, P) mel of the voice
            style: (B, E) speaker vector
            noise: (B, M, T) standard normal
            lengths: (B,) real frames of each row; all T by default
            prompt_lengths: (B,) frames of each row's prompt; all P by default
            guidance: how far to go on from the unconditioned velocity past the conditioned one
            temperature: factor of the noise
            flow_dtype: what the estimator computes in; None: what its weights are in

        Returns:
            (B, M, T) float32, zero in the prompt's frames and in the padding
        """
        n_rows, n_frames = len(noise), noise.shape[-1]
        if lengths is not None and bool((lengths == n_frames).all()):
            lengths = None  # spares a mask in every layer
        is_fixed, start = _fixed_frames(n_frames, prompt, lengths, prompt_lengths)
        dtype = flow_dtype or self.estimator.conv1.weight.dtype
        weights, options = _weights_in(dtype, self.estimator), {"own_ends": True}
        guides = [start.to(dtype), style.to(dtype), condition.to(dtype)]
        if guidance > 0:
            guides = [torch.cat([guide, torch.zeros_like(guide)]) for guide in guides]
        n_copies = len(guides[0]) // n_rows
        lengths = lengths if lengths is None else lengths.repeat(n_copies)
        grid = torch.linspace(0, 1, n_steps + 1)
        steps = grid.diff()
        x, time = (temperature * noise.float()).masked_fill(is_fixed, 0), grid[0]
        for step in steps:
            inputs = (
                x.to(dtype).repeat(n_copies, 1, 1),
                guides[0],
                lengths,
                torch.full((n_copies * n_rows,), float(time), device=x.device),
                *guides[1:],
            )
            velocity = functional_call(self.estimator, weights, inputs, options).float()
            velocity = _guided(velocity, guidance) if guidance > 0 else velocity
            x = (x + float(step) * velocity).masked_fill(is_fixed, 0)
            time = time + step  # a running sum, as in the original
        return x

    def loss(
        self,
        mel: Tensor,
        lengths: Tensor,
        prompt_lengths: Tensor,
        condition: Tensor,
        style: Tensor,
        time: Tensor,
        noise: Tensor,
        *,
        mask_content: bool = False,
    ) -> Tensor:
        """L1 of the estimated velocity to mel - (1 - sigma) noise, behind the prompt.

        Args:
            mel: (B, M, T) speech
            lengths, prompt_lengths: (B,) real frames, and those of them given as prompt
            condition: (B, T, C)
            style: (B, E)
            time: (B,) uniform in 0..1
            noise: (B, M, T) standard normal

        Returns:
            () mean over rows of each row's mean
        """
        frames = torch.arange(mel.shape[-1], device=mel.device)
        is_prompt = (frames < prompt_lengths[:, None])[:, None]  # (B, 1, T)
        is_target = (frames < lengths[:, None])[:, None] & ~is_prompt
        t = time[:, None, None]
        noisy = (1 - (1 - SIGMA_MIN) * t) * noise + t * mel
        velocity = self.estimator(
            noisy.masked_fill(is_prompt, 0),
            mel.masked_fill(~is_prompt, 0),
            lengths,
            time,
            style,
            condition,
            mask_content=mask_content,
        )
        error = (velocity - (mel - (1 - SIGMA_MIN) * noise)).abs().masked_fill(~is_target, 0)
        n_numbers = is_target.sum(dim=(1, 2)).clamp(min=1) * mel.shape[1]
        return (error.sum(dim=(1, 2)) / n_numbers).mean()


def _guided(velocity: Tensor, guidance: float) -> Tensor:
    """Informed and free velocities, one behind the other: (2B, M, T) -> (B, M, T)"""
    informed, free = velocity.chunk(2)
    return (1 + guidance) * informed - guidance * free


def _weights_in(dtype: torch.dtype, estimator: DiT) -> dict[str, Tensor]:
    """Weights of the estimator that are of another type, cast."""
    return {
        name: weight.to(dtype)
        for name, weight in estimator.named_parameters()
        if weight.dtype != dtype
    }


def _fixed_frames(
    n_frames: int, prompt: Tensor, lengths: Tensor | None, prompt_lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Where the flow stays zero (B or 1, 1, T) bool, and the prompts lengthened to (B, M, T)."""
    n_prompt = prompt.shape[-1]
    if n_prompt >= n_frames:
        raise ValueError(f"a prompt of {n_prompt} frames leaves no room in {n_frames}")
    frames = torch.arange(n_frames, device=prompt.device)[None, None]
    ends = n_prompt if prompt_lengths is None else prompt_lengths[:, None, None]
    is_prompt = frames < ends
    start = nn.functional.pad(prompt, (0, n_frames - n_prompt)).masked_fill(~is_prompt, 0)
    if lengths is not None:
        return is_prompt | (frames >= lengths[:, None, None]), start
    return is_prompt, start
