"""What is said in each clip of a speaker: texts written by hand, and what Whisper heard."""

from __future__ import annotations

import logging
from pathlib import Path

from ttscommon.audio import find_audio
from ttscommon.clip_names import is_piece
from ttscommon.exclusions import read_exclusions
from ttscommon.manifest import (
    SIDECAR_SUFFIXES,
    TABLE_NAMES,
    TABLE_SUFFIXES,
    match_transcripts,
    read_manifest,
    read_transcripts,
)
from ttscommon.workspace import Speaker

log = logging.getLogger(__name__)

N_NAMED = 3


def clip_texts(speaker: Speaker) -> dict[str, str]:
    """The text of each clip that has one: {path relative to `speaker.clips_folder`: text}.

    A text written by hand wins over what Whisper heard. Clips that dataset/excluded.txt names have
    none.

    Raises:
        UserError: if a table of texts is broken, or a row fits several files equally well
    """
    texts = recognised_texts(speaker) | hand_written_texts(speaker)
    excluded = read_exclusions(speaker.clips_folder)
    excluded.tell()
    return {name: text for name, text in sorted(texts.items()) if name not in excluded.clips}


def recognised_texts(speaker: Speaker) -> dict[str, str]:
    """What tools/transcribe_dataset.py heard in each clip."""
    if not speaker.transcripts_verbatim.is_file():
        return {}
    folder = speaker.clips_folder
    transcripts = read_transcripts(speaker.transcripts_verbatim)
    return {key: text for key, text in transcripts.items() if (folder / key).is_file()}


def hand_written_texts(speaker: Speaker, table: Path | None = None) -> dict[str, str]:
    """The texts in transcripts.csv, metadata.csv and the like, and in .txt and .lab files.

    They name recordings, or clips. The text of a recording belongs to a clip only if that is the
    whole recording: nobody knows which part of it is said in a piece.

    Args:
        table: of texts, or a folder of them, instead of what lies in the data set
    """
    texts, unmatched, in_pieces = _matched(speaker, table)
    if unmatched:
        named = ", ".join(unmatched[:N_NAMED])
        log.warning("%d transcripts fit no recording, for example %s", len(unmatched), named)
    if in_pieces:
        log.warning("%s", _on_pieces(speaker, in_pieces))
    folder = speaker.clips_folder
    return {path.relative_to(folder).as_posix(): text for path, text in texts.items()}


def texts_in(folder: Path, table: Path | None = None) -> tuple[dict[str, str], list[str]]:
    """The texts of the clips in a folder of no speaker, and the keys that fit none.

    Args:
        table: of texts, or a folder of them, by default what lies among the clips
    """
    texts, unmatched = match_transcripts(read_transcripts(table or folder), _found(folder))
    return {path.relative_to(folder).as_posix(): text for path, text in texts.items()}, unmatched


def unmatched_texts(speaker: Speaker) -> list[str]:
    """What texts by hand name that is neither a recording nor a clip."""
    return _matched(speaker)[1]


def note_on_pieces(speaker: Speaker) -> str | None:
    """What to say about texts by hand of recordings that were cut into pieces."""
    in_pieces = _matched(speaker)[2]
    return _on_pieces(speaker, in_pieces) if in_pieces else None


def _on_pieces(speaker: Speaker, in_pieces: list[Path]) -> str:
    named = ", ".join(path.relative_to(speaker.audio).as_posix() for path in in_pieces[:N_NAMED])
    return (
        f"{len(in_pieces)} texts by hand are of recordings that aren't a clip as a whole, so they "
        f"can't be used: {named}; nobody knows which part is said in which clip"
    )


def text_sources(speaker: Speaker) -> list[Path]:
    """Files that decide on texts by hand: tables, there or not, those beside recordings, and the
    list of clips that are to have none."""
    tables = [speaker.dataset / (name + end) for name in TABLE_NAMES for end in TABLE_SUFFIXES]
    beside = [
        path.with_suffix(suffix) for path in _found(speaker.dataset) for suffix in SIDECAR_SUFFIXES
    ]
    return [*tables, speaker.excluded, *(path for path in beside if path.is_file())]


def _matched(
    speaker: Speaker, table: Path | None = None
) -> tuple[dict[Path, str], list[str], list[Path]]:
    """Texts by hand of clips, the keys that fit nothing, and recordings whose text has no clip."""
    transcripts = read_transcripts(table or speaker.dataset)
    is_cut = speaker.clips_folder == speaker.clips
    recordings = _found(speaker.audio)
    of_recordings, unmatched = match_transcripts(transcripts, recordings)
    if not is_cut:
        return of_recordings, unmatched, []
    wholes = _whole_recordings(speaker)
    texts = {wholes[path]: text for path, text in of_recordings.items() if path in wholes}
    rest = {key: transcripts[key] for key in unmatched}
    of_clips, unmatched = match_transcripts(rest, _found(speaker.clips))
    return texts | of_clips, unmatched, [path for path in of_recordings if path not in wholes]


def _whole_recordings(speaker: Speaker) -> dict[Path, Path]:
    """The clip of each recording that became one clip as a whole."""
    return {
        speaker.audio / clip.recording: speaker.folder / clip.audio
        for clip in read_manifest(speaker.clips_manifest)
        if not is_piece(clip.id)
    }


def _found(folder: Path) -> list[Path]:
    return find_audio(folder) if folder.is_dir() else []
