"""From what a tool was told to a job: data checked and prepared, model and codec that fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from higgs_trainer.chatml import ChatSample, read_samples
from higgs_trainer.checkpoint import HiggsCheckpoint, Wishes
from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.config import PrepareConfig
from higgs_trainer.conversation import unspeakable
from higgs_trainer.preprocess import PrepareReport, prepare_samples, prepare_speaker
from higgs_trainer.train import Job
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.machine import pick_device, processes
from ttscommon.workspace import Speaker, SystemFolder

log = logging.getLogger(__name__)

N_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What to learn: samples, or a speaker's clips.

    Attributes:
        train, validation: ChatML files
        audio_base: what their paths begin at, by default each file's own folder
    """

    train: Path | None = None
    validation: Path | None = None
    audio_base: Path | None = None
    speaker: Speaker | None = None

    def __post_init__(self) -> None:
        if (self.train is None) == (self.speaker is None):
            raise UserError("give one: samples, or a speaker", fix="--train-data FILE.json")

    def prepare(self, processed: Path, codec: Codec, config: PrepareConfig) -> PrepareReport:
        """Encode what hasn't been, and write the lists."""
        if self.speaker is not None:
            return prepare_speaker(self.speaker, processed, codec, config)
        assert self.train is not None
        return prepare_samples(
            self.train,
            processed,
            codec,
            config,
            validation=self.validation,
            audio_base=self.audio_base,
        )


@dataclass(frozen=True, kw_only=True)
class Models:
    """Where the model and its codec are, and what is wished of them."""

    checkpoint: Path
    codec: Path
    wishes: Wishes | None = None

    def open(self) -> HiggsCheckpoint:
        return HiggsCheckpoint.open(self.checkpoint, self.wishes)


def defects(sources: Sources, config: PrepareConfig) -> list[str]:
    """Everything that is wrong with samples, a line each; the audio's length included."""
    paths = [path for path in (sources.train, sources.validation) if path is not None]
    samples = [one for path in paths for one in read_samples(path, sources.audio_base)]
    lengths: dict[Path, str] = {}
    for path in {part.path for one in samples for part in one.conversation.audios if part.path}:
        lengths[path] = _length_defect(path, config) if path.is_file() else ""
    found = [line for one in samples for line in _lines(one, lengths, config)]
    return found + _same_texts(samples)


def prepared_job(
    sources: Sources,
    models: Models,
    output: SystemFolder,
    config: PrepareConfig,
    *,
    device: str = "auto",
    overwrite: bool = False,
    resume_command: str = "run the same command again",
) -> tuple[Job, Codec, PrepareReport]:
    """Prepare the data, once for all processes, and say what to train with them.

    Raises:
        UserError: if the model, the codec or the data can't be used, or don't fit each other
    """
    checkpoint = models.open()
    machine = processes(device)
    codec = load_codec(models.codec, pick_device(device))
    codec.require_fit(checkpoint.streams)
    with machine.main_process_first():  # the others find the codes that it wrote
        report = sources.prepare(output.processed, codec, config)
    if machine.is_main_process:
        log.info("%s", codec.report())
        log.info(
            "%d samples to train on, %d to measure with, %d audios encoded now",
            *(report.n_train, report.n_validation, report.n_encoded),
        )
    job = Job(
        report.train,
        report.validation,
        output,
        checkpoint,
        codec=models.codec,
        device=device,
        overwrite=overwrite,
        resume_command=resume_command,
    )
    return job, codec, report


def _length_defect(path: Path, config: PrepareConfig) -> str:
    try:
        seconds = audio.duration(path)
    except UserError as error:
        return error.what
    if seconds > config.max_duration:
        return f"{seconds:.1f} s, longer than --max-duration {config.max_duration:g}"
    if seconds < config.min_duration:
        return f"{seconds:.1f} s, shorter than --min-duration {config.min_duration:g}"
    return ""


def _lines(sample: ChatSample, lengths: dict[Path, str], config: PrepareConfig) -> list[str]:
    wrong = [
        f"{part.path.name}: {lengths[part.path]}"
        for part in sample.conversation.audios
        if part.path and lengths.get(part.path)
    ]
    wrong += unspeakable(sample.conversation.turns, config.text)
    return [f"{sample.id}: {defect}" for defect in (*sample.defects, *wrong)]


def _same_texts(samples: Sequence[ChatSample]) -> list[str]:
    """Targets that are one recording with two texts can't both be right."""
    texts: dict[Path, dict[str, str]] = {}
    for one in samples:
        if not one.defects and one.target and one.target.path:
            said = [turn.text for turn in one.conversation.turns if turn.role == "user"][-1]
            texts.setdefault(one.target.path, {}).setdefault(said, one.id)
    return [
        f"{', '.join(list(known.values())[:N_NAMED])}: {path.name} has {len(known)} different texts"
        for path, known in texts.items()
        if len(known) > 1
    ]
