"""The two stages as tasks of the shared loop: what trains, how it is scored, what is saved."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
        is_tuned = isinstance(module, PredictorStage) and not isinstance(module, SpeakerStage)
        self.blend = Blend(_model(module), config.base_share if is_tuned else 0.0)
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
        with self.blend.applied(_model(module)) as model:
            return self._scores(model, monitor, step)

    def _scores(self, model: LeWMTTS, monitor: Monitor, step: int) -> dict[str, float]:
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
        with self.blend.applied(_model(module)) as model:
            weights.save(folder, model, info)


class Blend:
    """The tuned weights a share of the way back to those that tuning began with.

    What lies between a tuned network and its base keeps most of the new and forgets less of the old
    (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903). The speaker table is left as it is tuned: the
    new voice's row was nowhere before.

    Args:
        model: before tuning; its trainable parameters are blended
        share: of the base, 0 to 1
    """

    def __init__(self, model: LeWMTTS, share: float):
        self.share = share
        self.base = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if share and parameter.requires_grad and not name.startswith("text_encoder.speakers.")
        }

    @contextmanager
    def applied(self, model: LeWMTTS) -> Iterator[LeWMTTS]:
        """The model blended, for as long as the context lasts."""
        tuned = {name: model.get_parameter(name).detach().clone() for name in self.base}
        with torch.no_grad():
            for name, base in self.base.items():
                model.get_parameter(name).lerp_(base.to(tuned[name]), self.share)
        try:
            yield model
        finally:
            with torch.no_grad():
                for name, weight in tuned.items():
                    model.get_parameter(name).copy_(weight)


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
