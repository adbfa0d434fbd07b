"""Training LeWM-TTS: two stages in one command, or the guide's single graph.

Stage A learns to copy speech (autoencoder), its encoder is frozen, every clip is encoded once, and
stage B learns to say the next latent from the text. Both run in `ttscommon.training.fit`, so both
resume exactly. The reference measured two stages to be better than the single graph at equal cost.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lewm import weights
from lewm.config import ModelConfig, TrainConfig
from lewm.dataset import CropPlan, Sentences, SpeechPlan
from lewm.features import FeatureStore
from lewm.latents import encode_all, n_latents_of
from lewm.material import Material
from lewm.stages import JointStage, PredictorStage
from lewm.tasks import AutoencoderTask, SpeakingTask
from ttscommon.checkpoints import RunFolder
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.training import FitConfig, FitReport, fit
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
        overwrite: start anew, replacing what an earlier run left

    Raises:
        UserError: if the data can't be trained on, or a run with other settings is in the way
    """
    store = FeatureStore(*processed)
    base = weights.load(init_from)[0].config if init_from else model_config
    model_config = dataclasses.replace(
        model_config,
        speakers=_names(base.speakers, store.speakers),
        languages=_names(base.languages, store.languages),
    )
    runs = output.run("")
    if overwrite:
        shutil.rmtree(runs, ignore_errors=True)
    elif output.best_checkpoint.exists() and not runs.exists():
        raise UserError(
            "a finished voice is here already", where=output.best_checkpoint, fix="--overwrite"
        )
    plans = Material(store, model_config, config, device, init_from)
    trainer = _train_joint if config.joint else _train_in_two_stages
    report = trainer(plans, output, resume_command)
    return TrainReport(
        output.best_checkpoint, output.final_checkpoint, report.best_step, report.metrics
    )


def _train_in_two_stages(
    material: Material, output: SystemFolder, resume_command: str
) -> FitReport:
    config = material.config
    copier = _run_folder(output, "autoencoder", resume_command)
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
        copier,
    )
    model, _ = weights.load(copier.best)
    latents = encode_all(
        model, material.mels, material.training, output.run("latents"), copier.best
    )
    sentences = Sentences(material.store, material.model_config)
    n_latents = n_latents_of(material.mels, model.config.downsample)
    plan, held_out_plan = (
        SpeechPlan(
            sentences,
            latents.frames,
            n_latents,
            items,
            config,
            stride=1,
            downsample=material.model_config.downsample,
            limit=int(MAX_JOINED_SECONDS * model.frame_rate),
            data=material.store.fingerprint,
            augment=items is material.training,
        )
        for items in (material.training, material.held_out)
    )
    task = SpeakingTask(PredictorStage(model, config), material, held_out_plan)
    speaker = dataclasses.replace(
        _run_folder(output, "predictor", resume_command),
        best=output.best_checkpoint,
        final=output.final_checkpoint,
    )
    settings = _speaking_fit_config(material, plan, "predictor", ONLY_STAGE_A)
    return fit(task, plan, settings, speaker)


def _train_joint(material: Material, output: SystemFolder, resume_command: str) -> FitReport:
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
    folder = dataclasses.replace(
        _run_folder(output, "joint", resume_command),
        best=output.best_checkpoint,
        final=output.final_checkpoint,
    )
    return fit(task, plan, _speaking_fit_config(material, plan, "joint", ONLY_STAGE_A), folder)


def _speaking_fit_config(
    material: Material, plan: SpeechPlan, title: str, other_stage: Sequence[str]
) -> FitConfig:
    config, steps = material.config, material.config.predictor_steps
    if config.epochs is not None:
        steps = math.ceil(config.epochs * len(plan.epoch(0)) / config.grad_accumulation)
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


def _run_folder(output: SystemFolder, stage: str, resume_command: str) -> RunFolder:
    folder = output.run(stage)
    return RunFolder(
        state=folder / "state",
        best=folder / "best",
        final=folder / "final",
        logs=output.logs / stage,
        resume_command=resume_command,
    )


def _names(known: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """A model's speakers or languages: those it has, then the new ones."""
    return (*known, *sorted(set(found) - set(known)))


if __name__ == "__main__":
    from ttscommon.cli import run_tool

    run_tool("lewm_train")
