"""What IndexTTS2 knows of a voice: the four tensors a stored speaker consists of."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SpeakerFeatures:
    """A voice; named as in stored speaker embeddings.

    Attributes:
        spk_cond_emb: (1, L, D) normalised w2v-bert features, 50 a second
        style: (1, E) speaker vector
        prompt_condition: (1, P, C) from the length regulator
        ref_mel: (1, M, P) of the reference
    """

    spk_cond_emb: Tensor
    style: Tensor
    prompt_condition: Tensor
    ref_mel: Tensor

    def __post_init__(self) -> None:
        n_conditions, n_frames = self.prompt_condition.shape[1], self.ref_mel.shape[2]
        if n_conditions != n_frames:
            raise ValueError(f"{n_conditions} prompt conditions for {n_frames} mel frames")
