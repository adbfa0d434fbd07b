"""Training adapters of Higgs Audio on prepared data, with the loop that all systems share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from higgs_trainer.adapter import attach, fingerprint, inject
from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.clips import Prepared, read_prepared
from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.collator import Collator
from higgs_trainer.config import HiggsTrainConfig
from higgs_trainer.dataset import SamplePlan
from higgs_trainer.hearing import Listener
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.reference_verification import AlignmentReport, require, verify
from higgs_trainer.tasks import AdapterTask, HiggsStage, LossWeights, Origin
from higgs_trainer.weights import load_model
from ttscommon import lora
from ttscommon.checkpoints import RunFolder, load_state
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.launching import is_sharding_asked
from ttscommon.machine import pick_device, processes
from ttscommon.seeds import seed_for
from ttscommon.task import FitConfig
from ttscommon.training import fit
from ttscommon.workspace import SystemFolder

log = logging.getLogger(__name__)

STAGE = "adapter"


@dataclass(frozen=True)
class Job:
    """What to train with what, and where it goes.

    Attributes:
        train, validation: lists that `higgs_trainer.preprocess` wrote
        output: gets the adapters, the logs and the resume point
        codec: folder of what speaks samples; None: none are spoken
        overwrite: start anew what has other settings or data
    """

    train: Path
    validation: Path
    output: SystemFolder
    checkpoint: HiggsCheckpoint
    codec: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    resume_command: str = "run the same command again"


@dataclass(frozen=True)
class TrainReport:
    """Where the adapters are, and how good the best one was."""

    best: Path
    final: Path
    best_step: int
    metrics: dict[str, float]


def train(job: Job, config: HiggsTrainConfig) -> TrainReport:
    """Train adapters, going on where an earlier run of the same command stopped.

    Raises:
        UserError: if data and model don't fit, training sees something else than inference, or a
            run with other settings is in the way
    """
    training = Training(job, config)
    return training.run()


def verified(
    job: Job, config: HiggsTrainConfig, codec: Codec, *, adapter: Path | None = None
) -> AlignmentReport:
    """The checks before training, of a base as it is or with an adapter that was trained.

    Raises:
        UserError: if data, model and adapter don't fit
    """
    training = Training(job, config, adapter=adapter)
    return verify(training.model.eval(), training.plan, codec)


class Training:
    """The pieces of a run, put together.

    Args:
        adapter: one that was trained, to be looked at instead of a new one
    """

    def __init__(self, job: Job, config: HiggsTrainConfig, *, adapter: Path | None = None):
        self.job, self.config = job, config
        self.machine = processes(job.device)
        device = self.machine.device or pick_device(job.device)
        prepared, held_out = read_prepared(job.train), read_prepared(job.validation)
        _require_one_codec(prepared, held_out)
        writer = PromptWriter.of(job.checkpoint)
        self.plan = self._plan(prepared, writer, None)
        self.held_out = self._plan(held_out, writer, prepared)
        self.model = load_model(
            job.checkpoint,
            text_head=config.text_loss_weight > 0,
            dtype=torch.bfloat16 if config.amp == "bf16" else torch.float32,
            # Shared out it comes to the cards in parts, and is checked where it is whole.
            device="cpu" if is_sharding_asked() else device,
        )
        self.origin = Origin(
            fingerprint(self.model),
            to_dict(config),
            prepared.codec,
            len(prepared.clips),
            prepared.statistics,
        )
        if adapter is not None:
            attach(self.model, adapter)
        else:
            self.stage = self._stage()

    def run(self) -> TrainReport:
        output = self.job.output
        places = RunFolder(
            state=output.run(STAGE) / "state",
            best=output.best_checkpoint,
            final=output.final_checkpoint,
            logs=output.logs,
            resume_command=self.job.resume_command,
            overwrite=self.job.overwrite,
        )
        _refuse_finished(places)
        if self.machine.is_main_process:
            for line in self.job.checkpoint.report():
                log.info("%s", line)
            for name, count in lora.trainable_counts(self.model).items():
                log.info("trains %-40s %10.3f M", name, count / 1e6)
            require(verify(self.model, self.plan))
        how = self.fit_config()
        listener = self._listener(how.evaluate_every)
        task = AdapterTask(self.stage, self.held_out, self.origin, listener)
        report = fit(task, self.plan, how, places)
        return TrainReport(places.best, places.final, report.best_step, report.metrics)

    def fit_config(self) -> FitConfig:
        settings = {
            **self.config.kept(),
            "base": self.origin.base,
            "codec": self.origin.codec,
            "held_out": self.held_out.fingerprint,
        }
        return self.config.fit_config(
            len(self.plan.epoch(0)),
            n_processes=self.machine.num_processes,
            device=self.job.device,
            title="higgs",
            task_settings=settings,
        )

    def _listener(self, evaluate_every: int) -> Listener | None:
        config, job = self.config, self.job
        if not config.sample_interval or job.codec is None:
            return None
        if not (
            self.machine.is_main_process or is_sharding_asked()
        ):  # shares are needed all together
            return None
        codec = load_codec(job.codec, self.machine.device or pick_device(job.device))
        return Listener(
            codec,
            self.held_out,
            self.origin.statistics,
            n_samples=config.n_samples,
            interval=config.sample_interval,
            evaluate_every=evaluate_every,
        )

    def _plan(
        self, prepared: Prepared, writer: PromptWriter, references: Prepared | None
    ) -> SamplePlan:
        """Validation draws its references from the training clips, and always the same ones."""
        config, checkpoint = self.config, self.job.checkpoint
        return SamplePlan(
            prepared,
            writer,
            Collator(checkpoint.streams, checkpoint.network["pad_token_id"]),
            batch_size=config.batch_size,
            token_budget=config.token_budget,
            reference_share=config.reference_share,
            references=references,
            seed=config.seed,
            shuffle=references is None,
        )

    def _stage(self) -> HiggsStage:
        config, model = self.config, self.model
        n_codebooks = self.job.checkpoint.streams.n_codebooks
        if config.codebook_weights and len(config.codebook_weights) != n_codebooks:
            raise UserError(
                f"{len(config.codebook_weights)} codebook weights, the model has {n_codebooks}"
            )
        torch.manual_seed(seed_for(config.seed, "adapter"))
        inject(model, config.targets, **config.lora_shape)
        if config.gradient_checkpointing:
            recompute_activations(model)
        weights = LossWeights(
            audio=config.audio_loss_weight,
            text=config.text_loss_weight,
            codebooks=config.codebook_weights,
        )
        stage = HiggsStage(model, weights)
        n_codes, n_tokens = self.plan.n_targets
        stage.codes_a_token = n_codes / n_tokens
        return stage


def recompute_activations(model: Any) -> None:
    """Keep no activations of layers; compute them again in the backward pass."""
    # Older versions of transformers know only the other name, newer ones warn of it.
    new, old = "activation_checkpointing_enable", "gradient_checkpointing_enable"
    enable = getattr(model, new if hasattr(model, new) else old)
    enable({"use_reentrant": False})


def _require_one_codec(prepared: Prepared, held_out: Prepared) -> None:
    if prepared.codec != held_out.codec:
        raise UserError(
            f"the lists were made with two codecs, {prepared.codec} and {held_out.codec}",
            where=held_out.path,
            fix="prepare both with one",
        )


def _refuse_finished(places: RunFolder) -> None:
    """Refuse to replace an adapter that can't be gone on with."""
    if places.overwrite or load_state(places.state) is not None:
        return
    there = [path for path in (places.best, places.final) if path.exists()]
    if there:
        what = "a finished adapter is here already"
        raise UserError(what, where=there[0], fix="--overwrite, or another --output-dir")


if __name__ == "__main__":
    from ttscommon.cli import run_tool

    run_tool("higgs_train")
