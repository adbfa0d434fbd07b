"""Training one experiment on prepared data, with the loop that all systems share."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kani.config import Experiment
from kani.config_files import as_written
from kani.dataset import KaniPlan
from kani.outputs import base_fingerprint, read_finished, require_replaceable, write_model
from kani.positions import audio_step_of
from kani.prepared import Prepared
from kani.projection import embedding_dim
from kani.tasks import KaniStage, KaniTask, Origin, probed
from kani.tracking import tracked
from kani.weights import load_language_model, read_config
from ttscommon import lora
from ttscommon.batching import BatchKey, move
from ttscommon.checkpoints import RunFolder
from ttscommon.config import differences
from ttscommon.errors import UserError
from ttscommon.machine import processes
from ttscommon.probe import Check, require
from ttscommon.seeds import seed_for
from ttscommon.task import FitConfig, FitReport
from ttscommon.training import fit
from ttscommon.workspace import SystemFolder

log = logging.getLogger(__name__)

STAGE = "adapter"
RUNS = "runs"  # of all experiments, beside their models
PROBED_CLIPS = 4
ALL_LINEAR = "all-linear"  # peft's word for every matrix but the head


@dataclass(frozen=True)
class Job:
    """What to train with what, and where it goes.

    Attributes:
        base: folder of the base model; `base_name` is what people call it
        models: gets a folder for each model, and `runs` with what a run resumes from
        dataset: settings of the data, to be written beside the model
        overwrite: start anew what has other settings or data
    """

    experiment: Experiment
    base: Path
    base_name: str
    prepared: Prepared
    models: Path
    dataset: dict[str, Any]
    project: str = "voxtune-kani"
    report_to: str = "tensorboard"
    device: str = "auto"
    overwrite: bool = False
    resume_command: str = "run the same command again"

    @property
    def model_id(self) -> str:
        return self.experiment.base.model_id

    @property
    def run(self) -> SystemFolder:
        """Logs, adapters and the resume point."""
        return SystemFolder(self.models / RUNS / self.model_id)

    @property
    def output(self) -> Path:
        """The trained model."""
        return self.models / self.model_id

    def description(self) -> dict[str, Any]:
        """Everything that the model follows from, as it is written beside it."""
        return {
            "experiment_id": self.model_id,
            "base_model": self.base_name,
            "base_fingerprint": base_fingerprint(self.base),
            "train_configuration": as_written(self.experiment),
            "dataset": self.dataset,
            "data": self.prepared.fingerprint,
        }


@dataclass(frozen=True)
class TrainReport:
    """Where the model is, and how good it was when it was best.

    Attributes:
        seconds: of the call that finished it
    """

    model: Path
    best_step: int
    metrics: dict[str, float]
    was_finished: bool = False
    seconds: float = 0.0


def train(job: Job, on_evaluation: Callable[[int, float], None] | None = None) -> TrainReport:
    """Train an experiment, going on where an earlier run of the same settings stopped.

    Args:
        on_evaluation: told (step, validation loss); what it raises ends the run

    Raises:
        UserError: if data and base don't fit, the labels are at fault, or a run or a model with
            other settings is in the way
    """
    if (found := finished(job)) is not None:
        return found
    began = time.monotonic()
    training = Training(job)
    report = training.fit(on_evaluation)
    sample = training.release()
    if training.is_main:
        found = {**job.description(), "step": report.best_step, "metrics": report.metrics}
        found["seconds"] = time.monotonic() - began
        write_model(
            job.output,
            job.base,
            job.run.best_checkpoint,
            found,
            sample=sample,
            space=job.prepared.space,
            device=job.device,
        )
    training.machine.wait_for_everyone()
    return TrainReport(job.output, report.best_step, report.metrics)


def finished(job: Job) -> TrainReport | None:
    """What was trained before with the same settings.

    Raises:
        UserError: if it was trained with others, and isn't to be replaced; or if something else is
            in its place
    """
    known = read_finished(job.output)
    if known is None:
        require_replaceable(job.output)  # not only after hours of training
        return None
    changed = differences({k: known.get(k) for k in job.description()}, job.description())
    if not changed:
        seconds = known.get("seconds", 0.0)
        return TrainReport(job.output, known["step"], known["metrics"], True, seconds)
    if job.overwrite:
        return None
    more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
    raise UserError(
        f"a model of this name was trained otherwise: {'; '.join(changed[:4])}{more}",
        where=job.output,
        fix="another model_id, or --overwrite",
    )


class Training:
    """The pieces of a run, put together."""

    def __init__(self, job: Job):
        self.job, self.args = job, job.experiment.trainer_args
        self.machine = processes(job.device)
        self.is_main = self.machine.is_main_process
        device = self.machine.device or torch.device("cpu")
        self.amp = self.args.precision(device.type)
        rows = job.prepared.rows
        is_held_out = np.array(rows["held_out"], dtype=bool)
        self.plan = self._plan(np.flatnonzero(~is_held_out), shuffle=True)
        self.held_out = self._plan(np.flatnonzero(is_held_out), shuffle=False)
        # Adapters are kept in float32 whatever the base is in.
        dtype = torch.bfloat16 if self.amp == "bf16" else torch.float32
        self.model: Any = load_language_model(job.base, device, dtype, space=job.prepared.space)
        self._inject()
        self.stage = KaniStage(self.model, job.prepared.space)

    def fit(self, on_evaluation: Callable[[int, float], None] | None = None) -> FitReport:
        """Probe the base, and train."""
        job = self.job
        places = RunFolder(
            state=job.run.run(STAGE) / "state",
            best=job.run.best_checkpoint,
            final=job.run.final_checkpoint,
            logs=job.run.logs,
            resume_command=job.resume_command,
            overwrite=job.overwrite,
        )
        if self.is_main:
            self._tell()
            require(self._checks())
        description = job.description()
        origin = Origin(
            job.base_name,
            description["base_fingerprint"],
            description["train_configuration"],
            len(self.plan),
        )
        task = KaniTask(self.stage, self.held_out, origin, on_evaluation)
        name = job.experiment.base.run_name or job.model_id
        with tracked(job.report_to, job.project, name, description, is_main=self.is_main):
            return fit(task, self.plan, self.fit_config(), places)

    def fit_config(self) -> FitConfig:
        job, args = self.job, self.args
        n_batches = len(self.plan.epoch(0))
        config = args.fit_config(
            n_batches,
            n_processes=self.machine.num_processes,
            device=job.device,
            title=job.model_id,
            task_settings={
                **args.kept(),
                "lora_args": as_written(job.experiment.lora_args),
                "base": base_fingerprint(job.base),
                "data": job.prepared.fingerprint,
                "held_out": self.held_out.fingerprint,
            },
        )
        return replace(config, amp=self.amp)

    def release(self) -> torch.Tensor:
        """Free the model's memory; a real clip's ids are left, to compare models on."""
        clip = self.held_out.clip(0).ids
        del self.model, self.stage
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return clip

    def _plan(self, rows: np.ndarray, *, shuffle: bool) -> KaniPlan:
        args, prepared = self.args, self.job.prepared
        return KaniPlan(
            prepared.rows.select(rows),
            prepared.space,
            batch_size=args.batch_size,
            token_budget=args.token_budget,
            packing=args.packing,
            loss_on=args.loss_on,
            audio_step=audio_step_of(read_config(self.job.base)),
            seed=args.seed,
            shuffle=shuffle,
        )

    def _inject(self) -> None:
        """Adapters on the layers that the experiment names."""
        lora_args = self.job.experiment.lora_args
        torch.manual_seed(seed_for(self.args.seed, "adapter"))
        lora.inject(
            self.model,
            target_layers(self.model, lora_args.target_modules),
            rank=lora_args.r,
            alpha=lora_args.lora_alpha,
            dropout=lora_args.lora_dropout,
            use_rslora=lora_args.use_rslora,
        )
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if self.args.gradient_checkpointing:
            recompute_activations(self.model)

    def _checks(self) -> list[Check]:
        """What the untrained model shows of the labels."""
        found = probed(self.stage.eval(), self._few())
        if read_config(self.job.base).get("is_miniature"):
            # Random weights under a tied head say again what they read.
            found = [one for one in found if one.name != "next token"]
        return found

    def _few(self) -> Any:
        """A real batch of some clips, padded, to look at."""
        plan = KaniPlan(
            self.job.prepared.rows.select(range(min(PROBED_CLIPS, len(self.job.prepared.rows)))),
            self.job.prepared.space,
            batch_size=PROBED_CLIPS,
            audio_step=audio_step_of(read_config(self.job.base)),
        )
        batch = plan.load(BatchKey(0, 0, tuple(range(len(plan)))))
        return move(batch, self.stage.device)

    def _tell(self) -> None:
        for name, count in lora.trainable_counts(self.model).items():
            log.info("trains %-40s %10.3f M", name, count / 1e6)
        scale = self.job.experiment.lora_args.scale
        log.info("updates are scaled by %.2f; plain LoRA with alpha = r by 1", scale)
        if embedding_dim(self.model) and not self.plan.has_speakers:
            log.warning("this base takes speaker embeddings, and no data set names speaker_emb")
        if self.args.bf16 and self.amp == "no":
            log.info("bf16 is for a GPU; here all is computed in float32")


def target_layers(model: Any, names: tuple[str, ...]) -> list[str]:
    """Full names of the layers that the names in a file mean.

    Raises:
        UserError: if a name means none
    """
    patterns = [name for name in names if name != ALL_LINEAR]
    found = lora.find_targets(model, patterns) if patterns else []
    if ALL_LINEAR in names:
        linear = [n for n, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
        found = [name for name in linear if name != "lm_head" or name in found]
    return found


def recompute_activations(model: Any) -> None:
    # Older versions of transformers know only the other name, newer ones warn of it.
    new, old = "activation_checkpointing_enable", "gradient_checkpointing_enable"
    getattr(model, new if hasattr(model, new) else old)({"use_reentrant": False})
