"""Every clip through the frozen audio encoder once, kept in one memory-mapped file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lewm.dataset import MelTable
from lewm.model import LeWMTTS
from ttscommon.batching import pad
from ttscommon.checkpoints import fingerprint
from ttscommon.files import atomic, read_json, write_json
from ttscommon.machine import processes

log = logging.getLogger(__name__)

BATCH_CLIPS = 16


class LatentTable:
    """The frozen audio encoder's means for every clip, in one memory-mapped file."""

    def __init__(self, path: Path, n_latents: np.ndarray, fingerprint: str):
        self._path, self.fingerprint = path, fingerprint
        self._offsets = np.concatenate([[0], np.cumsum(n_latents)])
        self._flat = np.load(path, mmap_mode="r", allow_pickle=False)

    def frames(self, index: int) -> Tensor:
        """(T, C) float32, not standardised."""
        rows = self._flat[self._offsets[index] : self._offsets[index + 1]]
        return torch.from_numpy(np.array(rows))

    def statistics(self, items: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent dimension over these clips: (C,), (C,)."""
        total, squares, count = np.zeros(()), np.zeros(()), 0
        for item in items:
            rows = self.frames(item).numpy().astype(np.float64)
            total, squares = total + rows.sum(0), squares + np.square(rows).sum(0)
            count += len(rows)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return torch.from_numpy(mean).float(), torch.from_numpy(std).float()

    def __getstate__(self) -> dict[str, object]:
        kept = ("_path", "_offsets", "fingerprint")
        return {name: self.__dict__[name] for name in kept}  # each loader process maps anew

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._flat = np.load(self._path, mmap_mode="r", allow_pickle=False)


def encode_all(model: LeWMTTS, mels: MelTable, folder: Path, autoencoder: Path) -> LatentTable:
    """Encode every clip.

    Args:
        folder: keeps the file for the next start as long as autoencoder and data are the same
        autoencoder: the checkpoint folder that `model` was read from
    """
    path, n_latents = folder / "latents.npy", n_latents_of(mels, model.config.downsample)
    made_from = {
        "autoencoder": hashlib.sha256((autoencoder / "model.safetensors").read_bytes()).hexdigest(),
        "data": mels.store.fingerprint,
    }
    with processes(mels.device_name).main_process_first():
        note = folder / "latents.json"
        if not (note.exists() and path.exists() and read_json(note) == made_from):
            log.info("encoding %d clips", len(mels.store))
            _write_latents(model.to(mels.device).eval(), mels, path, n_latents)
            write_json(note, made_from)
    return LatentTable(path, n_latents, fingerprint(made_from))


@torch.no_grad()
def _write_latents(model: LeWMTTS, mels: MelTable, path: Path, n_latents: np.ndarray) -> None:
    device = model.mel_mean.device
    offsets = np.concatenate([[0], np.cumsum(n_latents)])
    order = np.argsort(mels.n_frames, kind="stable")
    with atomic(path) as draft:
        shape = (int(offsets[-1]), model.config.latent_dim)
        flat = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
        for start in range(0, len(order), BATCH_CLIPS):
            items = order[start : start + BATCH_CLIPS].tolist()
            frames, mask = pad([mels.frames(item) for item in items])
            mel = model.normalise(frames.transpose(1, 2).to(device))
            mean, _ = model.audio_encoder(mel, mask.to(device))
            for row, item in enumerate(items):
                flat[offsets[item] : offsets[item + 1]] = mean[row, : n_latents[item]].cpu().numpy()
        flat.flush()


def n_latents_of(mels: MelTable, downsample: int) -> np.ndarray:
    """(N,) latent frames of each clip."""
    return -(-mels.n_frames // downsample)
