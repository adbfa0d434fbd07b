"""The codec of Higgs Audio: sound to codes and back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higgs_trainer.codec_weights import ORIGINAL_FILE, native_tensors, network_of
from higgs_trainer.config import Streams
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.ledger import weights_key
from ttscommon.tensors import build, read_tensors
from ttscommon.transformers_bars import without_bars

KIND = "higgs_audio_v2_tokenizer"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
ORIGINAL_KEYS = ("semantic_techer", "ratios", "n_q")
FETCH = "fetch bosonai/higgs-audio-v2-tokenizer again"


@dataclass(frozen=True)
class Codec:
    """A loaded codec.

    Attributes:
        network: `HiggsAudioV2TokenizerModel`, in eval mode
        name: changes with its weights and settings, so that stored codes can be told apart
    """

    network: Any
    name: str

    @property
    def sample_rate(self) -> int:
        return self.network.config.sample_rate

    @property
    def hop_length(self) -> int:
        return self.network.config.hop_length

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop_length

    @property
    def n_codebooks(self) -> int:
        return self.network.config.num_quantizers

    @property
    def n_codes(self) -> int:
        return self.network.config.codebook_size

    @torch.no_grad()
    def encode(self, audio: np.ndarray) -> Tensor:
        """(K, T) long of (S,) sound at `sample_rate`; T is about S / hop_length.

        Raises:
            UserError: if it is too short for one frame
        """
        if 2 * len(audio) < self.hop_length:
            raise UserError(f"no sound: 0 frames, {len(audio)} samples are less than half of one")
        device = next(self.network.parameters()).device
        values = torch.from_numpy(np.ascontiguousarray(audio, np.float32))[None, None].to(device)
        return self.network.encode(values).audio_codes[0].long().cpu()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> np.ndarray:
        """(T * hop_length,) sound of codes (K, T)."""
        device = next(self.network.parameters()).device
        values = self.network.decode(codes[None].to(device)).audio_values
        return values.flatten().float().cpu().numpy()

    def require_fit(self, streams: Streams) -> None:
        """Refuse a codec whose codes the model doesn't know.

        Raises:
            UserError: with both shapes
        """
        if (self.n_codebooks, self.n_codes) != (streams.n_codebooks, streams.n_codes):
            raise UserError(
                f"this codec has {self.n_codebooks} codebooks of {self.n_codes} codes, the model "
                f"{streams.n_codebooks} of {streams.n_codes}",
                fix="take the codec that was released with the model",
            )

    def report(self) -> str:
        """What it does, in a line."""
        return (
            f"codec: {self.sample_rate} Hz, a frame each {self.hop_length} samples "
            f"({self.frame_rate:g} a second), {self.n_codebooks} codebooks of {self.n_codes} codes"
        )


def load_codec(folder: Path, device: torch.device | str = "cpu") -> Codec:
    """Read a codec in either format, with the ratios that its config.json gives.

    Raises:
        UserError: if the folder holds none, or a broken one
    """
    config = read_json(folder / CONFIG_FILE)
    is_original = _is_original(config, folder / CONFIG_FILE)
    weights = folder / (ORIGINAL_FILE if is_original else WEIGHTS_FILE)
    if not weights.is_file():
        raise UserError("no weights of the codec", where=weights, fix=FETCH)
    network = _converted(config, weights) if is_original else _native(folder)
    described = hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()
    name = hashlib.sha256(f"{weights_key(weights)} {described}".encode()).hexdigest()[:12]
    return Codec(network.to(device).eval().requires_grad_(False), name)


def _native(folder: Path) -> Any:
    from safetensors import SafetensorError
    from transformers import HiggsAudioV2TokenizerModel

    try:
        with without_bars():
            loaded: Any = HiggsAudioV2TokenizerModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"no usable codec: {error}", where=folder, fix=FETCH) from error
    network, found = loaded
    wrong = sorted(found["missing_keys"]) + sorted(map(str, found["mismatched_keys"]))
    if wrong:
        what = f"{len(wrong)} tensors are missing, {wrong[0]} first"
        raise UserError(what, where=folder / WEIGHTS_FILE)
    return network


def _converted(config: dict[str, Any], weights: Path) -> Any:
    """The same network of a codec in its original format."""
    from transformers import HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

    original = read_tensors(weights, fix=FETCH)
    network = network_of(config, original, weights.parent / CONFIG_FILE)
    fix = "model.pth and config.json must come from the same release"
    return build(
        lambda: HiggsAudioV2TokenizerModel(HiggsAudioV2TokenizerConfig(**network)),
        native_tensors(original),
        where=weights,
        fix=fix,
    )


def _is_original(config: Any, where: Path) -> bool:
    """Whether a config.json is of the original format; refuses what is of neither."""
    if not isinstance(config, dict) or config.get("model_type") != KIND:
        if isinstance(config, dict) and all(key in config for key in ORIGINAL_KEYS):
            return True
        raise UserError("no codec of Higgs Audio", where=where, fix=FETCH)
    acoustic = config.get("acoustic_model_config") or {}
    if "downsampling_ratios" not in acoustic or "target_bandwidths" not in config:
        raise UserError(
            "incomplete: no downsampling_ratios or target_bandwidths, and the defaults of "
            "transformers are another codec's (75 frames a second)",
            where=where,
            fix=FETCH,
        )
    return False
