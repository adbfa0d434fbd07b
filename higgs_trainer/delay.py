"""Audio as the network reads it: frames in which each codebook is one frame behind the one before.

A clip's codes (K, T) get a begin in front and an end behind, and row k is moved k places to the
right, begins before it and ends after it (the delay pattern of Copet et al. 2023, MusicGen). Frame
f is column f of that, so a clip takes T + K + 1 frames, the first of them all begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from higgs_trainer.config import Streams

IGNORED = -100


@dataclass(frozen=True)
class Cut:
    """What generated frames say.

    Attributes:
        codes: (K, T) long, all of them codes
        stopped: whether an end was generated; without one everything that is whole is taken
        first_row: the codebook that ended first; other than 0 in malformed speech
        n_strange: ends and begins in places of codes, each now the last code
    """

    codes: Tensor
    stopped: bool
    first_row: int = 0
    n_strange: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether it stopped as clips do in training."""
        return self.stopped and self.first_row == 0 and self.n_strange == 0


def delayed(codes: Tensor, streams: Streams) -> Tensor:
    """Frames (T + K + 1, K) of codes (K, T)."""
    n_codebooks, n_steps = codes.shape
    begin = codes.new_full((n_codebooks, 1), streams.begin_id)
    end = codes.new_full((n_codebooks, 1), streams.end_id)
    framed = torch.cat([begin, codes, end], dim=1)  # (K, T + 2)
    frames = codes.new_full((n_steps + n_codebooks + 1, n_codebooks), streams.end_id)
    for row in range(n_codebooks):
        frames[:row, row] = streams.begin_id
        frames[row : row + n_steps + 2, row] = framed[row]
    return frames


def undelayed(frames: Tensor) -> Tensor:
    """(K, F - K + 1) of frames (F, K), with the begin in front and the end behind."""
    n_frames, n_codebooks = frames.shape
    n_steps = n_frames - n_codebooks + 1
    return torch.stack([frames[row : row + n_steps, row] for row in range(n_codebooks)])


def labels_of(codes: Tensor, streams: Streams) -> Tensor:
    """What is learned at each frame (T + K + 1, K): every code, and one end for each codebook.

    The label stands at its own frame, and is predicted one place before it. Without the end a
    model never learns to stop.
    """
    n_codebooks, n_steps = codes.shape
    labels = codes.new_full((n_steps + n_codebooks + 1, n_codebooks), IGNORED)
    for row in range(n_codebooks):
        labels[row + 1 : row + 1 + n_steps, row] = codes[row]
        labels[row + 1 + n_steps, row] = streams.end_id
    return labels


def cut(frames: Tensor, streams: Streams) -> Cut:
    """The codes in generated frames (F, K), of which the first is all begins.

    An end in row i at frame f says that the speech is f - i - 1 steps long. What is generated after
    it isn't looked at: the last codebook needn't end in its own place, and whoever looks for a
    frame of nothing but ends (as `HiggsAudioV2Processor.batch_decode` does) may keep a step of
    garbage.
    """
    n_frames, n_codebooks = frames.shape
    if n_frames == 0 or not bool((frames[0] == streams.begin_id).all()):
        raise ValueError("generated frames begin with a frame of begins")
    n_whole = max(0, n_frames - n_codebooks)
    ends = (frames == streams.end_id).nonzero()
    stopped, first_row, n_steps = len(ends) > 0, 0, n_whole
    if stopped:
        first, row = (int(number) for number in ends[0])  # by frame, then by row
        n_steps, first_row = min(n_whole, max(0, first - row - 1)), row
    rows = [frames[1 + row : 1 + row + n_steps, row] for row in range(n_codebooks)]
    codes = torch.stack(rows)  # (K, T)
    n_strange = int((codes >= streams.n_codes).sum())
    return Cut(codes.clamp(max=streams.n_codes - 1), stopped, first_row, n_strange)
