"""A speaker's recordings, clips and texts from end to end: what a training would stumble over."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ttscommon import audio
from ttscommon.doctor import Finding
from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions, usable_clips
from ttscommon.manifest import read_manifest
from ttscommon.transcripts import clip_texts, unmatched_texts
from ttscommon.workspace import Speaker, SystemFolder

READ_AT_ONCE = 60.0  # seconds, so that a recording of hours needs no more memory
FULL_SCALE, MAX_CLIPPED = 0.999, 1e-3  # share of samples at the limit
SILENT_PEAK = 10 ** (-50 / 20)
DULL_RATE = 16_000  # Hz; below it consonants are missing
SHORT_SECONDS, FEW_MINUTES = 0.5, 5.0
PACE_RATIO, PACE_SECONDS = 2.5, 1.5  # letters a second against the speaker's median; from so long
N_NAMED = 3


@dataclass(frozen=True)
class Sound:
    """What was measured of one recording; `trouble` says why it couldn't be read."""

    path: Path
    seconds: float = 0.0
    rate: int = 0
    peak: float = 0.0
    clipped: float = 0.0
    trouble: str | None = None


def check_dataset(
    speaker: Speaker, on_recording: Callable[[], object] = lambda: None
) -> Iterator[Finding]:
    """Every recording and clip is decoded, every text matched, every prepared manifest compared.

    Where recordings were cut, sound and texts of the clips are what counts.

    Args:
        on_recording: called after each recording that was decoded
    """
    paths = audio.find_audio(speaker.audio) if speaker.audio.is_dir() else []
    others = sorted(audio.find_audio(speaker.audio, audio.UNREADABLE_SUFFIXES))
    if others:
        fix = f"ffmpeg -i '{others[0].name}' '{others[0].stem}.wav', and so on"
        yield _finding("formats", "note", f"can't be read: {_named(others)}", fix)
    if not paths:
        fix = f"put them there: {', '.join(audio.AUDIO_SUFFIXES)}"
        yield _finding("recordings", "wrong", f"none in {speaker.audio}", fix)
        return
    sounds = []
    for path in paths:
        sounds.append(measure(path))
        on_recording()
    good = [sound for sound in sounds if sound.trouble is None]
    yield from _recordings(sounds, good)
    if good and speaker.clips_manifest.is_file():
        sounds = [measure(path) for path in audio.find_audio(speaker.clips)]
        good = [sound for sound in sounds if sound.trouble is None]
        yield _clips(speaker, sounds, good)
    if good:
        yield from _quality(good)
        yield from _texts(speaker, good)
    for name, system in speaker.systems.items():
        if system.processed.is_dir():
            yield _prepared(name, system, speaker, paths)


def measure(path: Path) -> Sound:
    """Decode a recording as a training would, and look at its level."""
    try:
        seconds = audio.duration(path)
        rate = soundfile.info(str(path)).samplerate
        peak, n_clipped, n_samples = 0.0, 0, 0
        for start in np.arange(0, max(seconds, 1e-9), READ_AT_ONCE):
            samples = np.abs(audio.load(path, rate, start=start, end=start + READ_AT_ONCE))
            peak = max(peak, float(samples.max()))
            n_clipped += int((samples >= FULL_SCALE).sum())
            n_samples += len(samples)
    except UserError as error:
        return Sound(path, trouble=error.what)
    return Sound(path, seconds, rate, peak, n_clipped / n_samples)


def _recordings(sounds: Sequence[Sound], good: Sequence[Sound]) -> Iterator[Finding]:
    minutes = sum(sound.seconds for sound in good) / 60
    rates = ", ".join(f"{rate:,} Hz" for rate in sorted({sound.rate for sound in good}))
    what = f"{len(good)} that can be read, {minutes:.1f} minutes, {rates}"
    if not good or len(good) * 2 < len(sounds):
        yield _finding("recordings", "wrong", f"only {len(good)} of {len(sounds)} can be read")
    elif minutes < FEW_MINUTES:
        yield _finding("recordings", "note", f"{what}; little for a training", "record more")
    else:
        yield _finding("recordings", "ok", what)
    reasons = defaultdict(list)
    for sound in sounds:
        if sound.trouble is not None:
            reasons[sound.trouble].append(sound.path)
    for reason, paths in reasons.items():
        yield _finding("recordings", "note", f"{reason}: {_named(paths)}", "replace or delete")


def _clips(speaker: Speaker, sounds: Sequence[Sound], good: Sequence[Sound]) -> Finding:
    """Whether what was cut is still there."""
    fix = f"python tools/segment_recordings.py --speaker {speaker.name}"
    try:
        listed = read_manifest(speaker.clips_manifest)
        excluded = read_exclusions(speaker.clips).clips
    except UserError as error:
        return _finding("clips", "wrong", str(error), fix)
    here = {sound.path.name for sound in good} | excluded
    gone = [clip.audio for clip in listed if Path(clip.audio).name not in here]
    if gone:
        return _finding("clips", "wrong", f"gone or broken: {_named(gone)}", fix)
    uncut = {path.relative_to(speaker.audio).as_posix() for path in audio.find_audio(speaker.audio)}
    uncut -= {clip.recording for clip in listed}
    minutes = sum(sound.seconds for sound in good) / 60
    what = f"{len(sounds)} cut from {len({clip.recording for clip in listed})} recordings, "
    what += f"{minutes:.1f} minutes"
    if uncut:
        return _finding("clips", "note", f"{what}; none of {_named(sorted(uncut))}", fix)
    return _finding("clips", "ok", what)


def _quality(sounds: Sequence[Sound]) -> Iterator[Finding]:
    looked_at = {
        "silent throughout": [s.path for s in sounds if s.peak < SILENT_PEAK],
        "clipped (too loud)": [s.path for s in sounds if s.clipped > MAX_CLIPPED],
        f"shorter than {SHORT_SECONDS} s": [s.path for s in sounds if s.seconds < SHORT_SECONDS],
        f"below {DULL_RATE:,} Hz, will sound dull": [s.path for s in sounds if s.rate < DULL_RATE],
        "the same file twice": _twins([sound.path for sound in sounds]),
    }
    troubles = [(what, paths) for what, paths in looked_at.items() if paths]
    for what, paths in troubles:
        yield _finding("sound", "note", f"{what}: {_named(paths)}")
    if not troubles:
        yield _finding("sound", "ok", "nothing silent, clipped, very short, dull or there twice")


def _twins(paths: Sequence[Path]) -> list[Path]:
    by_size = Counter(path.stat().st_size for path in paths)
    seen: set[bytes] = set()
    twins = []
    for path in paths:
        if by_size[path.stat().st_size] > 1:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            twins += [path] if digest in seen else []
            seen.add(digest)
    return twins


def _texts(speaker: Speaker, sounds: Sequence[Sound]) -> Iterator[Finding]:
    folder = speaker.clips_folder
    try:
        texts = {folder / name: text for name, text in clip_texts(speaker).items()}
        orphans, usable = unmatched_texts(speaker), {*usable_clips(speaker)}
    except UserError as error:
        yield _finding("transcripts", "wrong", str(error))
        return
    sounds = [sound for sound in sounds if sound.path in usable]
    whole = [sound for sound in sounds if texts.get(sound.path)]
    kind = "clips" if folder == speaker.clips else "recordings"
    what = f"{len(whole)} of {len(sounds)} {kind} have one"
    if len(whole) < len(sounds):
        absent = [sound.path for sound in sounds if not texts.get(sound.path)]
        what += f"; Whisper writes down the others, {_named(absent)}"
    status = "ok" if len(whole) == len(sounds) else "note"
    yield _finding("transcripts", status, what)
    if orphans:
        yield _finding("transcripts", "note", f"without a recording: {_named(orphans)}")
    paces = {
        sound.path: sum(map(str.isalnum, texts[sound.path])) / sound.seconds
        for sound in whole
        if sound.seconds >= PACE_SECONDS
    }
    if len(paces) < 5:
        return
    usual = max(statistics.median(paces.values()), 1e-9)
    odd = [p for p, pace in paces.items() if not 1 / PACE_RATIO <= pace / usual <= PACE_RATIO]
    if odd:
        what = f"far more or fewer letters a second than the usual {usual:.0f}: {_named(odd)}"
        yield _finding("transcripts", "note", what, "listen whether these are their texts")
    else:
        yield _finding("transcripts", "ok", f"texts fit the lengths, {usual:.0f} letters a second")


def _prepared(name: str, system: SystemFolder, speaker: Speaker, paths: Sequence[Path]) -> Finding:
    area, fix = f"{name} features", f"python tools/{name}_preprocess.py --speaker {speaker.name}"
    try:
        clips = read_manifest(system.manifest)
    except UserError as error:
        return _finding(area, "wrong", str(error), fix)
    here = {path.relative_to(speaker.folder).as_posix() for path in paths}
    gone = sorted({clip.audio for clip in clips} - here)
    if gone:
        return _finding(area, "note", f"recordings since gone: {_named(gone)}", fix)
    minutes = sum(clip.duration for clip in clips) / 60
    unused = len(here - {clip.audio for clip in clips})
    what = f"{len(clips)} clips, {minutes:.1f} minutes"
    if unused:
        return _finding(area, "note", f"{what}; {unused} recordings have no part in it", fix)
    return _finding(area, "ok", what)


def _named(things: Sequence[Path | str]) -> str:
    names = ", ".join(Path(thing).name for thing in things[:N_NAMED])
    more = f" and {len(things) - N_NAMED} more" if len(things) > N_NAMED else ""
    return f"{len(things)} ({names}{more})"


def _finding(name: str, status: str, what: str, fix: str | None = None) -> Finding:
    assert status in ("ok", "note", "wrong")
    return Finding("data set", name, status, what, fix)
