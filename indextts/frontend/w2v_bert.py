"""w2v-bert 2.0 (Barrault et al. 2023, SeamlessM4T): features of a recording, 50 a second.

The network is transformers' own. IndexTTS2 reads the output of its 17th layer of 24, so the others
are neither built nor read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from indextts.tensors import AGAIN, build, read_tensors
from ttscommon.config import read_mapping
from ttscommon.errors import UserError

SAMPLE_RATE = 16_000
N_LAYERS = 17
# Frames of 10 ms, in pairs: what three pairs take, and the GPT's conformers need three.
MIN_SAMPLES = 400 + 4 * 160
PARTS = ("feature_projection.", "encoder.")  # the rest of the file is for training
LAYER = re.compile(r"^encoder\.layers\.(\d+)\.")


class W2vBert:
    """Features of a recording, normalised by the statistics IndexTTS2 was trained with.

    Args:
        model: a Wav2Vec2BertModel that ends with the layer to read
        extractor: its SeamlessM4TFeatureExtractor
        mean, var: (D,) of each feature over the training data
    """

    def __init__(self, model, extractor, mean: Tensor, var: Tensor):
        self.model, self.extractor = model, extractor
        self.mean, self.std = mean.to(model.device), var.sqrt().to(model.device)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        stats_path: Path,
        *,
        n_layers: int = N_LAYERS,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> W2vBert:
        """Read the first `n_layers` layers of a model folder as the hub has it.

        Args:
            stats_path: torch file with `mean` and `var`

        Raises:
            UserError: if a file is missing or broken, or they don't fit one another
        """
        from transformers import (  # takes a moment to import
            SeamlessM4TFeatureExtractor,
            Wav2Vec2BertConfig,
            Wav2Vec2BertModel,
        )

        for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(f"no {name} of w2v-bert 2.0", where=folder)
        config = Wav2Vec2BertConfig.from_dict(_settings(folder / "config.json"))
        # Before the weights, so that a broken file is told at once.
        extractor = SeamlessM4TFeatureExtractor.from_dict(
            _settings(folder / "preprocessor_config.json")
        )
        _require_fit(config, n_layers, folder)
        config.num_hidden_layers = n_layers
        config.mask_time_prob = config.mask_feature_prob = 0.0  # of training; no vector for masks
        tensors = {
            key: value
            for key, value in read_tensors(folder / "model.safetensors").items()
            if key.startswith(PARTS)
            and ((layer := LAYER.match(key)) is None or int(layer[1]) < n_layers)
        }
        where = folder / "model.safetensors"
        model = build(
            lambda: Wav2Vec2BertModel(config), tensors, where=where, dtype=dtype, device=device
        )
        mean, var = _statistics(stats_path, config.hidden_size)
        return cls(model, extractor, mean, var)

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        """Mono audio (1, S) at 16 kHz, -1..1, to (1, L, D) float32, L about S / 320.

        The last frame may be padding to an even number of 10 ms frames; the original keeps it.

        Raises:
            UserError: if the audio is shorter than 65 ms
        """
        if audio.shape[-1] < MIN_SAMPLES:
            given, least = (1000 * n / SAMPLE_RATE for n in (audio.shape[-1], MIN_SAMPLES))
            raise UserError(f"{given:.1f} ms of reference audio; at least {least:.0f} are needed")
        inputs = self.extractor(
            audio[0].cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        )
        features = inputs["input_features"].to(self.model.device, self.model.dtype)
        mask = inputs["attention_mask"].to(self.model.device)
        hidden = self.model(features, attention_mask=mask).last_hidden_state.float()
        return (hidden - self.mean) / self.std


def _settings(path: Path) -> dict[str, Any]:
    try:
        return read_mapping(path)
    except UserError as error:
        raise UserError(error.what, where=path, fix=AGAIN) from error


def _require_fit(config, n_layers: int, folder: Path) -> None:
    if config.num_hidden_layers < n_layers:
        what = f"{config.num_hidden_layers} layers, but the {n_layers}th is to be read"
        raise UserError(what, where=folder / "config.json")
    if config.position_embeddings_type != "relative_key" or config.add_adapter:
        raise UserError("this isn't w2v-bert 2.0", where=folder / "config.json")


def _statistics(path: Path, width: int) -> tuple[Tensor, Tensor]:
    """(D,) mean and (D,) variance, float32"""
    found = read_tensors(path)
    shapes = {name: list(tensor.shape) for name, tensor in found.items()}
    if shapes != {"mean": [width], "var": [width]}:
        raise UserError(f"expected mean and var of {[width]}, found {shapes}", where=path)
    return found["mean"].float(), found["var"].float()
