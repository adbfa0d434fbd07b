"""Clips prepared for learning a manner of speaking: `prepare_patterns` fills `processed_v3/`.

On top of what `indextts.preprocess` makes of clips: `<id>_pattern.json` for each, and
`pattern_info.json`, which says what the speaker does and which codes are silence.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from indextts.clip_encoder import ClipEncoder
from indextts.clip_store import SOUND_KINDS, ClipStore, Note
from indextts.clips import read_array
from indextts.pattern_conditioning import read_conditioning
from indextts.pattern_features import (
    PatternFeatures,
    features_of_rests,
    rates,
    read_words,
    with_words,
)
from indextts.pattern_frames import FRAME, find_rests
from indextts.pattern_prepare_config import PatternPrepareConfig
from indextts.pattern_text import RULES as TEXT_RULES
from indextts.pattern_text import is_stripped, readable, stripped
from indextts.prepare_config import PrepareConfig
from indextts.preprocess import PrepareReport, prepare
from indextts.silence_codes import learn_silence_codes
from indextts.utterances import Source, Utterance
from ttscommon.audio import load
from ttscommon.clip_words import ClipWords
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.evaluation.paces import Paces
from ttscommon.files import atomic, read_json, write_json
from ttscommon.machine import processes
from ttscommon.segment import VAD_RATE
from ttscommon.sound_progress import SoundProgress
from ttscommon.verbatim import HEARD
from ttscommon.workspace import DatasetFolder

log = logging.getLogger(__name__)

RULES = 1  # raised when the same sound would give other spans
INFO_FILE, INFO_FORMAT, VERSION = "pattern_info.json", "indextts.pattern_info", 1
SAMPLE_TYPE = "pattern_v3"
GLOBAL = {"gpt_conditioning": "GLOBAL_condition.npy", "emo_vec": "GLOBAL_emo_vec.npy"}


@dataclass(frozen=True)
class Transcription:
    """What tools/transcribe_dataset.py left in a folder; empty where it wasn't there.

    Attributes:
        verbatim: {file name: (text, the same with marks)}, of texts that it heard
        words: as in words.json
        language: that it found; "" if unknown
    """

    verbatim: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    words: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""

    def said(self, utterance: Utterance) -> str:
        """A clip's text with marks; a text that somebody wrote or corrected as it is."""
        text, verbatim = self.verbatim.get(utterance.name, ("", ""))
        return verbatim if text.strip() == utterance.text else utterance.text


@dataclass(frozen=True)
class PatternReport:
    """What `prepare_patterns` did.

    Attributes:
        info: as in pattern_info.json
        n_adopted: clips whose features were taken over from another folder
    """

    clips: PrepareReport
    info: Mapping[str, Any]
    n_adopted: int


def read_transcription(folder: Path) -> Transcription:
    """Read table, words and statistics.

    Raises:
        UserError: if one of them is broken
    """
    data = DatasetFolder(folder)
    table, words, stats = data.transcripts_verbatim, data.words, data.transcription_stats
    if not words.is_file():
        return Transcription()
    entries = ClipWords(words).read()
    language = str(read_json(stats).get("language", "")) if stats.is_file() else ""
    verbatim = {}
    if table.is_file():
        for row in csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))):
            name = row.get("filename") or ""
            entry = entries.get(name)
            is_ours = (
                entry and entry.get("source") == HEARD and entry.get("text") == row.get("text")
            )
            if is_ours and row.get("verbatim"):
                verbatim[name] = (str(row["text"]), row["verbatim"])
    return Transcription(verbatim, entries, language)


def prepare_patterns(
    source: Source,
    prepare_config: PrepareConfig,
    config: PatternPrepareConfig,
    encoder: ClipEncoder,
    output: Path,
    *,
    transcription: Transcription,
    processed: Path | None = None,
    conditioning: Path | None = None,
) -> PatternReport:
    """Fill `output`; what is there and still holds isn't made again.

    Args:
        processed: a folder of `indextts.preprocess.prepare`, to take features over from
        conditioning: file of tools/extract_pattern_conditioning.py, whose vectors are put in, too

    Raises:
        UserError: as `indextts.preprocess.prepare`
    """
    shared = read_conditioning(conditioning, encoder.fingerprint) if conditioning else {}
    said = {one.id: transcription.said(one) for one in source.utterances}
    texts = _texts(source, said, config, prepare_config.seed, transcription.language)
    store = PatternStore(output, said, texts.stripped, has_global=bool(shared))
    state = processes(encoder.device.type)
    n_adopted = 0
    if state.is_main_process and processed is not None and processed != output:
        n_adopted = _adopt(ClipStore(processed), store, source.utterances)
    state.wait_for_everyone()
    work = _Patterns(store, config, transcription, said, prepare_config.seed)

    def finish(usable: Sequence[Utterance], notes: Mapping[str, Note]) -> dict[str, Any]:
        for name, file in GLOBAL.items():
            if name in shared:
                _save(store.features / file, shared[name][0].numpy())
            else:
                (store.features / file).unlink(missing_ok=True)
        return work.finish(usable, notes)

    clips = prepare(texts.source, prepare_config, encoder, output, store=store, finish=finish)
    return PatternReport(clips, read_json(output / INFO_FILE, format=INFO_FORMAT), n_adopted)


class PatternStore(ClipStore):
    """A folder of clips with pattern features.

    Args:
        said: {id: what is said, word for word}
        without_marks: ids of clips whose text was stripped
        has_global: whether there are vectors for speaking without a prompt
    """

    suffixes = ("_pattern.json", *ClipStore.suffixes)

    def __init__(
        self,
        folder: Path,
        said: Mapping[str, str],
        without_marks: frozenset[str],
        *,
        has_global: bool,
    ):
        super().__init__(folder)
        self.patterns: dict[str, PatternFeatures] = {}
        self._said, self._without_marks, self._has_global = said, without_marks, has_global

    def pattern_path(self, utterance: Utterance) -> Path:
        return self.features / f"{utterance.id}_pattern.json"

    def files(self, utterances: Sequence[Utterance]) -> set[Path]:
        more = {self.pattern_path(utterance) for utterance in utterances}
        if self._has_global:
            more |= {self.features / name for name in GLOBAL.values()}
        return super().files(utterances) | more

    def line(self, utterance: Utterance, note: Note, speaker: str) -> str:
        features = self.patterns[utterance.id]
        record = json.loads(super().line(utterance, note, speaker))
        seconds = features.seconds
        record |= {
            "sample_type": SAMPLE_TYPE,
            "pattern_features_path": f"features/{utterance.id}_pattern.json",
            "num_pauses": len(features.pauses),
            "num_fillers": len(features.fillers),
            "num_stutters": len(features.stutters),
            "speech_rate": round(features.n_words / seconds, 3) if seconds > 0 else 0.0,
            "verbatim": readable(self._said[utterance.id]),
            "is_stripped": utterance.id in self._without_marks,
        }
        return json.dumps(record, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Texts:
    source: Source
    stripped: frozenset[str]


def _texts(
    source: Source,
    said: Mapping[str, str],
    config: PatternPrepareConfig,
    seed: int,
    language: str,
) -> _Texts:
    """The clips with the texts that the model is to read."""
    utterances, without = [], set()
    for one in source.utterances:
        spoken_in = one.language or language or "en"
        text = readable(said[one.id])
        if is_stripped(one.id, share=config.strip_share, seed=seed):
            text = stripped(said[one.id], spoken_in)
            without.add(one.id)
        utterances.append(replace(one, text=text, language=spoken_in))
    return _Texts(replace(source, utterances=utterances), frozenset(without))


def _adopt(other: ClipStore, store: PatternStore, utterances: Sequence[Utterance]) -> int:
    """Take over what another folder has of the sound; whether it still holds is seen later."""
    n_adopted = 0
    for utterance in utterances:
        note = other.note(utterance)
        if note is None or note.why is not None or store.note(utterance) is not None:
            continue
        if not other.is_whole(utterance, SOUND_KINDS):
            continue
        store.features.mkdir(parents=True, exist_ok=True)
        for kind in SOUND_KINDS:
            name = f"{utterance.id}_{kind}.npy"
            with atomic(store.features / name) as draft:
                _link(other.features / name, draft)
        store.write(utterance, {}, replace(note, sha256="taken over"))
        n_adopted += 1
    return n_adopted


def _link(source: Path, place: Path) -> None:
    """The same file under two names where the disk can; files are replaced, never changed."""
    place.unlink(missing_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


class _Patterns:
    """Finds the spans of all clips, and what they have in common."""

    def __init__(
        self,
        store: PatternStore,
        config: PatternPrepareConfig,
        transcription: Transcription,
        said: Mapping[str, str],
        seed: int,
    ):
        self.store, self.config, self.said, self.seed = store, config, said, seed
        self.transcription = transcription

    def finish(self, usable: Sequence[Utterance], notes: Mapping[str, Note]) -> dict[str, Any]:
        """Write the files of the clips and of the folder."""
        words = {one.id: read_words(self.transcription.words, one.name) for one in usable}
        language = usable[0].language
        paces = Paces.of(words.values(), language)
        todo = {one.id for one in usable if self._kept(one, notes[one.id]) is None}
        progress = SoundProgress("looked at", sum(u.duration for u in usable if u.id in todo))
        try:
            for one in usable:
                features = with_words(
                    self._features(one, notes[one.id]),
                    words[one.id],
                    self.said[one.id],
                    paces,
                    one.language,
                )
                self._write(self.store.pattern_path(one), features)
                self.store.patterns[one.id] = features
                progress.advance(one.duration if one.id in todo else 0.0)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
        finally:
            progress.close()
        info = self._info(usable, language)
        if not _is_same(self.store.folder / INFO_FILE, info):
            self.store.remove_manifests()
            write_json(self.store.folder / INFO_FILE, info)
        return {"patterns": INFO_FILE, "pattern_config": to_dict(self.config)}

    def _info(self, usable: Sequence[Utterance], language: str) -> dict[str, Any]:
        clips = [self.store.patterns[one.id] for one in usable]
        learned = learn_silence_codes(
            (
                (read_array(self.store.features / f"{one.id}_codes.npy"), features.kinds)
                for one, features in zip(usable, clips, strict=True)
            ),
            share=self.config.silence_share,
            fewest=self.config.silence_count,
        )
        n_stripped = sum(
            is_stripped(one.id, share=self.config.strip_share, seed=self.seed) for one in usable
        )
        text = {"rules": TEXT_RULES, "strip_share": self.config.strip_share, "seed": self.seed}
        return {
            "format": INFO_FORMAT,
            "version": VERSION,
            **learned.to_dict(),
            "silence_share": self.config.silence_share,
            "silence_count": self.config.silence_count,
            "pause_threshold": self.config.pause_threshold,
            "rates": rates(clips),
            "n_clips": len(clips),
            "n_with_words": sum(bool(clip.n_words) for clip in clips),
            "language": language,
            "text": {**text, "n_stripped": n_stripped},
            "notes": _remarks(clips, learned.codes, learned.n_silent),
        }

    def _features(self, utterance: Utterance, note: Note) -> PatternFeatures:
        kept = self._kept(utterance, note)
        if kept is not None:
            return kept
        audio = load(utterance.path, VAD_RATE)
        shortest = self.config.pause_threshold * FRAME
        rests = find_rests(audio, n_frames=note.code_len, shortest=shortest)
        return features_of_rests(rests, self._key(note))

    def _kept(self, utterance: Utterance, note: Note) -> PatternFeatures | None:
        with contextlib.suppress(UserError):
            kept = PatternFeatures.read(self.store.pattern_path(utterance))
            return kept if kept.key == self._key(note) else None
        return None

    def _key(self, note: Note) -> str:
        """Names all that the spans of the sound are made from."""
        parts = (RULES, note.sound, note.code_len, self.config.pause_threshold)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _write(self, path: Path, features: PatternFeatures) -> None:
        with contextlib.suppress(UserError):
            if PatternFeatures.read(path) == features:
                return
        self.store.remove_manifests()
        features.write(path)


def _remarks(
    clips: Sequence[PatternFeatures], silence_codes: Sequence[int], n_silent: int
) -> list[str]:
    """What to know about these clips before training on them."""
    found = []
    if not any(clip.pauses for clip in clips):
        found.append(
            f"no pauses in {len(clips)} clips: there is nothing to learn about pauses but that "
            "this speaker makes none"
        )
    if not silence_codes:
        why = "there is no silence" if not n_silent else "no code is silent often enough"
        found.append(f"no silence codes: {why} in these clips")
    n_without = sum(not clip.n_words for clip in clips)
    if n_without:
        found.append(
            f"{n_without} clips have no words with times, so no fillers, stutters and pace; "
            "tools/transcribe_dataset.py finds them"
        )
    return found


def _save(path: Path, array: np.ndarray) -> None:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    with atomic(path) as draft:
        draft.write_bytes(held.getbuffer())


def _is_same(path: Path, data: Mapping[str, Any]) -> bool:
    with contextlib.suppress(UserError):
        return read_json(path) == json.loads(json.dumps(data))
    return False
