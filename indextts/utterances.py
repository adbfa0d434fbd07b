"""Which clips there are to train on: sound with its text, and which of them are held out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from indextts.prepare_config import PrepareConfig
from ttscommon.audio import UNREADABLE_SUFFIXES, duration, find_audio
from ttscommon.errors import UserError
from ttscommon.exclusions import EXCLUDED, read_exclusions
from ttscommon.holdout import hold_out
from ttscommon.manifest import Clip, match_transcripts, read_manifest, read_transcripts
from ttscommon.transcripts import clip_texts, hand_written_texts
from ttscommon.workspace import DatasetFolder, Speaker

Skip = tuple[str, str]  # (what, why)
Seconds = float
LONGEST_ID = 120  # bytes; names of files have 255
N_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One clip.

    Attributes:
        id: unique, and good as the beginning of a file's name
        name: its path in the folder of clips
        recording: what it was cut from; start: seconds into it
    """

    id: str
    path: Path
    name: str
    text: str
    duration: Seconds
    recording: str
    start: Seconds = 0.0
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One speaker's clips that have a text and a fitting length, and what was left out."""

    speaker: str
    folder: Path
    utterances: list[Utterance]
    skipped: list[Skip]


def speaker_source(
    speaker: Speaker, config: PrepareConfig, transcripts: Path | None = None
) -> Source:
    """A speaker's clips, or recordings if none were cut.

    Args:
        transcripts: table of their texts (or its folder), instead of all that the speaker has

    Raises:
        UserError: if there is nothing to work on
    """
    folder = speaker.clips_folder
    _require_folder(folder)
    if transcripts:
        read_exclusions(folder).tell()  # the other way does so itself
    known = hand_written_texts(speaker, transcripts) if transcripts else clip_texts(speaker)
    texts = {folder / name: text for name, text in known.items()}
    source = _source(folder, texts, [], speaker.name, config)
    return _of_use(source, f"--speaker {speaker.name}")


def folder_source(folder: Path, transcripts: Path, config: PrepareConfig, name: str = "") -> Source:
    """The clips of a folder with the texts of a table (or of a folder that holds one).

    Args:
        name: of the speaker, by default after the folder

    Raises:
        UserError: if there is nothing to work on, or the table can't be read
    """
    _require_folder(folder)
    read_exclusions(folder).tell()
    texts, orphans = match_transcripts(read_transcripts(transcripts), find_audio(folder))
    skipped = [(key, "transcript without a recording") for key in orphans]
    name = name or next((clip.speaker for clip in _cut_from(folder).values()), "")
    source = _source(folder, texts, skipped, name or _speaker_of(folder), config)
    return _of_use(source, f"--speaker {source.speaker}")


def split(
    utterances: Sequence[Utterance], config: PrepareConfig
) -> tuple[list[Utterance], list[Utterance], list[str]]:
    """Clips to train on, clips to validate with, and notes on how they were parted.

    Raises:
        UserError: if there is but one clip
    """
    parted = hold_out(
        sorted(utterances, key=lambda u: (u.recording, u.start, u.name)),
        round(1 - config.train_split, 9),
        seed=config.seed,
        size=lambda utterance: utterance.duration,
        by=config.split_by,
        other="--split-by clip",
    )
    chosen = {utterance.id for utterance in parted.held_out}
    train = [utterance for utterance in utterances if utterance.id not in chosen]
    return train, sorted(parted.held_out, key=lambda utterance: utterance.id), parted.notes


def _source(
    folder: Path,
    texts: Mapping[Path, str],
    skipped: list[Skip],
    speaker: str,
    config: PrepareConfig,
) -> Source:
    paths, data = find_audio(folder), DatasetFolder.of_sounds(folder)
    cut_from = _cut_from(folder)
    if cut_from and not any(path.relative_to(folder).as_posix() in cut_from for path in paths):
        raise UserError(
            "the list of clips names none of those in the folder, so nobody knows which of them "
            "are of one recording",
            where=data.clips_manifest,
            fix="cut them again (tools/segment_recordings.py), or move the list away",
        )
    excluded = read_exclusions(folder).clips
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    ids = _ids(list(names.values()))
    utterances = []
    for path in find_audio(folder, UNREADABLE_SUFFIXES):
        why = f"{path.suffix} can't be read; convert it to .wav"
        skipped.append((path.relative_to(folder).as_posix(), why))
    for path, name in names.items():
        if name in excluded:
            skipped.append((name, EXCLUDED))
            continue
        try:
            seconds = duration(path)
        except UserError as error:
            skipped.append((name, error.what))
            continue
        if path not in texts:
            skipped.append((name, "no transcript"))
        elif not texts[path].strip():
            skipped.append((name, "the transcript is empty"))
        elif seconds > config.max_duration:
            why = f"longer than --max-duration {config.max_duration:g}"
            skipped.append((f"{name} ({seconds:.1f} s)", why))
        elif seconds < config.min_duration:
            why = f"shorter than --min-duration {config.min_duration:g}"
            skipped.append((f"{name} ({seconds:.1f} s)", why))
        else:
            plain = Utterance(
                id=ids[name],
                path=path,
                name=name,
                text=texts[path].strip(),
                duration=round(seconds, 3),
                recording=name,
            )
            utterances.append(_with_origin(plain, cut_from.get(name)))
    return Source(speaker=speaker, folder=folder, utterances=utterances, skipped=skipped)


def _cut_from(folder: Path) -> dict[str, Clip]:
    """What `tools/segment_recordings.py` wrote about the clips in `folder`, by their path in it."""
    data = DatasetFolder.of_sounds(folder)
    if data.clips.resolve() != folder.resolve() or not data.clips_manifest.is_file():
        return {}
    # Paths are relative to the folder of a speaker, or to that of a data set without one.
    return {
        f"/{clip.audio}".partition(f"/{data.clips.name}/")[2]: clip
        for clip in read_manifest(data.clips_manifest)
    }


def _with_origin(utterance: Utterance, clip: Clip | None) -> Utterance:
    if clip is None:
        return utterance
    origin = {"recording": clip.recording, "start": clip.start, "language": clip.language}
    return replace(utterance, **origin)


def _ids(names: Sequence[str]) -> dict[str, str]:
    """A file name's beginning for each path, unique on disks that ignore case too."""
    plain = {name: _flat(name.rpartition(".")[0]) for name in names}
    n_alike = Counter(identity.casefold() for identity in plain.values())
    return {
        name: identity if n_alike[identity.casefold()] == 1 else f"{identity}-{_digest(name)}"
        for name, identity in plain.items()
    }


def _flat(name: str) -> str:
    flat = re.sub(r"[^\w.@=+-]", "_", name.replace("/", "__"))
    if len(flat.encode()) <= LONGEST_ID:
        return flat
    return flat.encode()[:LONGEST_ID].decode(errors="ignore") + "-" + _digest(name)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _speaker_of(folder: Path) -> str:
    """The name in training/<name>/dataset/audio, or else the folder's own."""
    place = folder.resolve()
    return place.parents[1].name if place.parent.name == "dataset" else place.name


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError("no such folder of recordings", where=folder, fix="put recordings there")
    if not find_audio(folder):
        raise UserError(
            "no recordings in the folder", where=folder, fix="put .wav, .flac or .mp3 files there"
        )


def _of_use(source: Source, flags: str) -> Source:
    """The same source, if there is anything in it to train on."""
    if source.utterances:
        return source
    why, count = Counter(reason for _, reason in source.skipped).most_common(1)[0]
    named = [what for what, reason in source.skipped if reason == why]
    more = f" and {count - N_NAMED} more" if count > N_NAMED else ""
    fix = None
    if "--max-duration" in why:
        fix = f"python tools/segment_recordings.py {flags}"
    elif "transcript" in why:
        fix = f"python tools/transcribe_dataset.py {flags}"
    raise UserError(
        f"no clip can be used; {count} x {why}: {', '.join(named[:N_NAMED])}{more}",
        where=source.folder,
        fix=fix,
    )
