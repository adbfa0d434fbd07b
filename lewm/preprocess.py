"""From recordings to features: `prepare` fills `training/<speaker>/lewm/processed`.

Work is done shard by shard. A shard's name is a hash of everything that went into it, so a run
that was killed goes on where it was, and after a change only the changed recordings are computed
again. Memory holds one shard, however many clips there are.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import numpy as np
import torch
from joblib import Parallel, delayed

from lewm.clip_shards import PartClips, Skip, finished_parts, outcome, publish, write_parts
from lewm.config import PreprocessConfig
from lewm.features import FEATURES_FILE, Features
from lewm.recordings import NO_TRANSCRIPT, UNCUTTABLE, Part, cut, divide, find_recordings
from ttscommon.config import differences, to_dict
from ttscommon.errors import UserError
from ttscommon.exclusions import EXCLUDED
from ttscommon.files import read_json, require_free_disk
from ttscommon.machine import processes
from ttscommon.manifest import Clip
from ttscommon.mel import MelRecipe, log_mel
from ttscommon.sound_progress import SoundProgress
from ttscommon.transcribe import Transcriber, load_transcriber
from ttscommon.workspace import Speaker

log = logging.getLogger(__name__)

RULES = 1  # raised when the same input would give other features; old shards are then not reused
MAX_BAD_SHARE = 0.5  # more recordings than this left out, and the whole set is refused
TYPICAL_SECONDS = 6.0  # of a clip cut from a long recording; only sizes the shards
# Measured, in processor seconds on one core: mels cost 0.004 s per second of sound, finding
# speech 0.04 and Whisper base 0.3 or more; a further process takes 10 to 20 s to start.
MEL_COST, WHISPER_COST, PROCESS_COST = 0.004, 0.3, 15.0
WITHOUT_EFFECT = ("workers", "clips_per_shard")  # settings that change no feature
PATIENCE = timedelta(days=30)  # one of several machines may have far more to do than another


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        seconds: of speech in the clips
        skipped: (what, why) for everything that was left out
        folder: where the features are
    """

    n_clips: int
    seconds: float
    skipped: list[Skip]
    folder: Path


@dataclass(frozen=True)
class _Job:
    """What every process needs to know to turn a part into clips."""

    config: PreprocessConfig
    recipe: MelRecipe
    speaker: str
    transcriber: Transcriber | None

    def key(self, part: Part) -> str:
        """A hash of everything the part's clips depend on; the file's content by size and time."""
        stat = part.recording.path.stat()
        settings = to_dict(self.config)
        for name in WITHOUT_EFFECT:
            del settings[name]
        if not part.needs_transcription(self.config):
            del settings["whisper_model"]
        inputs = (
            *(RULES, part.name, stat.st_size, stat.st_mtime_ns, part.recording.text),
            *(self.speaker, self.recipe.hash, sorted(settings.items())),
            self.transcriber is not None or not part.needs_transcription(self.config),
        )
        return hashlib.sha256(repr(inputs).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class _Task:
    key: str
    part: Part


@dataclass(frozen=True)
class _Place:
    speaker: str
    folder: Path
    audio: Path
    root: Path
    output: Path


def prepare(
    speaker: Speaker | None,
    config: PreprocessConfig,
    *,
    source: Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    transcriber: Transcriber | None = None,
) -> PrepareReport:
    """Turn a speaker's recordings (or those in `source`) into features.

    Under `accelerate launch` every process works on its share of the shards and the first one
    writes the manifest; all return the same report.

    Args:
        source: recordings and transcripts, instead of the speaker's `dataset` folder
        output: where the features go, instead of the speaker's folder
        overwrite: replace features that were made with other settings
        transcriber: used instead of loading `config.whisper_model`

    Raises:
        UserError: if there is nothing to work on, too much of it is unusable, or the disk is full
    """
    place = _place(speaker, source, output)
    if not overwrite:
        _refuse_other_settings(place.output, config)
    recordings, unreadable = find_recordings(place.folder, place.audio, place.root)
    parts = divide(recordings)
    _refuse_if_mostly_bad(len(parts), unreadable, place)
    recipe = MelRecipe()
    job = _Job(config, recipe, place.speaker, _transcriber(parts, config, transcriber))
    seconds = sum(part.seconds for part in parts)
    require_free_disk(place.output, int(seconds * recipe.frame_rate * recipe.n_mels * 2))

    state = processes(patience=PATIENCE)
    if state.is_main_process:
        _remove_drafts(place.output)
    shards = dict(_shards([_Task(job.key(part), part) for part in parts], job, place.output))
    state.wait_for_everyone()
    mine = list(shards.items())[state.process_index :: state.num_processes]
    _work(mine, job, place.output, shows_progress=state.is_main_process)
    state.wait_for_everyone()
    n_clips, left_out = outcome(list(shards))
    skipped = unreadable + left_out
    _refuse_if_mostly_bad(n_clips, skipped, place)
    if state.is_main_process:
        publish(list(shards), place.output, place.speaker, to_dict(config))
    state.wait_for_everyone()
    info = read_json(place.output / FEATURES_FILE)
    return PrepareReport(n_clips, info["seconds"], skipped, place.output)


def _place(speaker: Speaker | None, source: Path | None, output: Path | None) -> _Place:
    if speaker is None and (source is None or output is None):
        raise ValueError("without a speaker, both source and output are needed")
    if source is None:
        assert speaker is not None
        folder, audio, root, name = speaker.dataset, speaker.audio, speaker.folder, speaker.name
    else:
        folder = audio = root = source
        name = speaker.name if speaker is not None else source.resolve().name or "speaker"
    if output is None:
        assert speaker is not None
        output = speaker.lewm.processed
    return _Place(name, folder, audio, root, output)


def _transcriber(
    parts: Sequence[Part], config: PreprocessConfig, given: Transcriber | None
) -> Transcriber | None:
    """Whisper if any part needs it and it may be used.

    Where some recordings have transcripts, a Whisper that can't be had is no reason to stop.
    """
    needy = [part for part in parts if part.needs_transcription(config)]
    if config.transcribe == "never" or not needy:
        return None
    if given is not None:
        return given
    try:
        return load_transcriber(config.whisper_model)
    except UserError as error:
        if config.transcribe == "always" or len(needy) == len(parts):
            raise
        log.warning("%d recordings will be left out: %s", len(needy), error)
        return None


def _shards(tasks: Sequence[_Task], job: _Job, folder: Path) -> Iterator[tuple[Path, list[_Task]]]:
    """The tasks in groups that make about `clips_per_shard` clips, each with its file."""
    group: list[_Task] = []
    size = 0.0
    for task in tasks:
        group.append(task)
        size += max(1.0, task.part.seconds / TYPICAL_SECONDS)
        if size >= job.config.clips_per_shard or task is tasks[-1]:
            name = hashlib.sha256("\n".join(task.key for task in group).encode()).hexdigest()[:16]
            yield folder / f"shard-{name}.arrow", group
            group, size = [], 0.0


def _work(
    shards: Sequence[tuple[Path, list[_Task]]], job: _Job, folder: Path, *, shows_progress: bool
) -> None:
    """Write those of the shards that aren't there yet."""
    done = finished_parts(folder)
    todo = [(path, tasks) for path, tasks in shards if not path.is_file()]
    fresh = [task.part for _, tasks in todo for task in tasks if task.key not in done]
    seconds = sum(part.seconds for part in fresh)
    progress = SoundProgress("prepared", seconds, is_shown=shows_progress)
    try:
        with Parallel(n_jobs=_n_processes(fresh, job), return_as="generator_unordered") as parallel:
            for path, tasks in todo:
                waiting = {task.key: task.part for task in tasks if task.key not in done}
                made: dict[str, PartClips] = {}
                calls = parallel(delayed(_clips_of)(k, p, job) for k, p in waiting.items())
                for result in cast("Iterator[PartClips]", calls):
                    made[result.key] = result
                    progress.advance(waiting[result.key].seconds)
                ordered = [made.get(task.key) or done[task.key]() for task in tasks]
                write_parts(path, ordered, job.recipe)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
    finally:
        progress.close()


def _n_processes(parts: Sequence[Part], job: _Job) -> int:
    """As many as asked for, but none that would take longer to start than to help."""
    heard = sum(part.seconds for part in parts if part.needs_transcription(job.config))
    work = heard * WHISPER_COST if job.transcriber is not None else 0.0
    work += sum(part.seconds for part in parts) * MEL_COST
    return max(1, min(job.config.workers, math.ceil(work / PROCESS_COST)))


def _clips_of(key: str, part: Part, job: _Job) -> PartClips:
    rate, recording = job.recipe.sample_rate, part.recording
    cuts, skipped = cut(part, job.config, rate, job.transcriber)
    result = PartClips(key, [], [], skipped)
    for piece in cuts:
        mel = log_mel(torch.from_numpy(piece.audio), job.recipe).numpy().astype(np.float16)
        clip = Clip(
            id=f"{recording.id}@{piece.start:.2f}" if piece.is_piece else recording.id,
            audio=recording.name,
            text=piece.text,
            duration=round(len(piece.audio) / rate, 3),
            speaker=job.speaker,
            language=job.config.language,
            recording=recording.name,
            start=round(piece.start, 4),
        )
        result.clips.append(clip)
        names = (clip.speaker, clip.language, clip.recording)
        result.features.append(Features(clip.id, mel, clip.text, *names))
    return result


def _refuse_other_settings(folder: Path, config: PreprocessConfig) -> None:
    if not (folder / FEATURES_FILE).is_file():
        return
    old = read_json(folder / FEATURES_FILE)["config"]
    changed = [
        line
        for line in differences(old, to_dict(config))
        if line.partition(":")[0] not in WITHOUT_EFFECT
    ]
    if changed:
        raise UserError(
            f"the features there were prepared with other settings: {'; '.join(changed)}",
            where=folder,
            fix="add --overwrite to replace them",
        )


def _refuse_if_mostly_bad(n_good: int, skipped: Sequence[Skip], place: _Place) -> None:
    """More than half unusable is a mistake in the data, not a few bad files.

    What lies in the settings or in the way somebody speaks, or is excluded, isn't bad.
    """
    intended = (UNCUTTABLE, EXCLUDED)
    bad = [why for _, why in skipped if NO_TRANSCRIPT not in why and why not in intended]
    if n_good and len(bad) <= MAX_BAD_SHARE * (n_good + len(bad)):
        return
    why, count = Counter(why for _, why in skipped).most_common(1)[0]
    first = next(what for what, reason in skipped if reason == why)
    many = f"{len(skipped)} of {n_good + len(skipped)}" if n_good else f"all {len(skipped)}"
    raise UserError(
        f"{many} recordings can't be used; {count} x {why}, for example {first}",
        where=place.audio,
    )


def _remove_drafts(folder: Path) -> None:
    """Delete what a killed process was writing."""
    for path in folder.glob(".shard-*.part"):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    from ttscommon.cli import run_tool

    run_tool("lewm_preprocess")
