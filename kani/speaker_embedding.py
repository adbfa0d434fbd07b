"""Who is speaking, in 128 numbers: what kani-tts-2 was trained to be told.

The encoder is Orange/Speaker-wavLM-tbr (CC-BY-SA-3.0), of which nineninesix/speaker-emb-tbr is a
copy: WavLM, mean and deviation over time, and two layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ttscommon import audio
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import atomic, read_json
from ttscommon.ledger import weights_key
from ttscommon.tensors import build, read_tensors

RATE = 16000
SHORTEST, LONGEST = 0.1, 30.0  # seconds; of what is longer, the beginning is heard
SPEAKER_EMB, FORMAT = "speaker_emb", "kani.speaker_embedding"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
FETCH = "python tools/download_checkpoints.py kani-voice, and its folder"
# Weight norm as torch named it before, and names it now.
OLDER = {".weight_g": "original0", ".weight_v": "original1"}
UNUSED = "wavlm.masked_spec_embed"  # of training
SMALL = 1e-10


class TopLayers(nn.Module):
    """(B, 2D) means and deviations to (B, E) embeddings of length 1."""

    def __init__(self, in_dim: int, inner_dim: int, embedding_dim: int):
        super().__init__()
        self.affine1 = nn.Conv1d(in_dim, inner_dim, 1)
        self.batchnorm1 = nn.BatchNorm1d(inner_dim, affine=False, eps=1e-3)
        self.affine2 = nn.Conv1d(inner_dim, embedding_dim, 1)
        self.batchnorm2 = nn.BatchNorm1d(embedding_dim, affine=False, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.batchnorm1(self.affine1(x[..., None]).relu())
        return F.normalize(self.batchnorm2(self.affine2(inner).relu())[..., 0])


class SpeakerEncoder(nn.Module):
    """The network, with the names of its checkpoint.

    Args:
        config: of WavLM, with embd_size and top_interm_size
    """

    def __init__(self, config: Any):
        super().__init__()
        from transformers import WavLMModel

        self.wavlm = WavLMModel(config)
        self.top_layers = TopLayers(
            2 * config.hidden_size, config.top_interm_size, config.embd_size
        )

    def forward(self, sound: Tensor) -> Tensor:
        """(B, E) of (B, S) at 16 kHz, all as long as they are."""
        centred = sound - sound.mean(dim=1, keepdim=True)
        heard = self.wavlm(centred / (sound.std(dim=1, keepdim=True) + SMALL)).last_hidden_state
        deviation = heard.var(dim=1).clamp(min=SMALL).sqrt()
        return self.top_layers(torch.cat([heard.mean(dim=1), deviation], dim=1))

    @torch.no_grad()
    def embed(self, sound: Tensor) -> Tensor:
        """(E,) on the CPU of (S,) at 16 kHz.

        Raises:
            UserError: if it is too short, or silent
        """
        if len(sound) < SHORTEST * RATE:
            raise UserError(f"a recording of less than {SHORTEST:g} s tells no voice")
        if not sound.any():
            raise UserError("a silent recording tells no voice")
        heard = sound[: round(LONGEST * RATE)].to(self.top_layers.affine1.weight)
        return self(heard[None])[0].cpu()

    def of_file(self, path: Path) -> Tensor:
        """The same of a recording.

        Raises:
            UserError: as `embed` does, or if it can't be read
        """
        try:
            return self.embed(torch.from_numpy(audio.load(path, RATE)))
        except UserError as error:
            raise UserError(error.what, where=path, fix=error.fix) from error


def load_encoder(folder: Path, device: torch.device | str = "cpu") -> SpeakerEncoder:
    """The encoder of a folder, safetensors only.

    Raises:
        UserError: if files are missing or broken, or another network's
    """
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"no speaker encoder: no {missing[0]}", where=folder, fix=FETCH)
    settings = read_json(folder / CONFIG_FILE)
    if not isinstance(settings, Mapping) or not {"embd_size", "top_interm_size"} <= {*settings}:
        what = "another encoder: no embd_size or top_interm_size"
        raise UserError(what, where=folder / CONFIG_FILE, fix=FETCH)
    from huggingface_hub.errors import StrictDataclassError
    from transformers import WavLMConfig

    tensors = read_tensors(folder / WEIGHTS_FILE)
    tensors = {_today(name): tensor for name, tensor in tensors.items() if name != UNUSED}
    where = folder / WEIGHTS_FILE
    try:
        config = WavLMConfig(**{**settings, "mask_time_prob": 0.0, "mask_feature_prob": 0.0})
        return build(lambda: SpeakerEncoder(config), tensors, where=where, device=device, fix=FETCH)
    except (StrictDataclassError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        what = f"settings of no network: {reason}"
        raise UserError(what, where=folder / CONFIG_FILE, fix=FETCH) from error


def _today(name: str) -> str:
    for ending, place in OLDER.items():
        if name.endswith(ending):
            return f"{name.removesuffix(ending)}.parametrizations.weight.{place}"
    return name


def encoder_mark(folder: Path) -> str:
    """Names an encoder by its weights.

    Raises:
        UserError: if there are none
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"no speaker encoder: no {WEIGHTS_FILE}", where=folder, fix=FETCH)
    return fingerprint(weights_key(path))


def mean_of(embeddings: Iterable[Tensor]) -> Tensor:
    """(E,) of length 1: the voice of several recordings."""
    return F.normalize(torch.stack(list(embeddings)).mean(dim=0), dim=0)


def save_embedding(path: Path, embedding: Tensor) -> None:
    with atomic(path) as draft:
        header = {"format": FORMAT, "version": "1"}
        save_file({SPEAKER_EMB: embedding.contiguous()}, draft, metadata=header)


def read_embedding(path: Path) -> Tensor:
    """(E,) of a file of ours, or of the public program's (.pt).

    Raises:
        UserError: if it is none
    """
    tensors = read_tensors(path)
    found = next(iter(tensors.values())).float().flatten() if len(tensors) == 1 else torch.zeros(0)
    if not (len(found) and found.isfinite().all() and found.any()):
        raise UserError("no speaker embedding: one tensor of finite numbers is", where=path)
    return found


def voice_of(paths: Sequence[Path], encoder: Path, device: torch.device | str = "cpu") -> Tensor:
    """(E,) of recordings of one speaker.

    Raises:
        UserError: if a recording or the encoder can't be used
    """
    network = load_encoder(encoder, device)
    return mean_of(network.of_file(path) for path in paths)
