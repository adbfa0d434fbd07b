"""Training LeWM-TTS: two stages in one command, or the guide's single graph.

Stage A learns to copy speech (autoencoder), its encoder is frozen, every clip is encoded once, and
stage B learns to say the next latent from the text. Both run in `ttscommon.training.fit`, so both
resume exactly. The reference measured two stages to be better than the single graph at equal cost.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lewm import weights
from lewm.config import ModelConfig, TrainConfig
from lewm.dataset import CropPlan, Sentences, SpeechPlan
from lewm.features import FeatureStore
from lewm.latents import LatentTable, encode_all, n_latents_of
from lewm.material import Material
from lewm.stages import JointStage, PredictorStage
from lewm.tasks import AutoencoderTask, SpeakingTask
from lewm.weights import CheckpointInfo
from ttscommon.checkpoints import RunFolder
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.machine import processes
from ttscommon.task import FitConfig, FitReport
from ttscommon.training import fit
from ttscommon.workspace import SystemFolder

# Joined rows are kept within this, so that three long clips don't fill the memory.
MAX_JOINED_SECONDS = 30.0
# Settings that one stage alone reads: changing them must not spoil the other stage's resume point.
ONLY_STAGE_A = ("autoencoder_steps", "autoencoder_learning_rate", "crop_frames")
ONLY_STAGE_B = (
    *("epochs", "predictor_steps", "learning_rate", "warmup_steps", "batch_frames", "eval_texts"),
    *("prediction_weight", "stop_weight", "guide_weight", "guide_share", "input_noise"),
    *("join_two", "join_three", "flow_draws"),
)
FREE = ("workers", "save_every", "compile", "cache_mels")


@dataclass(frozen=True)
class TrainReport:
    """Where the trained voice is and how good it was when it was saved."""

    best: Path
    final: Path
    best_step: int
    metrics: dict[str, float]


def train(
    processed: Sequence[Path],
    output: SystemFolder,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    resume_command: str = "run the same command again",
) -> TrainReport:
    """Train on material features, going on where an earlier run of the same command stopped.

    Args:
        processed: folders that `lewm.preprocess.prepare` wrote, one for each speaker
        output: gets `best_checkpoint`, `final_checkpoint`, `logs` and the resume points
        model_config: its speaker and language tables are filled in from the data
        init_from: a checkpoint folder to fine-tune from
        overwrite: start stages anew whose settings or data changed; equal ones would give the same
            bits again, so they are kept

    Raises:
        UserError: if the data can't be trained on, or a run with other settings is in the way
    """
    store = FeatureStore(*processed)
    if config.autoencoder != "train" and init_from is None:
        raise UserError(
            f"no autoencoder to keep: autoencoder is '{config.autoencoder}'",
            fix="give the checkpoint it comes from: --init-from FOLDER",
        )
    base = weights.load(init_from)[0].config if init_from else model_config
    model_config = dataclasses.replace(
        model_config,
        speakers=_names(base.speakers, store.speakers),
        languages=_names(base.languages, store.languages),
    )
    if output.best_checkpoint.exists() and not output.run("").exists() and not overwrite:
        raise UserError(
            "a finished voice is here already", where=output.best_checkpoint, fix="--overwrite"
        )
    plans = Material(store, model_config, config, device, init_from)
    trainer = _train_joint if config.joint else _train_in_two_stages
    report = trainer(plans, _Folders(output, resume_command, overwrite))
    return TrainReport(
        output.best_checkpoint, output.final_checkpoint, report.best_step, report.metrics
    )


@dataclass(frozen=True)
class _Folders:
    """Where the stages of one training write."""

    output: SystemFolder
    resume_command: str
    overwrite: bool

    def of(self, stage: str) -> RunFolder:
        folder, logs = self.output.run(stage), self.output.logs / stage
        state, best, final = folder / "state", folder / "best", folder / "final"
        return RunFolder(state, best, final, logs, self.resume_command, self.overwrite)

    def of_voice(self, stage: str) -> RunFolder:
        """As `of`, for the stage whose exports are the voice."""
        voice = {"best": self.output.best_checkpoint, "final": self.output.final_checkpoint}
        return dataclasses.replace(self.of(stage), **voice)


def _train_in_two_stages(material: Material, folders: _Folders) -> FitReport:
    config = material.config
    sentences = Sentences(material.store, material.model_config)  # refuses before the hours
    copier = folders.of("autoencoder")
    if config.autoencoder == "keep":
        info = CheckpointInfo(step=0, metrics={}, training={"stage": "autoencoder"})
        with processes(material.device_name).main_process_first():
            weights.save(copier.best, material.new_model(), info)
    else:
        _train_autoencoder(material, copier)
    model, _ = weights.load(copier.best)
    latents = encode_all(model, material.mels, folders.output.run("latents"), copier.best)
    if not material.keeps_latents:
        model.set_latent_statistics(*latents.statistics(material.training))
    plan, held_out_plan = (
        _latent_plan(material, sentences, latents, items)
        for items in (material.training, material.held_out)
    )
    task = SpeakingTask(PredictorStage(model, config), material, held_out_plan)
    settings = _speaking_fit_config(material, plan, "predictor", ONLY_STAGE_A)
    return fit(task, plan, settings, folders.of_voice("predictor"))


def _train_autoencoder(material: Material, folder: RunFolder) -> None:
    config = material.config
    fit(
        AutoencoderTask(material),
        CropPlan(material.mels, material.training, config),
        _fit_config(
            material,
            title="autoencoder",
            steps=config.autoencoder_steps,
            learning_rate=config.autoencoder_learning_rate,
            schedule="one_cycle",
            monitor="mel_l1",
            leave_out=(*FREE, *ONLY_STAGE_B),
        ),
        folder,
    )


def _latent_plan(
    material: Material, sentences: Sentences, latents: LatentTable, items: Sequence[int]
) -> SpeechPlan:
    downsample = material.model_config.downsample
    frame_rate = material.store.recipe.frame_rate / downsample
    return SpeechPlan(
        sentences,
        latents.frames,
        n_latents_of(material.mels, downsample),
        items,
        material.config,
        stride=1,
        downsample=downsample,
        limit=int(MAX_JOINED_SECONDS * frame_rate),
        data=latents.fingerprint,
        augment=items is material.training,
    )


def _train_joint(material: Material, folders: _Folders) -> FitReport:
    config, model, mels = material.config, material.new_model(), material.mels
    sentences = Sentences(material.store, material.model_config)
    plan = SpeechPlan(
        sentences,
        mels.frames,
        mels.n_frames,
        material.training,
        config,
        stride=material.model_config.downsample,
        downsample=material.model_config.downsample,
        limit=int(MAX_JOINED_SECONDS * material.store.recipe.frame_rate),
        data=material.store.fingerprint,
    )
    task = SpeakingTask(JointStage(model, config), material, None)
    settings = _speaking_fit_config(material, plan, "joint", ONLY_STAGE_A)
    return fit(task, plan, settings, folders.of_voice("joint"))


def _speaking_fit_config(
    material: Material, plan: SpeechPlan, title: str, other_stage: Sequence[str]
) -> FitConfig:
    config, steps = material.config, material.config.predictor_steps
    if config.epochs is not None:
        per_step = config.grad_accumulation * processes(material.device_name).num_processes
        steps = math.ceil(config.epochs * len(plan.epoch(0)) / per_step)
    return _fit_config(
        material,
        title=title,
        steps=steps,
        learning_rate=config.learning_rate,
        schedule="linear",
        warmup_steps=min(config.warmup_steps, steps // 4),
        monitor="mel_dtw",
        leave_out=(*FREE, *other_stage),
    )


def _fit_config(
    material: Material, *, leave_out: Sequence[str], steps: int, **settings: Any
) -> FitConfig:
    config = material.config
    chosen = {k: v for k, v in to_dict(config).items() if k not in leave_out}
    return FitConfig(
        steps=steps,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        grad_accumulation=config.grad_accumulation,
        ema_decay=config.ema_decay,
        amp=config.amp,
        compile=config.compile,
        evaluate_every=min(config.evaluate_every, steps),
        save_every=config.save_every,
        workers=config.workers,
        device=material.device_name,
        seed=config.seed,
        task_settings={
            "model": to_dict(material.model_config),
            "train": chosen,
            "init_from": str(material.init_from) if material.init_from else None,
        },
        **settings,
    )


def _names(known: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """A model's speakers or languages: those it has, then the new ones."""
    return (*known, *sorted(set(found) - set(known)))


if __name__ == "__main__":
    from ttscommon.cli import run_tool

    run_tool("lewm_train")
