"""From recordings to clips: which files there are, where they are cut, what is said in them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lewm.clip_shards import Skip
from lewm.config import PreprocessConfig
from lewm.text import MAX_TEXT_BYTES, clean
from ttscommon.audio import UNREADABLE_SUFFIXES, Audio, duration, find_audio
from ttscommon.clipping import (
    SHORTEST_SPEECH,
    PartSound,
    count_parts,
    cut_spans,
    has_speech,
    read_part,
    tidy,
)
from ttscommon.errors import UserError
from ttscommon.exclusions import EXCLUDED, read_exclusions
from ttscommon.manifest import match_transcripts, read_transcripts
from ttscommon.segment import Span, speech_spans
from ttscommon.transcribe import Transcriber

log = logging.getLogger(__name__)

# Every clip begins and ends alike, as in the measured recipe (docs/lewm.md).
LEAD, TAIL = 0.04, 0.08  # seconds
NO_TRANSCRIPT = "no transcript, and no transcription"
UNCUTTABLE = "speech without silences where the length of a clip asks for them"


@dataclass(frozen=True)
class Recording:
    """One audio file.

    Attributes:
        id: names it in clip ids; unique
        name: its path relative to the speaker's folder, with "/"
        text: all that is said in it, if known
    """

    path: Path
    id: str
    name: str
    seconds: float
    text: str | None


@dataclass(frozen=True)
class Part:
    """A stretch of a recording that is worked on at once: all of it, unless it is very long."""

    recording: Recording
    index: int = 0
    n_parts: int = 1

    @property
    def seconds(self) -> float:
        return self.recording.seconds / self.n_parts

    @property
    def name(self) -> str:
        if self.n_parts == 1:
            return self.recording.name
        return f"{self.recording.name} (part {self.index + 1} of {self.n_parts})"

    def needs_transcription(self, config: PreprocessConfig) -> bool:
        """Whether the text of its clips can't come from a transcript alone."""
        is_long = self.recording.seconds > config.max_seconds
        return config.transcribe == "always" or self.recording.text is None or is_long


@dataclass(frozen=True)
class Cut:
    """One clip, ready for its mel: trimmed, of the wanted loudness, with its text."""

    audio: Audio
    text: str
    start: float
    is_piece: bool = False  # of a longer recording


def find_recordings(
    folder: Path, audio_folder: Path, root: Path
) -> tuple[list[Recording], list[Skip]]:
    """The readable recordings below `audio_folder` with the transcripts found in `folder`.

    Those that excluded.txt names are left out.

    Raises:
        UserError: if there is none, or the transcripts can't be read
    """
    if not audio_folder.is_dir():
        raise UserError("no such folder", where=audio_folder, fix="put the recordings there")
    paths = find_audio(audio_folder)
    unreadable = find_audio(audio_folder, UNREADABLE_SUFFIXES)
    skipped = [
        (path.relative_to(root).as_posix(), f"{path.suffix} can't be read; convert it to .wav")
        for path in unreadable
    ]
    if not paths:
        what = f"{len(unreadable)} files, but none in a readable format" if unreadable else None
        raise UserError(
            what or "no recordings in the folder",
            where=audio_folder,
            fix="put .wav, .flac, .ogg or .mp3 files there",
        )
    excluded = read_exclusions(audio_folder)
    if excluded.unknown:
        log.warning(
            "%s: %d lines name no recording, and LeWM-TTS cuts anew, so it leaves out no single "
            "clips; for example %s",
            *(excluded.file, len(excluded.unknown), excluded.unknown[0]),
        )
    texts, orphans = match_transcripts(read_transcripts(folder), paths)
    skipped += [(key, "transcript without a recording") for key in orphans]
    n_same_stem = Counter(path.relative_to(root).with_suffix("") for path in paths)
    recordings = []
    for path in paths:
        inside = path.relative_to(root)
        is_unique = n_same_stem[inside.with_suffix("")] == 1
        identity = path.relative_to(audio_folder)
        if identity.as_posix() in excluded.clips:
            skipped.append((inside.as_posix(), EXCLUDED))
            continue
        identity = identity.with_suffix("") if is_unique else identity
        try:
            seconds = duration(path)
        except UserError as error:
            skipped.append((inside.as_posix(), error.what))
            continue
        recordings.append(
            Recording(path, identity.as_posix(), inside.as_posix(), seconds, texts.get(path))
        )
    return recordings, skipped


def divide(recordings: Sequence[Recording]) -> list[Part]:
    """Recordings in parts of a few minutes at most."""
    parts = []
    for recording in recordings:
        n_parts = count_parts(recording.seconds)
        parts += [Part(recording, index, n_parts) for index in range(n_parts)]
    return parts


def cut(
    part: Part, config: PreprocessConfig, sample_rate: int, transcriber: Transcriber | None
) -> tuple[list[Cut], list[Skip]]:
    """The clips of a part, and what was left out of it.

    A recording that fits into `max_seconds` stays whole and keeps its transcript. A longer one is
    cut in silence and its pieces are transcribed, because nobody knows which words of the
    transcript belong to which piece.
    """
    try:
        sound = _read(part, sample_rate)
    except UserError as error:
        return [], [(part.name, error.what)]
    text = None if config.transcribe == "always" else part.recording.text
    offset = sound.start
    whole = _tidy(sound.audio, sample_rate, config)
    if whole is None:
        return [], [(part.name, f"less than {SHORTEST_SPEECH:g} s of sound")]
    limit = (config.max_seconds + LEAD + TAIL) * sample_rate
    fits = part.n_parts == 1 and len(whole.audio) <= limit
    if fits and text is not None:
        return _with_text([whole], [text], offset, part)
    if transcriber is None:
        is_long = "" if fits else f"longer than {config.max_seconds:g} s, so it must be cut; "
        return [], [(part.name, is_long + NO_TRANSCRIPT)]
    if fits and not has_speech(whole.audio, sample_rate):
        return [], [(part.name, "no speech in it")]
    pieces, lost = ([whole], []) if fits else _pieces(sound, sample_rate, config)
    heard = [transcriber.text(piece.audio, sample_rate, config.language) for piece in pieces]
    cuts, skipped = _with_text(pieces, heard, offset, part)
    if not pieces and not lost:
        skipped.append((part.name, "no speech in it"))
    if lost:
        seconds, first = sum(span.duration for span in lost), offset + lost[0].start
        skipped.append((f"{seconds:.1f} s of {part.name}, first at {first:.1f} s", UNCUTTABLE))
    return cuts, skipped


def _with_text(
    pieces: Sequence[Cut], texts: Sequence[str], offset: float, part: Part
) -> tuple[list[Cut], list[Skip]]:
    cuts, skipped = [], []
    for piece, raw in zip(pieces, texts, strict=True):
        start = offset + piece.start
        try:
            text = clean(raw)
        except UserError:
            skipped.append((f"{part.name} at {start:.1f} s", "no words in the text"))
            continue
        if len(text.encode()) > MAX_TEXT_BYTES:
            why = f"text of {len(text.encode())} bytes, at most {MAX_TEXT_BYTES} fit"
            skipped.append((f"{part.name} at {start:.1f} s", why))
            continue
        cuts.append(Cut(piece.audio, text, start, piece.is_piece))
    return cuts, skipped


def _pieces(
    part: PartSound, sample_rate: int, config: PreprocessConfig
) -> tuple[list[Cut], list[Span]]:
    """The clips in a long recording, and the speech that is in none of them."""
    low, high = config.min_seconds, config.max_seconds
    speech = speech_spans(part.audio, sample_rate)
    kept, lost = cut_spans(part, sample_rate, speech, min_seconds=low, max_seconds=high)
    pieces = []
    for span in kept:
        piece = part.audio[round(span.start * sample_rate) : round(span.end * sample_rate)]
        neat = _tidy(piece, sample_rate, config)
        if neat is not None:
            pieces.append(Cut(neat.audio, "", span.start + neat.start, is_piece=True))
    return pieces, lost


def _tidy(audio: Audio, sample_rate: int, config: PreprocessConfig) -> Cut | None:
    look = {"trim_db": config.trim_db, "loudness": config.loudness, "lead": LEAD, "tail": TAIL}
    piece = tidy(audio, sample_rate, **look)
    return None if piece is None else Cut(piece.audio, "", piece.start)


def _read(part: Part, sample_rate: int) -> PartSound:
    recording = part.recording
    return read_part(recording.path, recording.seconds, part.index, part.n_parts, sample_rate)
