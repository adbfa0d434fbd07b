"""Training a manner of speaking: the pattern alone, then an adapter around it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from indextts.clips import read_clips, require_base, require_fit
from indextts.hearing import Listener
from indextts.pattern_clips import (
    PatternClip,
    read_pattern_clips,
    read_pattern_info,
    tell_of_silence,
)
from indextts.pattern_config import (
    ADAPTER_STAGE,
    JOINT_STAGE,
    OF_ADAPTERS,
    PATTERN_STAGE,
    PatternTrainConfig,
)
from indextts.pattern_dataset import PatternPlan
from indextts.pattern_embeddings import (
    PatternEmbedding,
    PatternOrigin,
    pattern_effect,
)
from indextts.pattern_tasks import ADAPTER_FOLDER, PATTERN_FILE, PatternStage, PatternTask
from indextts.strangers import keep_prompts
from indextts.tasks import VoiceStage
from indextts.train import Job, Training, TrainReport, unfinished
from ttscommon import lora
from ttscommon.checkpoints import RunFolder, load_state
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder
from ttscommon.seeds import seed_for
from ttscommon.workspace import SystemFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatternJob(Job):
    """As `Job`.

    Attributes:
        others: manifests of other speakers, whose clips are prompts
        chosen: those of them that weren't named, and are kept with the run
    """

    others: Sequence[Path] = ()
    chosen: Sequence[Path] = ()


def train_patterns(job: PatternJob, config: PatternTrainConfig) -> TrainReport:
    """Train the pattern, then an adapter with the pattern frozen, or both at once.

    Goes on where an earlier run of the same command stopped.

    Raises:
        UserError: if the data don't fit the model, the model fails the probe, or a run with other
            settings is in the way
    """
    output = job.output
    _require_room(job, config)
    training = PatternTraining(job, config)
    if config.joint:
        training.adapt()
        return training.stage(JOINT_STAGE, training.fresh(), output, output.best_audio)
    home = SystemFolder(output.run(PATTERN_STAGE))
    alone = training.stage(PATTERN_STAGE, training.fresh(), home, home.best_audio)
    if not config.has_adapter:
        return training.publish(alone)
    pattern = PatternEmbedding.load(alone.best / PATTERN_FILE, training.device)
    training.adapt()
    return training.stage(ADAPTER_STAGE, pattern, output, output.best_audio, after=alone.best)


class PatternTraining(Training):
    """What both stages do before and after they have chosen what trains."""

    def __init__(self, job: PatternJob, config: PatternTrainConfig):
        self.others = read_clips(job.others) if job.others else []
        self.wanted, self.off_share = config, 0.0
        super().__init__(job, config)
        require_base(job.others, self.base)
        require_fit(self.others, self.gpt.config)
        n_codes = self.gpt.config.number_mel_codes
        self.info = read_pattern_info(Path(job.train[0]).parent, n_codes)
        assert isinstance(self.plan, PatternPlan)
        is_hidden = config.strange_timbre == "hidden" and config.loss != "reference"
        if self.others and config.other_share and is_hidden and not self.info.silence_codes:
            log.warning("no code is silence: other speakers' prompts teach the timbre, too")
        tell_of_silence(self.plan.spoken, self.info)
        self.silence = torch.from_numpy(self.info.silence(n_codes))
        self._settings: dict[str, Any] = {}
        self._pattern: PatternEmbedding | None = None

    def read(self, manifests: Sequence[Path]) -> Sequence[PatternClip]:
        return read_pattern_clips(manifests)

    def make_plan(self, clips: Sequence[Any], *, shuffle: bool) -> PatternPlan:
        config = self.config
        return PatternPlan(
            clips,
            others=self.others,
            other_share=self.wanted.other_share,
            off_share=self.off_share if shuffle else 0.0,
            batch_size=config.batch_size,
            token_budget=config.token_budget,
            on_the_fly=config.computes_conditions,
            pairing=config.pairing,
            seed=config.seed,
            shuffle=shuffle,
            prompts=None if shuffle else self.clips,
            crop_prompts=config.crop_prompts and shuffle,
        )

    def fresh(self) -> PatternEmbedding:
        """A pattern that was never trained."""
        config = self.wanted
        torch.manual_seed(seed_for(config.seed, "pattern"))
        origin = PatternOrigin(
            base=self.base,
            tokenizer=self.info.tokenizer,
            silence_codes=self.info.silence_codes,
            rates=self.info.rates,
        )
        pattern = PatternEmbedding(
            self.gpt.config.model_dim,
            config.pattern_tokens,
            injection_mode=config.injection_mode,
            initialization=config.initialization,
            origin=origin,
        ).to(self.device)
        self.gpt.eval()
        effect = pattern_effect(self.gpt, pattern)
        log.info("before training the pattern moves the first code's logits by %.3g", effect)
        return pattern

    def adapt(self) -> None:
        """Put a new adapter on the language model."""
        config = self.wanted
        torch.manual_seed(seed_for(config.seed, "adapter"))
        targets = lora.find_targets(self.gpt, config.targets)
        shape = {"rank": config.lora_rank, "alpha": config.lora_alpha}
        lora.inject(self.gpt, targets, **shape, dropout=config.lora_dropout)
        self.off_share = config.off_share

    def stage(
        self,
        name: str,
        pattern: PatternEmbedding,
        home: SystemFolder,
        best_audio: Path,
        *,
        after: Path | None = None,
    ) -> TrainReport:
        """Train what isn't frozen.

        Args:
            home: gets the checkpoints
            after: checkpoint whose pattern it is that goes on
        """
        if name == PATTERN_STAGE:
            self.gpt.requires_grad_(False)
            self.config = dataclasses.replace(self.wanted, learning_rate=self.wanted.pattern_lr)
        else:
            self.config = self.wanted
        self.plan = self.make_plan(self.clips, shuffle=True)
        self._settings = {"stage": name, **self._of(name), "pattern": _mark(after)}
        self._pattern = pattern
        silence = self.silence.to(self.device)
        stage = PatternStage(self.gpt, pattern, self._stage_config, silence)
        places = RunFolder(
            state=self.job.output.run(name) / "state",
            best=home.best_checkpoint,
            final=home.final_checkpoint,
            logs=self.job.output.logs / name,
            resume_command=self.job.resume_command,
            overwrite=self.job.overwrite,
        )
        return self.run(stage, places, PatternTask, best_audio, title=name)

    def settings(self) -> dict[str, Any]:
        return self._settings

    def keep(self, run: Path) -> None:
        assert isinstance(self.job, PatternJob)
        keep_prompts(run, self.job.chosen)

    def publish(self, report: TrainReport) -> TrainReport:
        """Put checkpoints of the pattern alone where those of a whole training are."""
        output = self.job.output
        best, final = output.best_checkpoint, output.final_checkpoint
        if self.machine.is_main_process:
            for made, place in ((report.best, best), (report.final, final)):
                with atomic_folder(place) as draft:
                    shutil.copytree(made, draft, dirs_exist_ok=True)
        return dataclasses.replace(report, best=best, final=final)

    def _listener(self) -> Listener | None:
        listener = super()._listener()
        if listener is not None and self._pattern is not None:
            listener.manner = self._pattern.get_injection_embedding
        return listener

    @property
    def _stage_config(self) -> PatternTrainConfig:
        assert isinstance(self.config, PatternTrainConfig)
        return self.config

    def _of(self, name: str) -> dict[str, Any]:
        """Settings that this stage depends on."""
        left_out = OF_ADAPTERS if name == PATTERN_STAGE else ()
        return {k: v for k, v in self.wanted.kept().items() if k not in left_out}

    def _tell(self, stage: VoiceStage, *, has_average: bool) -> None:
        assert isinstance(stage, PatternStage)
        trained = sum(p.numel() for p in stage.pattern.parameters() if p.requires_grad)
        log.info("trains %-40s %10.3f M", "pattern", trained / 1e6)
        super()._tell(stage, has_average=has_average)


def _require_room(job: PatternJob, config: PatternTrainConfig) -> None:
    """Refuse now what would be refused after the hours of the first stage."""
    output, last = job.output, ADAPTER_STAGE if config.has_adapter else PATTERN_STAGE
    last = JOINT_STAGE if config.joint else last
    best, final = output.best_checkpoint, output.final_checkpoint
    was_killed = unfinished(output.run(last)).exists()
    if job.overwrite or was_killed or not (best.exists() or final.exists()):
        return
    has_adapter = (best / ADAPTER_FOLDER).exists()
    if load_state(output.run(last) / "state") is None or has_adapter != config.has_adapter:
        what = "a finished voice is here already"
        raise UserError(what, where=best, fix="--overwrite, or another --output-dir")


def _mark(folder: Path | None) -> str:
    path = folder / PATTERN_FILE if folder else None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else ""
