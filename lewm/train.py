"""Training LeWM-TTS: two stages in one command, or the guide's single graph.

Stage A learns to copy speech (autoencoder), its encoder is frozen, every clip is encoded once, and
stage B learns to say the next latent from the text. Both run in `ttscommon.training.fit`, so both
resume exactly. The reference measured two stages to be better than the single graph at equal cost.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lewm import weights
from lewm.config import FINE_TUNING, ModelConfig, TrainConfig
from lewm.dataset import CropPlan, Sentences, SpeechPlan
from lewm.features import FeatureStore
from lewm.latents import LatentTable, encode_all, n_latents_of
from lewm.material import Material
from lewm.replay import TEXTS_FILE, ReplayPlan, said_by
from lewm.stages import JointStage, PredictorStage, SpeakerStage, Stage
from lewm.tasks import AutoencoderTask, SpeakingTask
from lewm.weights import CheckpointInfo
from ttscommon.checkpoints import RunFolder
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.machine import processes
from ttscommon.outputs import read_texts
from ttscommon.task import FitConfig, FitReport
from ttscommon.training import fit
from ttscommon.workspace import SystemFolder

log = logging.getLogger(__name__)

# Joined rows are kept within this, so that three long clips don't fill the memory.
MAX_JOINED_SECONDS = 30.0
# Settings that one stage alone reads: changing them must not spoil the other stage's resume point.
ONLY_STAGE_A = ("autoencoder_steps", "autoencoder_learning_rate", "crop_frames")
ONLY_STAGE_B = (
    *("epochs", "predictor_steps", "learning_rate", "warmup_steps", "batch_frames", "eval_texts"),
    *("prediction_weight", "stop_weight", "guide_weight", "guide_share", "input_noise"),
    *("join_two", "join_three", "flow_draws", *FINE_TUNING),
)
# And of stage B's settings, those that a new voice's row in the speaker table is learned without.
ONLY_AFTER_SPEAKER = (
    *("epochs", "predictor_steps", "learning_rate", "text_encoder"),
    *("replay_share", "replay_clips", "replay_texts"),
)
FREE = ("workers", "save_every", "compile", "cache_mels", "patience")


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
    base = _checked_base(store, model_config, config, init_from)
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


def _checked_base(
    store: FeatureStore, model_config: ModelConfig, config: TrainConfig, init_from: Path | None
) -> ModelConfig:
    """The configuration to begin with: of the voice that is fine-tuned, if there is one.

    Raises:
        UserError: if the training needs a voice, or one that speaks, and there is none
    """
    if config.autoencoder != "train" and init_from is None:
        raise UserError(
            f"no autoencoder to keep: autoencoder is '{config.autoencoder}'",
            fix="give the checkpoint it comes from: --init-from FOLDER",
        )
    base, info = weights.describe(init_from) if init_from else (model_config, None)
    speaks = info is not None and info.speaks
    if config.replay_share and not speaks:
        raise UserError(
            "there is no voice to replay",
            fix="--init-from the checkpoint of one that speaks, or --replay-share 0",
        )
    strange = sorted(set(store.languages) - set(base.languages))
    if speaks and base.languages and strange:
        log.warning(
            "warning: the base knows no language '%s', so it will read its phonemes badly; "
            "prepare the recordings with --language %s",
            *(strange[0], base.languages[0]),
        )
    return base


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
    config, model_config = material.config, material.model_config
    # Refuses before the hours.
    sentences = Sentences(material.store, model_config, is_tuning=material.is_tuning)
    texts = _replay_texts(material)
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
    if config.speaker_steps and model.text_encoder.speakers is not None:
        stage = SpeakerStage(model, config)
        length = config.speaker_steps, config.speaker_learning_rate
        settings = _speaking_fit_config(material, "speaker", *length, ONLY_AFTER_SPEAKER)
        speaker = folders.of("speaker")
        _fit(stage, material, plan, held_out_plan, settings, speaker)
        model, _ = weights.load(speaker.best)
    length = _steps(material, plan), config.learning_rate
    settings = _speaking_fit_config(material, "predictor", *length, patience=config.patience)
    mixed = plan
    if material.replayed:
        log.info("%d clips of the base's voices are replayed", len(material.replayed))
        replayed = _latent_plan(material, sentences, latents, material.replayed)
        mixed = ReplayPlan(plan, replayed, config.replay_share, config.seed)
    elif config.replay_share:
        replayed = _said_plan(material, texts, folders.output.run("replay"))
        mixed = ReplayPlan(plan, replayed, config.replay_share, config.seed)
    stage = PredictorStage(model, config)
    return _fit(stage, material, mixed, held_out_plan, settings, folders.of_voice("predictor"))


def _fit(
    stage: Stage,
    material: Material,
    plan: SpeechPlan | ReplayPlan,
    held_out_plan: SpeechPlan | None,
    settings: FitConfig,
    folder: RunFolder,
) -> FitReport:
    if material.base_info is not None:
        log.info("%s: %s", settings.title, stage.plan)
    return fit(SpeakingTask(stage, material, held_out_plan), plan, settings, folder)


def _replay_texts(material: Material) -> list[str]:
    """What the base is to say, where it is replayed and no clips of its voices are given."""
    config, base = material.config, material.init_from
    if not config.replay_share or material.replayed or base is None:
        return []
    texts = [material.store.texts[item] for item in material.training]
    file = Path(config.replay_texts) if config.replay_texts else base / TEXTS_FILE
    return [*texts, *read_texts(file)] if config.replay_texts or file.is_file() else texts


def _said_plan(material: Material, texts: Sequence[str], folder: Path) -> SpeechPlan:
    config, base = material.config, material.init_from
    assert base is not None  # or there were nothing to replay
    said = said_by(base, texts, config.replay_clips, config.seed, folder, material.device_name)
    sentences = Sentences(said, material.model_config, is_tuning=True)
    return _plan(material, sentences, said.latents, said.n_latents, range(len(said.ids)))


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
    n_latents = n_latents_of(material.mels, material.model_config.downsample)
    return _plan(material, sentences, latents, n_latents, items)


def _plan(
    material: Material,
    sentences: Sentences,
    latents: LatentTable,
    n_latents: np.ndarray,
    items: Sequence[int],
) -> SpeechPlan:
    downsample = material.model_config.downsample
    frame_rate = material.store.recipe.frame_rate / downsample
    return SpeechPlan(
        sentences,
        latents.frames,
        n_latents,
        items,
        material.config,
        stride=1,
        downsample=downsample,
        limit=int(MAX_JOINED_SECONDS * frame_rate),
        data=latents.fingerprint,
        augment=items is not material.held_out,
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
    length = _steps(material, plan), config.learning_rate
    settings = _speaking_fit_config(material, "joint", *length, patience=config.patience)
    stage = JointStage(model, config)
    return _fit(stage, material, plan, None, settings, folders.of_voice("joint"))


def _steps(material: Material, plan: SpeechPlan) -> int:
    """How long stage B, or the joint graph, is trained."""
    config = material.config
    if config.epochs is None:
        return config.predictor_steps
    per_step = config.grad_accumulation * processes(material.device_name).num_processes
    return math.ceil(config.epochs * len(plan.epoch(0)) / per_step)


def _speaking_fit_config(
    material: Material,
    title: str,
    steps: int,
    learning_rate: float,
    leave_out: Sequence[str] = (),
    patience: int = 0,
) -> FitConfig:
    return _fit_config(
        material,
        title=title,
        steps=steps,
        learning_rate=learning_rate,
        schedule="linear",
        warmup_steps=min(material.config.warmup_steps, steps // 4),
        monitor="mel_dtw",
        patience=patience,
        leave_out=(*FREE, *ONLY_STAGE_A, *leave_out),
    )


def _fit_config(
    material: Material, *, leave_out: Sequence[str], steps: int, **settings: Any
) -> FitConfig:
    config = material.config
    # What is off isn't named, so that runs that know nothing of it can go on.
    off = {f.name: f.default for f in dataclasses.fields(config) if f.name in FINE_TUNING}
    chosen = {
        name: value
        for name, value in to_dict(config).items()
        if name not in leave_out and not (name in off and off[name] == value)
    }
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
