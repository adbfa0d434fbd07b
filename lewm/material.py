"""What a training run works on: the data, its split, and the model it starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lewm import weights
from lewm.config import ModelConfig, TrainConfig
from lewm.dataset import MelTable, split_by_recording
from lewm.features import FeatureStore
from lewm.model import LeWMTTS
from lewm.validation import HeldOut
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)


class Material:
    """Data, split and settings of one training run, and the model it starts from.

    Attributes:
        training, held_out: clips of whom the model is trained on
        replayed: clips of the base's own voices, for a new voice's training
        base_speakers: voices of the checkpoint to start from
        base_info: what the checkpoint to start from says of itself
    """

    def __init__(
        self,
        store: FeatureStore,
        model_config: ModelConfig,
        config: TrainConfig,
        device: str,
        init_from: Path | None,
    ):
        self.store, self.model_config, self.config = store, model_config, config
        self.init_from, self.device_name = init_from, device
        self.training, self.held_out = split_by_recording(
            store, config.validation_share, config.seed
        )
        base, self.base_info = weights.describe(init_from) if init_from else (None, None)
        self.base_speakers = base.speakers if base else ()
        is_new = [name not in self.base_speakers for name in store.speakers]
        self.replayed: list[int] = []
        if config.replay_share and any(is_new):  # clips of the base's voices are there for this
            self.replayed = [item for item in self.training if not is_new[item]]
            self.training, self.held_out = (
                [item for item in items if is_new[item]] for items in (self.training, self.held_out)
            )
        self.mels = MelTable(store, config.cache_mels, device, config.workers)
        log.info(
            "%d clips, %.1f min for training; %d held out",
            *(len(self.training), self._minutes(self.training), len(self.held_out)),
        )

    def new_model(self) -> LeWMTTS:
        """A model with this seed's random weights, or those to fine-tune from."""
        torch.manual_seed(seed_for(self.config.seed, "init"))
        model = LeWMTTS(self.model_config, self.store.recipe)
        model.set_mel_statistics(self.store.mel_mean, self.store.mel_std)
        if self.init_from is not None:
            for line in weights.init_from(model, self.init_from):
                log.info("%s", line)
        return model

    @property
    def is_tuning(self) -> bool:
        """Whether it starts from a voice that speaks."""
        return self.base_info is not None and self.base_info.speaks

    @property
    def keeps_latents(self) -> bool:
        """Whether a frozen encoder's latents mean what the predictor to fine-tune has learned."""
        if self.base_info is None or self.config.autoencoder == "train":
            return False
        return self.base_info.training.get("stage") != "autoencoder"

    def held_out_sample(self, n: int) -> HeldOut:
        """The same n held-out clips at every evaluation, spread over the lengths."""
        by_length = sorted(self.held_out, key=lambda i: (int(self.store.n_frames[i]), i))
        chosen = np.linspace(0, len(by_length) - 1, min(n, len(by_length))).round().astype(int)
        items = [by_length[i] for i in chosen]
        return HeldOut(self.mels, items, [self.store.texts[item] for item in items])

    def _minutes(self, items: Sequence[int]) -> float:
        return float(self.mels.n_frames[items].sum()) / self.store.recipe.frame_rate / 60
