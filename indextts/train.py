"""Training the language model on one voice or several, as adapters or as a whole.

Before the first step it is shown that the data fit the model (alignment probe), which tensors are
trained, and how much memory the longest batch takes; after it, that each tensor gets a gradient.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.dataset import (
    PairedPlan,
    TrainingClip,
    VoiceTrainingBatch,
    read_clips,
    require_base,
    require_fit,
)
from indextts.hearing import Listener
from indextts.probing import probed
from indextts.tasks import FullTask, LoraTask, Origin, VoiceStage, VoiceTask, trained_parts
from indextts.train_config import PARTS, FullTrainConfig, GptTrainConfig, LoraTrainConfig
from ttscommon import lora, probe
from ttscommon.batching import BatchKey, move
from ttscommon.checkpoints import RunFolder, load_state
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.machine import processes
from ttscommon.memory import map_large_tensors
from ttscommon.seeds import seed_for
from ttscommon.step_memory import StepMemory, step_memory
from ttscommon.task import FitConfig
from ttscommon.training import begins_anew, fit
from ttscommon.transcribe import load_transcriber
from ttscommon.workspace import SystemFolder

log = logging.getLogger(__name__)

STAGE = "gpt"
PROBED_CLIPS = 4


@dataclass(frozen=True)
class Job:
    """What to train with what, and where it goes.

    Attributes:
        train, validation: manifests
        output: gets the checkpoints, the logs and the resume point
        folder: the checkpoint folder whose language model is trained
        base: another language model than the folder's
        overwrite: start anew what has other settings or data
    """

    train: Sequence[Path]
    validation: Sequence[Path]
    output: SystemFolder
    folder: CheckpointFolder
    base: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    resume_command: str = "run the same command again"


@dataclass(frozen=True)
class TrainReport:
    """Where the trained voice is and how good it was when it was saved.

    Attributes:
        best_audio: what spoke best; None if nobody listened
    """

    best: Path
    final: Path
    best_audio: Path | None
    best_step: int
    metrics: dict[str, float]


def train_lora(job: Job, config: LoraTrainConfig) -> TrainReport:
    """Train adapters, going on where an earlier run of the same command stopped.

    Raises:
        UserError: if the data don't fit the model, the model fails the probe, or a run with other
            settings is in the way
    """
    training = Training(job, config)
    gpt, output = training.gpt, job.output
    torch.manual_seed(seed_for(config.seed, "adapter"))
    targets = lora.find_targets(gpt, config.targets)
    if "text_head" in targets and not config.text_loss_weight:
        raise UserError(
            "an adapter on text_head learns nothing from a text loss of weight 0",
            fix="--text-loss-weight 0.2, or other --lora-target-modules",
        )
    lora.inject(gpt, targets, **config.lora_shape)
    trains_conditions = any(f"{name}.".startswith(_of_conditions()) for name in targets)
    if trains_conditions and not config.computes_conditions:
        raise UserError(
            "adapters on the encoders of speaker and mood learn nothing from stored conditions",
            fix="--on-the-fly, or other --lora-target-modules",
        )
    stage = VoiceStage(gpt, config, trains_conditions=trains_conditions)
    places = RunFolder(
        state=output.run(STAGE) / "state",
        best=output.best_checkpoint,
        final=output.final_checkpoint,
        logs=output.logs,
        resume_command=job.resume_command,
        overwrite=job.overwrite,
    )
    return training.run(stage, places, LoraTask, output.best_audio, title="lora")


def train_full(job: Job, config: FullTrainConfig) -> TrainReport:
    """Train the language model's own weights; otherwise as `train_lora`."""
    training = Training(job, config)
    trained_parts(training.gpt, config.prefixes)
    trains_conditions = any(prefix.startswith(_of_conditions()) for prefix in config.prefixes)
    stage = VoiceStage(training.gpt, config, trains_conditions=trains_conditions)
    output = job.output
    places = RunFolder(
        state=output.run(STAGE) / "state",
        best=output.best_model,
        final=output.latest,
        logs=output.logs,
        resume_command=job.resume_command,
        overwrite=job.overwrite,
    )
    best_audio = output.best_audio.with_suffix(".pth")
    return training.run(
        stage, places, FullTask, best_audio, title="finetune", ema_decay=config.ema_decay
    )


class Training:
    """What both ways do before and after they have chosen what trains."""

    def __init__(self, job: Job, config: GptTrainConfig):
        self.job, self.config = job, config
        self.machine = processes(job.device)
        self.device = self.machine.device or torch.device("cpu")
        if self.device.type == "cpu":
            map_large_tensors()
        sizes = dataclasses.replace(job.folder.config.gpt, dropout=config.gpt_dropout)
        self.gpt = weights.load_gpt(job.base or job.folder.gpt, sizes, device=self.device)
        self.base = weights.fingerprint(self.gpt)
        manifests = [*job.train, *job.validation]
        require_base(manifests, self.base)
        self.clips, self.held_out = self.read(job.train), self.read(job.validation)
        require_fit([*self.clips, *self.held_out], self.gpt.config)
        _warn_of_leaks(self.clips, self.held_out)
        self.plan = self.make_plan(self.clips, shuffle=True)
        self.held_out_plan = self.make_plan(self.held_out, shuffle=False)

    def read(self, manifests: Sequence[Path]) -> Sequence[TrainingClip]:
        return read_clips(manifests)

    def keep(self, run: Path) -> None:
        """Put into the folder of a run that begins what else it is to go on with."""

    def run(
        self,
        stage: VoiceStage,
        places: RunFolder,
        make_task: Callable[..., VoiceTask],
        best_audio: Path,
        *,
        title: str,
        ema_decay: float = 0.0,
    ) -> TrainReport:
        stage.codes_a_token = _codes_a_token(self.clips)
        origin = Origin(self.base, to_dict(self.config), _hashes(self.clips))
        config = self._fit_config(origin, title, ema_decay)
        _refuse_finished(places, best_audio)
        is_first = self.machine.is_main_process
        if is_first:
            self._probe(stage)
            self._tell(stage, has_average=ema_decay > 0)
        task = make_task(
            stage,
            self.held_out_plan,
            origin,
            speaks=self._listener(),
            sample_interval=self.config.sample_interval,
            evaluate_every=config.evaluate_every,
            best_audio=best_audio,
        )
        mark = unfinished(places.state.parent)
        if is_first and begins_anew(self.plan, config, places, self.machine.num_processes):
            _remove(best_audio)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            self.keep(mark.parent)
        report = fit(task, self.plan, config, places)
        if is_first:
            mark.unlink(missing_ok=True)
        heard = best_audio if best_audio.exists() else None
        return TrainReport(places.best, places.final, heard, report.best_step, report.metrics)

    def make_plan(self, clips: Sequence[TrainingClip], *, shuffle: bool) -> PairedPlan:
        config = self.config
        return PairedPlan(
            clips,
            batch_size=config.batch_size,
            token_budget=config.token_budget,
            on_the_fly=config.computes_conditions,
            pairing=config.pairing,
            seed=config.seed,
            shuffle=shuffle,
            prompts=None if shuffle else self.clips,
            crop_prompts=config.crop_prompts and shuffle,
        )

    def _probe(self, stage: VoiceStage) -> None:
        chosen = tuple(range(min(PROBED_CLIPS, len(self.clips))))
        batch = move(self.plan.load(BatchKey(0, 0, chosen)), self.device)
        probe.require(probed(stage.eval(), batch))
        stage.train()

    def _tell(self, stage: VoiceStage, *, has_average: bool) -> None:
        counts = lora.trainable_counts(stage.gpt)
        for name, count in counts.items():
            log.info("trains %-40s %10.3f M", name, count / 1e6)
        size = self.longest_step(stage, has_average=has_average)
        log.info("a step with the longest batch takes %s", size)
        if self.device.type == "cuda":
            room = torch.cuda.get_device_properties(self.device).total_memory
            if size.total > room:
                raise UserError(
                    f"a step needs {size.total / 1e9:.1f} GB, this GPU has {room / 1e9:.1f} GB",
                    fix="--gradient-checkpointing, half the --batch-size, or --token-budget",
                )

    def longest_step(self, stage: VoiceStage, *, has_average: bool) -> StepMemory:
        """With the longest clips, and the longest prompts where they are read in a step."""
        plan = self.plan
        order = sorted(range(len(plan.clips)), key=lambda item: -plan.n_tokens[item])
        most = plan.token_budget // max(plan.n_tokens) or plan.batch_size
        batch = plan.load(BatchKey(0, 0, tuple(order[: min(most, plan.batch_size)])))
        if batch.prompt is not None:
            frames = torch.zeros(len(batch.ids), plan.most_prompt_frames, batch.prompt.shape[2])
            lengths = torch.full((len(frames),), frames.shape[1])
            batch = dataclasses.replace(batch, prompt=frames, prompt_lengths=lengths)
        return stage_memory(stage.train(), move(batch, self.device), self.config.amp, has_average)

    def _listener(self) -> Listener | None:
        config = self.config
        if not config.sample_interval or not self.machine.is_main_process:
            return None
        transcriber = (
            load_transcriber(config.whisper_model, self.job.device)
            if config.whisper_model
            else None
        )
        chosen = self.held_out[: config.n_samples]
        return Listener(self.job.folder, chosen, self.clips, self.device, transcriber=transcriber)

    def settings(self) -> dict[str, Any]:
        """What mustn't change when a run goes on."""
        return self.config.kept()

    def _fit_config(self, origin: Origin, title: str, ema_decay: float) -> FitConfig:
        return self.config.fit_config(
            len(self.plan.epoch(0)),
            n_processes=self.machine.num_processes,
            device=self.job.device,
            title=title,
            task_settings={**self.settings(), "base": origin.base},
            data={"clips": dict(origin.clips), "held_out": _hashes(self.held_out)},
            ema_decay=ema_decay,
        )


def stage_memory(
    stage: VoiceStage, batch: VoiceTrainingBatch, amp: str, has_average: bool
) -> StepMemory:
    """What a step with this batch takes; `stage` in training mode."""
    tensors = {k: v for k, v in vars(batch).items() if isinstance(v, Tensor)}

    def loss_of(module: torch.nn.Module, tensors: dict[str, Tensor]) -> Tensor:
        return module(dataclasses.replace(batch, **tensors)).total

    return step_memory(stage, tensors, loss_of, amp=amp, has_average=has_average)


def _of_conditions() -> tuple[str, ...]:
    return (*PARTS["speaker"], *PARTS["emotion"])


def _codes_a_token(clips: Sequence[TrainingClip]) -> float:
    """With the stops, which are learned as well."""
    return sum(clip.code_len + 1 for clip in clips) / sum(clip.text_len + 1 for clip in clips)


def _hashes(clips: Sequence[TrainingClip]) -> dict[str, str]:
    return {f"{clip.speaker}/{clip.id}": clip.sha256[:12] for clip in clips}


def _warn_of_leaks(clips: Sequence[TrainingClip], held_out: Sequence[TrainingClip]) -> None:
    """Clips of one recording sound alike, so those that are held out should have their own."""
    trained = {(clip.speaker, clip.recording) for clip in clips}
    shared = trained & {(clip.speaker, clip.recording) for clip in held_out}
    if shared:
        log.warning(
            "%d recordings have clips both to train on and to validate with, so the validation "
            "loss flatters",
            len(shared),
        )


def unfinished(run: Path) -> Path:
    """A mark in a stage's run folder, from its beginning to its end.

    A run that was killed before it first saved may begin anew, in spite of what it left.
    """
    return run / "unfinished"


def _refuse_finished(places: RunFolder, best_audio: Path) -> None:
    """Refuse to replace a voice that can't be gone on with."""
    was_killed = unfinished(places.state.parent).exists()
    if places.overwrite or was_killed or load_state(places.state) is not None:
        return
    there = [path for path in (places.best, places.final, best_audio) if path.exists()]
    if there:
        what = "a finished voice is here already"
        raise UserError(what, where=there[0], fix="--overwrite, or another --output-dir")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.with_suffix(".json").unlink(missing_ok=True)


__all__ = [
    "Job",
    "TrainReport",
    "Training",
    "probed",
    "stage_memory",
    "train_full",
    "train_lora",
]
