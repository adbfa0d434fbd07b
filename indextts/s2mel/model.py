"""Everything in s2mel.pth: from semantic codes and a voice to mels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from indextts.s2mel.cfm import CFM
from indextts.s2mel.config import S2MelConfig
from indextts.s2mel.length_regulator import LengthRegulator
from indextts.s2mel.speaker import SpeakerFeatures

FRAMES_PER_CODE = 1.72  # the original's; 86.13 frames and 50 codes a second make 1.7227


@dataclass(frozen=True)
class BatchLimits:
    """How much is put into one batch of the flow.

    Attributes:
        n_frames: most frames, padding included; a longer segment goes alone
        padding: largest share of a row that may be padding
    """

    n_frames: int
    padding: float


# A GPU is idle without large batches. A CPU gains 5 to 10 % from small ones, which much padding
# takes away again, and loses by large ones, whose activations leave its cache.
LIMITS = {"cpu": BatchLimits(2_560, 0.03)}
LIMITS_ELSEWHERE = BatchLimits(16_384, 0.1)


class S2Mel(nn.Module):
    """Length regulator, flow and the layers that carry the GPT's latents over."""

    def __init__(self, config: S2MelConfig):
        super().__init__()
        self.config = config
        self.cfm = CFM(config.dit)
        self.length_regulator = LengthRegulator(config.length_regulator)
        dims = pairwise(config.gpt_layer_dims)
        # Without activations in between, as in the official checkpoint.
        self.gpt_layer = nn.Sequential(*[nn.Linear(n_in, n_out) for n_in, n_out in dims])

    @torch.no_grad()
    def prompt_condition(self, semantic: Tensor, n_frames: int) -> Tensor:
        """Quantised semantic features (1, L, D) as the voice's condition (1, n_frames, C)."""
        return self.length_regulator(semantic, torch.tensor([n_frames], device=semantic.device))

    @torch.no_grad()
    def condition(self, embedded: Tensor, latent: Tensor, duration_factor: float = 1.0) -> Tensor:
        """What to say, frame by frame.

        One segment a call: the length regulator mixes a row with whatever it is padded with.

        Args:
            embedded: (1, L, D) codes of a segment, embedded by the semantic codec
            latent: (1, L, G) the GPT's second pass over them
            duration_factor: stretches the segment

        Returns:
            (1, T, C) with T = floor(1.72 L duration_factor), at least 1
        """
        n_frames = max(1, int(embedded.shape[1] * FRAMES_PER_CODE * duration_factor))
        semantic = embedded + self.gpt_layer(latent)
        return self.length_regulator(semantic, torch.tensor([n_frames], device=semantic.device))

    @torch.no_grad()
    def mels(
        self,
        conditions: Sequence[Tensor],
        speakers: Sequence[SpeakerFeatures],
        noises: Sequence[Tensor],
        *,
        n_steps: int = 25,
        guidance: float = 0.7,
        temperature: float = 1.0,
        limits: BatchLimits | None = None,
        flow_dtype: torch.dtype | None = None,
    ) -> list[Tensor]:
        """Mels of several segments, those of like length in one batch.

        Args:
            conditions: (1, T, C) of each segment
            speakers: whose voice, for each segment
            noises: (1, M, P + T) standard normal for each segment, its prompt's frames included
            limits: of the batches; by default those that suit the device
            flow_dtype: what the flow's estimator computes in; None: what its weights are in

        Returns:
            (1, M, T) for each segment, in the order given
        """
        rows = [
            (torch.cat([speaker.prompt_condition, condition], dim=1), speaker, noise)
            for condition, speaker, noise in zip(conditions, speakers, noises, strict=True)
        ]
        lengths = [row[0].shape[1] for row in rows]
        if limits is None and rows:
            limits = LIMITS.get(rows[0][0].device.type, LIMITS_ELSEWHERE)
        mels: dict[int, Tensor] = {}
        for group in _groups(lengths, limits or LIMITS_ELSEWHERE):
            chosen = [rows[i] for i in group]
            condition, speaker, noise = zip(*chosen, strict=True)
            prompts = [one.ref_mel for one in speaker]
            device = condition[0].device
            prompt_lengths = [prompt.shape[2] for prompt in prompts]
            made = self.cfm.inference(
                pad_sequence([one[0] for one in condition], batch_first=True),
                _padded(prompts),
                torch.cat([one.style for one in speaker]),
                _padded(noise),
                lengths=torch.tensor([lengths[i] for i in group], device=device),
                prompt_lengths=torch.tensor(prompt_lengths, device=device),
                n_steps=n_steps,
                guidance=guidance,
                temperature=temperature,
                flow_dtype=flow_dtype,
            )
            for row, i in enumerate(group):
                mels[i] = made[row : row + 1, :, prompt_lengths[row] : lengths[i]]
        return [mels[i] for i in range(len(rows))]


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows (1, M, T) of unequal T in one (B, M, T), zeros behind."""
    return pad_sequence([row[0].T for row in rows], batch_first=True).transpose(1, 2)


def _groups(lengths: Sequence[int], limits: BatchLimits) -> Iterator[list[int]]:
    """Places of like lengths, the longest first."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    group: list[int] = []
    for i in order:
        if group:
            longest = lengths[group[0]]
            is_full = (len(group) + 1) * longest > limits.n_frames
            if is_full or lengths[i] < (1 - limits.padding) * longest:
                yield group
                group = []
        group.append(i)
    if group:
        yield group
