"""The two stages as tasks of the shared loop: what trains, how it is scored, what is saved."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lewm import weights
from lewm.dataset import SpeechPlan, longest_trained_text
from lewm.generation import Request
from lewm.latents import n_latents_of
from lewm.material import Material
from lewm.model import LeWMTTS
from lewm.stages import AutoencoderStage, JointStage, PredictorStage, SpeakerStage
from lewm.validation import score_autoencoder, score_generation, teacher_forced_error
from lewm.weights import CheckpointInfo
from ttscommon.config import to_dict
from ttscommon.progress import Monitor

log = logging.getLogger(__name__)

MAX_COPY_CLIPS = 32


class AutoencoderTask:
    """Stage A for the loop."""

    def __init__(self, material: Material):
        self.module: nn.Module = AutoencoderStage(material.new_model(), material.config)
        self.held_out = material.held_out_sample(MAX_COPY_CLIPS)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return _groups(self.module)

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:
        metrics = score_autoencoder(_model(module), self.held_out, monitor, step)
        if metrics["active_share"] < 0.5:
            log.warning(
                "only %.0f %% of the latent dimensions carry anything; lower --kl-weight",
                100 * metrics["active_share"],
            )
        return metrics

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        info = CheckpointInfo(step=step, metrics=dict(metrics), training={"stage": "autoencoder"})
        weights.save(folder, _model(module), info)


class SpeakingTask:
    """Stage B, or the joint graph, for the loop: selected by what it says from text alone."""

    def __init__(
        self,
        module: nn.Module,
        material: Material,
        held_out_plan: SpeechPlan | None,
    ):
        self.module, self.held_out_plan = module, held_out_plan
        config, store = material.config, material.store
        chosen = material.held_out_sample(config.eval_texts)
        is_mixed = material.model_config.text_form == "mixed"
        if held_out_plan is not None:
            is_mixed = held_out_plan.sentences.is_mixed
        self.requests = [
            Request(
                text=store.texts[item],
                speaker=store.speakers[item],
                language=store.languages[item],
                reading=("letters", "phonemes")[i % 2] if is_mixed else "auto",
            )
            for i, item in enumerate(chosen.items)
        ]
        self.originals = [chosen.log_mel(index) for index in range(len(chosen.items))]
        self.copying = material.held_out_sample(MAX_COPY_CLIPS) if config.joint else None
        self.info = _info(material)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return _groups(self.module)

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:
        model = _model(module)
        metrics = score_generation(model, self.info, self.requests, self.originals, monitor, step)
        if self.copying is not None:
            metrics |= score_autoencoder(model, self.copying, monitor, step)
        if self.held_out_plan is not None:
            device = model.mel_mean.device
            metrics["teacher_forced"] = teacher_forced_error(model, self.held_out_plan, device)
        return metrics

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        info = dataclasses.replace(self.info, step=step, metrics=dict(metrics))
        weights.save(folder, _model(module), info)


def _info(material: Material) -> CheckpointInfo:
    """What a checkpoint says of its texts; a base's voices keep theirs while they are replayed."""
    config, store, base = material.config, material.store, material.base_info
    n_latents = n_latents_of(material.mels, material.model_config.downsample)
    n_bytes = np.maximum(1, store.n_bytes[material.training])
    longest = longest_trained_text(n_bytes, config)
    languages = dict(zip(store.speakers, store.languages, strict=True))
    letters: set[str] | None = set("".join(store.texts))
    if base is not None and base.speaks:
        languages = {**base.training.get("language_of", {}), **languages}
        known = base.training.get("letters")
        letters = None if known is None else letters | set(known)
        longest = max(longest, base.max_text_bytes) if config.replay_share else longest
    training = {"config": to_dict(config), "data": store.fingerprint, "language_of": languages}
    new = set(store.speakers) - set(material.base_speakers)
    if len(new) == 1 and material.base_speakers:
        training["voice"] = new.pop()  # speaks where no other is asked for
    if letters is not None:
        training["letters"] = "".join(sorted(letters))
    return CheckpointInfo(
        frames_per_byte=float(np.median(n_latents[material.training] / n_bytes)),
        max_text_bytes=longest,
        training=training,
        base=str(material.init_from) if material.init_from else None,
    )


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """Weight decay on matrices only; of a speaker table it would move rows that aren't trained."""
    trained = [p for p in module.parameters() if p.requires_grad]
    decay = {"weight_decay": 0.0} if isinstance(module, SpeakerStage) else {}
    return [
        {"params": [p for p in trained if p.ndim > 1], **decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _model(module: nn.Module) -> LeWMTTS:
    assert isinstance(module, AutoencoderStage | PredictorStage | JointStage)
    return module.model
