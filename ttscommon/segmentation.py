"""Long recordings to a folder of clips, and an account of what became of every second.

Work is done recording by recording (very long ones in parts), and each result is kept as soon as
its clips are on disk, under a hash of the recording's content: a run that was killed goes on where
it was, and a new recording costs only itself.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from joblib import Parallel, delayed

from ttscommon.audio import UNREADABLE_SUFFIXES, duration, find_audio
from ttscommon.clip_config import ClipConfig
from ttscommon.clip_cutting import PartResult, cut_part
from ttscommon.clip_names import clip_name, recording_ids, recording_of
from ttscommon.clipping import count_parts
from ttscommon.config import differences, to_dict
from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions
from ttscommon.files import read_json, require_free_disk, write_json
from ttscommon.ledger import Ledger, content_key
from ttscommon.manifest import Clip, read_manifest, write_manifest
from ttscommon.sound_progress import SoundProgress
from ttscommon.workspace import DatasetFolder, Speaker

log = logging.getLogger(__name__)

FORMAT, VERSION = "ttscommon.segmentation", 1
RULES = 2  # raised when the same recording would give other clips; old ones are then cut again
LEDGER, REPLACED = ".cut.jsonl", "is_replaced"
N_NAMED = 3
WITHOUT_EFFECT = ("workers",)
# Measured: finding speech costs 0.04 processor seconds per second of sound; a process takes 10 s
# or more to start.
CUT_COST, PROCESS_COST = 0.04, 15.0


@dataclass(frozen=True)
class Place:
    """Where recordings are and clips go.

    Attributes:
        data: gets the clips, their list and the account
        root: what `Clip.audio` is relative to
    """

    audio: Path
    data: DatasetFolder
    root: Path
    name: str

    @classmethod
    def of(cls, speaker: Speaker | None, audio: Path | None, output: Path | None) -> Place:
        """The speaker's folders, or those that are given instead."""
        if speaker is None and (audio is None or output is None):
            raise ValueError("without a speaker, both audio and output are needed")
        name = speaker.name if speaker else (audio or Path()).resolve().name
        audio = audio or cast("Speaker", speaker).audio
        if output is not None:
            return cls(audio, DatasetFolder(output), output, name)
        speaker = cast("Speaker", speaker)
        return cls(audio, speaker.data, speaker.folder, name)

    @property
    def clips(self) -> Path:
        return self.data.clips

    @property
    def manifest(self) -> Path:
        return self.data.clips_manifest

    @property
    def report(self) -> Path:
        return self.data.segmentation


@dataclass(frozen=True)
class _Part:
    """A recording, or a part of a very long one, that is cut at once."""

    path: Path
    id: str
    seconds: float
    content: str
    index: int = 0
    n_parts: int = 1


@dataclass(frozen=True)
class SegmentReport:
    """What became of the recordings; seconds throughout.

    Attributes:
        recordings: one dictionary per recording, as in segmentation.json
        lost: speech that is in no clip, by reason
        skipped: (file, why) for files that could not be read, all or in part, or hold no speech
    """

    n_clips: int
    recorded: float
    speech: float
    kept: float
    lost: dict[str, float]
    recordings: list[dict[str, Any]]
    skipped: list[tuple[str, str]]
    folder: Path


def segment_recordings(
    place: Place, config: ClipConfig, *, overwrite: bool = False
) -> SegmentReport:
    """Cut everything in `place.audio` into clips, where that hasn't been done yet.

    Args:
        overwrite: replace clips that were cut with other settings

    Raises:
        UserError: if there is nothing to cut, no clip comes of it, or the disk is full
    """
    _refuse_clips_among_recordings(place)
    if not overwrite:
        _refuse_other_settings(place, config)
    parts, skipped = _find_parts(place.audio)
    for draft in place.clips.glob(".*.part"):
        draft.unlink(missing_ok=True)
    ledger = Ledger(place.clips / LEDGER)
    keys = {_key(part, config): part for part in parts}
    _cut(keys, ledger, place, config)
    results = {part: PartResult(**ledger[key]) for key, part in keys.items()}
    report = _report(results, skipped, place)
    if not report.n_clips:
        raise UserError(
            f"no clips: {_main_reason(report)}",
            where=place.audio,
            fix="--min-seconds and --max-seconds say how long clips may be",
        )
    _publish(results, report, config, place)
    _forget(ledger, set(keys), place)
    read_exclusions(place.clips).tell()
    return report


def _find_parts(folder: Path) -> tuple[list[_Part], list[tuple[str, str]]]:
    """Every readable recording in parts, and the files that can't be read."""
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, fix="put the recordings there")
    skipped = [
        (path.relative_to(folder).as_posix(), f"{path.suffix} can't be read; convert it to .wav")
        for path in find_audio(folder, UNREADABLE_SUFFIXES)
    ]
    parts = []
    for path, identity in recording_ids(find_audio(folder), folder).items():
        try:
            seconds = duration(path)
        except UserError as error:
            skipped.append((path.relative_to(folder).as_posix(), error.what))
            continue
        whole = _Part(path, identity, seconds, content_key(path), 0, count_parts(seconds))
        parts += [replace(whole, index=index) for index in range(whole.n_parts)]
    if not parts:
        first = f"; {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise UserError(
            f"no recordings that can be read{first}",
            where=folder,
            fix="put .wav, .flac, .ogg or .mp3 files there",
        )
    return parts, skipped


def _key(part: _Part, config: ClipConfig) -> str:
    """Changes with anything that changes the part's clips."""
    settings = {k: v for k, v in to_dict(config).items() if k not in WITHOUT_EFFECT}
    inputs = (RULES, part.id, part.content, part.index, part.n_parts, sorted(settings.items()))
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:24]


def _cut(keys: Mapping[str, _Part], ledger: Ledger, place: Place, config: ClipConfig) -> None:
    """Cut what isn't in the ledger, or whose clips are gone."""
    excluded = read_exclusions(place.clips).clips
    gone = {key: _gone(key, ledger, place, excluded) for key in keys}
    todo = {key: part for key, part in keys.items() if gone[key] is None or gone[key]}
    if deleted := [path.name for key in todo for path in gone[key] or ()]:
        log.warning(
            "%d clips were deleted and are cut again: %s; to leave clips out for good, name them "
            "in %s",
            *(len(deleted), ", ".join(deleted[:N_NAMED]), place.data.excluded),
        )
    if len(todo) < len(keys):
        log.info("%d of %d recordings (or parts of them) were cut before",
                 len(keys) - len(todo), len(keys))  # fmt: skip
    seconds = sum(part.seconds / part.n_parts for part in todo.values())
    if todo:
        require_free_disk(place.clips, int(seconds * config.sample_rate * 2))
    _distrust(ledger, keys, {part.id for part in todo.values()})
    n_jobs = max(1, min(config.workers, math.ceil(seconds * CUT_COST / PROCESS_COST)))
    progress = SoundProgress("cut", seconds)
    try:
        with Parallel(n_jobs=n_jobs, return_as="generator_unordered") as parallel:
            calls = parallel(
                delayed(_cut_one)(key, part, place.clips, config) for key, part in todo.items()
            )
            for key, result in cast("Iterator[tuple[str, dict[str, Any]]]", calls):
                ledger.append(key, result)
                progress.advance(todo[key].seconds / todo[key].n_parts)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
    finally:
        progress.close()


def _cut_one(key: str, part: _Part, folder: Path, config: ClipConfig) -> tuple[str, dict[str, Any]]:
    result = cut_part(
        part.path,
        part.seconds,
        (part.index, part.n_parts),
        config,
        lambda start, end: folder / f"{clip_name(part.id, start, end)}.wav",
    )
    return key, result.to_dict()


def _distrust(ledger: Ledger, current: Mapping[str, _Part], recordings: set[str]) -> None:
    """Note that other results of these recordings lose their files now, as names are the same."""
    for key, value in ledger.items():
        theirs = {recording_of(clip["id"]) for clip in value["clips"]}
        if key not in current and theirs & recordings and not value.get(REPLACED):
            ledger.append(key, {**value, REPLACED: True})


def _gone(key: str, ledger: Ledger, place: Place, excluded: Collection[str]) -> list[Path] | None:
    """Clips of a part that are gone, though nobody excluded them; None: it was never cut."""
    if key not in ledger or ledger[key].get(REPLACED):
        return None
    paths = [place.clips / f"{clip['id']}.wav" for clip in PartResult(**ledger[key]).clips]
    return [path for path in paths if not path.is_file() and path.name not in excluded]


def _report(
    results: Mapping[_Part, PartResult], skipped: list[tuple[str, str]], place: Place
) -> SegmentReport:
    by_path: dict[Path, list[tuple[_Part, PartResult]]] = {}
    for part, result in results.items():
        by_path.setdefault(part.path, []).append((part, result))
    recordings = []
    for path, pairs in by_path.items():
        found = [result for _, result in pairs]
        lost = _summed(result.lost for result in found)
        name = path.relative_to(place.audio).as_posix()
        recordings.append(
            {
                "recording": name,
                "seconds": round(pairs[0][0].seconds, 3),
                "speech": round(sum(result.speech for result in found), 3),
                "kept": round(sum(clip["duration"] for r in found for clip in r.clips), 3),
                "n_clips": sum(len(result.clips) for result in found),
                "lost": lost,
                "lost_at": [at for result in found for at in result.lost_at],
            }
        )
        skipped = skipped + _troubles(name, found)
    return SegmentReport(
        n_clips=sum(recording["n_clips"] for recording in recordings),
        recorded=sum(recording["seconds"] for recording in recordings),
        speech=sum(recording["speech"] for recording in recordings),
        kept=sum(recording["kept"] for recording in recordings),
        lost=_summed(recording["lost"] for recording in recordings),
        recordings=recordings,
        skipped=skipped,
        folder=place.clips,
    )


def _troubles(name: str, found: Sequence[PartResult]) -> list[tuple[str, str]]:
    """What went wrong in a recording, each thing once."""
    counts = Counter(result.trouble for result in found if result.trouble is not None)
    part = f" (in {{}} of {len(found)} parts)" if len(found) > 1 else ""
    return [(name, what + part.format(count)) for what, count in counts.items()]


def _summed(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Their sum by key, the most first."""
    total: dict[str, float] = {}
    for count in counts:
        for why, seconds in count.items():
            total[why] = round(total.get(why, 0.0) + seconds, 3)
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _publish(
    results: Mapping[_Part, PartResult], report: SegmentReport, config: ClipConfig, place: Place
) -> None:
    known = {}
    if place.manifest.is_file():  # what was found out about clips that stay as they are
        known = {clip.id: clip for clip in read_manifest(place.manifest)}
    clips = []
    for part, result in results.items():
        for cut in result.clips:
            path = place.clips / f"{cut['id']}.wav"
            clip = Clip(
                id=cut["id"],
                audio=path.relative_to(place.root).as_posix(),
                text="",
                duration=cut["duration"],
                speaker=place.name,
                language="",
                recording=part.path.relative_to(place.audio).as_posix(),
                start=cut["start"],
            )
            old = known.get(clip.id)
            if old is not None and replace(old, text="", language="") == clip:
                clip = old
            clips.append(clip)
    account = {
        "format": FORMAT,
        "version": VERSION,
        "config": to_dict(config),
        "n_clips": report.n_clips,
        "seconds": {"recorded": report.recorded, "speech": report.speech, "kept": report.kept},
        "lost": report.lost,
        "recordings": report.recordings,
        "skipped": [list(pair) for pair in report.skipped],
    }
    write_manifest(place.manifest, clips, speaker=place.name)
    write_json(place.report, account)


def _forget(ledger: Ledger, keys: set[str], place: Place) -> None:
    """Delete clips of recordings that are gone, or that were cut with other settings."""
    current = {key: ledger[key] for key in keys}
    wanted = {clip["id"] for value in current.values() for clip in value["clips"]}
    made = {clip["id"] for value in ledger.values() for clip in value["clips"]}
    for name in made - wanted:
        (place.clips / f"{name}.wav").unlink(missing_ok=True)
    ledger.replace(current)


def _refuse_clips_among_recordings(place: Place) -> None:
    if place.clips.resolve().is_relative_to(place.audio.resolve()):
        raise UserError(
            "the clips would lie among the recordings, and be cut as such by the next run",
            where=place.clips,
            fix="give an --output-dir outside of --audio-dir",
        )


def _refuse_other_settings(place: Place, config: ClipConfig) -> None:
    if not place.report.is_file() or not place.manifest.is_file():
        return
    old = read_json(place.report, format=FORMAT)["config"]
    changed = [
        line
        for line in differences(old, to_dict(config))
        if line.partition(":")[0] not in WITHOUT_EFFECT
    ]
    if changed:
        raise UserError(
            f"the clips there were cut with other settings: {'; '.join(changed)}",
            where=place.clips,
            fix="add --overwrite to replace them",
        )


def _main_reason(report: SegmentReport) -> str:
    if report.lost:
        why, seconds = next(iter(report.lost.items()))
        return f"{seconds:.1f} s of speech, all left out; mostly {why}"
    whys: Sequence[tuple[str, int]] = Counter(why for _, why in report.skipped).most_common(1)
    return f"{len(report.skipped)} files, {whys[0][1]} x {whys[0][0]}" if whys else "no speech"
