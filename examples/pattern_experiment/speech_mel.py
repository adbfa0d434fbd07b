"""Codes to sound: a small convolutional network that knows who speaks, then Griffin-Lim.

The network averages over everything that codes don't tell, such as the melody; what is left is
clear enough for a recogniser, and its pauses are where the codes have them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.pattern_experiment.speech_bank import RATE
from lewm.vocoder import GriffinLim
from ttscommon.files import atomic
from ttscommon.mel import MelRecipe, log_mel
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

HOP = 160  # two frames of the mel for each code
RECIPE = MelRecipe(sample_rate=RATE, n_fft=640, hop_length=HOP, n_mels=80)
LOWEST = -9.0  # of a log mel; what is below isn't heard
WIDTH, EMBEDDING, BEFORE, BEHIND, REACH = 192, 96, 3, 2, 5
CROP, BATCH, PEAK_RATE = 64, 16, 2e-3


def mel_of(audio: NDArray[np.float32], n_codes: int) -> NDArray[np.float16]:
    """(S,) -> (2 T, M), the log mel of so many codes."""
    padded = np.pad(audio, (0, max(0, n_codes * 2 * HOP - len(audio))))
    found = log_mel(torch.from_numpy(padded), RECIPE)[:, : 2 * n_codes].clamp(min=LOWEST)
    return found.T.numpy().astype(np.float16)


class Block(nn.Module):
    """What stands around a frame, added to it."""

    def __init__(self, width: int):
        super().__init__()
        self.around = nn.Conv1d(width, width, REACH, padding=REACH // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)"""
        return x + F.gelu(self.around(self.norm(x.transpose(1, 2)).transpose(1, 2)))


class MelNetwork(nn.Module):
    """Codes and a voice to a log mel."""

    def __init__(self, n_codes: int, n_voices: int):
        super().__init__()
        self.codes = nn.Embedding(n_codes, EMBEDDING)
        self.voices = nn.Embedding(n_voices, EMBEDDING)
        self.first = nn.Conv1d(2 * EMBEDDING, WIDTH, REACH, padding=REACH // 2)
        self.before = nn.Sequential(*(Block(WIDTH) for _ in range(BEFORE)))
        self.twice = nn.ConvTranspose1d(WIDTH, WIDTH, 2, stride=2)
        self.behind = nn.Sequential(*(Block(WIDTH) for _ in range(BEHIND)))
        self.last = nn.Conv1d(WIDTH, RECIPE.n_mels, 1)

    def forward(self, codes: Tensor, voices: Tensor) -> Tensor:
        """(B, T) and (B,) -> (B, M, 2 T)"""
        said = self.codes(codes)
        who = self.voices(voices)[:, None].expand_as(said)
        x = self.before(self.first(torch.cat([said, who], 2).transpose(1, 2)))
        return 4 * self.last(self.behind(self.twice(x))) - 5


def train_mel(
    path: Path,
    codes: Sequence[NDArray],
    voices: Sequence[int],
    mels: Sequence[NDArray],
    *,
    n_codes: int,
    steps: int,
    seed: int,
) -> MelNetwork:
    """Learn the mels of recordings from their codes, if it wasn't done before.

    Args:
        codes: (T,) of each; mels: (2 T, M)
    """
    if path.is_file():
        return load_mel(path)
    torch.manual_seed(seed_for(seed, "mel weights"))
    network = MelNetwork(n_codes, max(voices) + 1)
    optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps, pct_start=0.1)
    long = [i for i, own in enumerate(codes) if len(own) >= CROP]
    total = 0.0
    for step in range(1, steps + 1):
        chance = np.random.default_rng(seed_for(seed, "mel", step))
        rows, who, wanted = [], [], []
        for i in chance.choice(long, BATCH):
            first = int(chance.integers(len(codes[i]) - CROP + 1))
            rows.append(codes[i][first : first + CROP].astype(np.int64))
            wanted.append(mels[i][2 * first : 2 * (first + CROP)].T.astype(np.float32))
            who.append(voices[i])
        made = network(torch.from_numpy(np.stack(rows)), torch.tensor(who))
        loss = F.l1_loss(made, torch.from_numpy(np.stack(wanted)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            log.info("mel step %d/%d  L1 %.3f", step, steps, total / 100)
            total = 0.0
    with atomic(path) as draft:
        torch.save(network.state_dict(), draft)
    return network.eval()


def load_mel(path: Path) -> MelNetwork:
    """What `train_mel` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = MelNetwork(len(state["codes.weight"]), len(state["voices.weight"]))
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def spoken(network: MelNetwork, codes: NDArray, voice: int) -> NDArray[np.float32]:
    """(T,) -> (S,) at RATE"""
    ids = torch.from_numpy(codes.astype(np.int64))[None]
    mel = network(ids, torch.tensor([voice]))
    sound = GriffinLim(RECIPE).synthesize(mel)[0].numpy()
    return (sound / max(1.0, float(np.abs(sound).max()) / 0.95)).astype(np.float32)
