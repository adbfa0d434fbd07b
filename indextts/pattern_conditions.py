"""The same texts in every condition of the pattern protocol, as folders of speech.

What each is called stands in `ttscommon.evaluation.pattern_protocol`. Speech that is there already
and was made of the same isn't made again; what isn't asked for any more waits beside them.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indextts.clips import TrainingClip
from indextts.infer_v2 import IndexTTS2
from indextts.outputs import write_speech
from indextts.pattern_embeddings import PatternEmbedding, require_fit
from indextts.pattern_inference import speaking_with
from indextts.pattern_text import readable, stripped
from indextts.pattern_ways import Condition
from indextts.sentences import TOLD
from indextts.side_by_side import SENTENCES, Line, lines, speak_by
from indextts.speech import Request
from indextts.stored_voice import read_voice
from indextts.tuned import Tuned
from ttscommon.errors import UserError
from ttscommon.evaluation.wording import plain_words
from ttscommon.files import atomic, atomic_folder, read_json, write_json
from ttscommon.ledger import Ledger, content_key, weights_key
from ttscommon.outputs import slug

log = logging.getLogger(__name__)

RULES = 1  # raised when the same request would sound otherwise
RECORDS, TEXTS = "spoken.jsonl", "transcripts.csv"
EARLIER = "earlier"  # beside the conditions: whoever measures one reads every sound below it
COPIES, FORMAT, VERSION = "held_out.json", "indextts.held_out_recordings", 1
NOT_OURS = (
    "move it elsewhere, and name what is to be compared to tools/evaluate_patterns.py as R=FOLDER"
)


@dataclass(frozen=True)
class Speakers:
    """What speaks.

    Attributes:
        pattern: file of the speaker's; other: of another speaker
        adapter: folder of what was trained around it
        lora: folder of an adapter that was trained without a pattern
        voice: file of the stored voice
    """

    pattern: Path
    voice: Path
    adapter: Path | None = None
    other: Path | None = None
    lora: Path | None = None

    def speaking(self, condition: Condition) -> Tuned:
        """The model of a condition."""
        path = {"none": None, "around": self.adapter, "alone": self.lora}[condition.adapter]
        return Tuned("lora", path) if path else Tuned("base")


@dataclass(frozen=True)
class ToSay:
    """One file of a condition.

    Attributes:
        name: as in every condition
        text: that is read
    """

    name: str
    text: str
    seed: int
    request: Request


def plain_texts(clips: Sequence[TrainingClip], n_texts: int, language: str) -> list[str]:
    """What a fluent speaker would read: the held-out texts without hesitations, then ours.

    Raises:
        UserError: if there is nothing to say in that language
    """
    held_out = [stripped(clip.text, clip.language or language) for clip in clips if clip.text]
    is_english = language.partition("-")[0].lower() == "en"
    ours = [*TOLD, *SENTENCES] if is_english else []
    texts: dict[str, str] = {}
    for text in (*held_out, *ours):
        texts.setdefault(plain_words(text), text)
    texts.pop("", None)
    if not texts:
        raise UserError(f"nothing to say in '{language}'", fix="--text-file FILE")
    if len(texts) < n_texts:
        more = "--text-file FILE gives others"
        log.warning("%d texts, not %d: there are no more in store; %s", len(texts), n_texts, more)
    return list(texts.values())[:n_texts]


def write_recordings(
    clips: Sequence[TrainingClip], folder: Path, language: str, *, made_by: str = ""
) -> int:
    """Condition R: the held-out clips with their texts, without hesitations; how many there are.

    Args:
        made_by: command that prepares such clips

    Raises:
        UserError: if none of them is there any more, or the folder holds what isn't ours
    """
    there = [clip for clip in clips if clip.audio_path and clip.audio_path.is_file()]
    if not there:
        raise UserError("no held-out recordings", where=folder, fix=made_by or None)
    _require_ours(folder)
    with atomic_folder(folder) as draft:
        rows = []
        for clip in there:
            assert clip.audio_path is not None
            name = f"{clip.id}{clip.audio_path.suffix}"
            shutil.copyfile(clip.audio_path, draft / name)
            rows.append((name, stripped(clip.text, clip.language or language)))
        _write_texts(rows, draft / TEXTS)
        files = [name for name, _ in rows]
        write_json(draft / COPIES, {"format": FORMAT, "version": VERSION, "files": files})
    return len(there)


def _require_ours(folder: Path) -> None:
    """Refuse to replace recordings that people have put there themselves."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError("a file, not a folder of recordings", where=folder, fix=NOT_OURS)
    ours, record = {".DS_Store"}, folder / COPIES
    if record.is_file():
        told = read_json(record, format=FORMAT)
        if told.get("version") != VERSION or not isinstance(told.get("files"), list):
            raise UserError(f"expected version {VERSION} of {FORMAT}", where=record, fix=NOT_OURS)
        ours |= {COPIES, TEXTS, *told["files"]}
    if strange := sorted({path.name for path in folder.iterdir()} - ours):
        what = f"'{strange[0]}' isn't one of our copies of held-out recordings, and would be lost"
        raise UserError(what, where=folder, fix=NOT_OURS)


def speak_conditions(
    tts: IndexTTS2,
    wanted: Sequence[Condition],
    who: Speakers,
    texts: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    hesitant: Callable[[str, int], str] | None = None,
    **settings: Any,
) -> Iterator[tuple[Condition, int, int]]:
    """Speak every text with every seed, each condition into its folder.

    Args:
        hesitant: writes hesitations into a text, with a seed, for the condition that wants them
        settings: fields of `SpeechConfig` and `DecodingConfig`

    Yields:
        each condition when it is done, how many files it has, and how many were made now

    Raises:
        UserError: if a text can't be spoken, or pattern, adapter and base don't fit
    """
    patterns = {"own": PatternEmbedding.load(who.pattern)}
    if who.other is not None:
        patterns["other"] = PatternEmbedding.load(who.other)
    plain = lines([readable(text) for text in texts], seeds)
    told = {"speaker_embeddings": read_voice(who.voice), **settings}

    def spoken(text: str, line: Line) -> ToSay:
        request = tts.request(None, text, seed=line.seed, **told)
        return ToSay(_file_name(line), text, line.seed, request)

    _require_fit(tts, wanted, who, patterns)
    said = {False: [spoken(line.text, line) for line in plain]}
    if hesitant is not None and any(condition.is_hesitant for condition in wanted):
        said[True] = [spoken(readable(hesitant(line.text, line.seed)), line) for line in plain]
    first = said[False][0].request
    origin = [RULES, content_key(who.voice), weights_key(tts.folder.s2mel), str(tts.dtype)]
    origin += [dataclasses.asdict(one) for one in (first.speech, first.decoding)]
    for condition in wanted:
        speak_by(tts, who.speaking(condition))
        pattern = patterns.get("other" if condition.way == "other" else "own")
        file = who.other if condition.way == "other" else who.pattern
        manner = None if condition.way == "none" else content_key(file or who.pattern)
        key = [*origin, tts.language_model.fingerprint, manner, condition.way, condition.scale]
        own = said[condition.is_hesitant]
        with _in_manner(tts, condition, pattern):
            n_made = _speak(tts, own, folder / condition.name, key, condition)
        yield condition, len(own), n_made


def _require_fit(
    tts: IndexTTS2,
    wanted: Sequence[Condition],
    who: Speakers,
    patterns: Mapping[str, PatternEmbedding],
) -> None:
    """Refuse now what would be refused after hours of speech."""
    for whose, pattern in patterns.items():
        where = who.pattern if whose == "own" else who.other
        require_fit(pattern, tts.language_model.gpt, where)
    for model in dict.fromkeys(map(who.speaking, wanted)):
        speak_by(tts, model)


def _speak(
    tts: IndexTTS2, said: Sequence[ToSay], place: Path, key: list[Any], of: Condition
) -> int:
    """Speak what isn't there yet, and put aside what isn't wanted now."""
    ledger = Ledger(place / RECORDS)
    known = dict(ledger.items())
    aside = place.parent / EARLIER / place.name
    wanted: dict[str, Any] = {}
    n_made = 0
    for number, one in enumerate(said, start=1):
        name = one.name
        mark = _mark([*key, one.text, one.seed])
        kept = known.get(mark, {})
        if kept.get("file") == name and _is_same(aside / name, kept):
            _move(aside / name, place / name)
        if kept.get("file") != name or not _is_same(place / name, kept):
            began = time.monotonic()
            speech = tts.speak(one.request, lambda *_: None)
            record = write_speech(place / name, one.text, speech)
            kept = {"file": name, "sha256": record["sha256"], "complete": record["is_complete"]}
            ledger.append(mark, kept)
            n_made += 1
            told = speech.duration, time.monotonic() - began
            log.info("%s  %d/%d  %.1f s of sound in %.1f s", of.name, number, len(said), *told)
        wanted[mark] = kept
    surplus = _put_aside(known, wanted, place, aside)
    _write_texts([(one.name, one.text) for one in said], place / TEXTS)
    ledger.replace({**surplus, **wanted})
    return n_made


def _put_aside(
    known: Mapping[str, Any], wanted: Mapping[str, Any], place: Path, aside: Path
) -> dict[str, Any]:
    """Records of speech that was asked for earlier, and may be again; hours were spent on it."""
    names = {kept["file"] for kept in wanted.values()}
    surplus = {}
    for mark, kept in known.items():
        name = kept["file"]
        if name in names:  # here, or made of something else by now
            (aside / name).unlink(missing_ok=True)
            continue
        if (place / name).is_file():
            _move(place / name, aside / name)
        if _is_same(aside / name, kept):
            surplus[mark] = kept
    return surplus


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


@contextmanager
def _in_manner(
    tts: IndexTTS2, condition: Condition, pattern: PatternEmbedding | None
) -> Iterator[None]:
    if condition.way == "none" or pattern is None:
        yield
        return
    is_shuffled = condition.way == "shuffled"
    with speaking_with(tts, pattern, scale=condition.scale, is_shuffled=is_shuffled):
        yield


def _file_name(line: Line) -> str:
    """The same however many texts there are, so that more of them may follow."""
    return f"{line.number:03d}_{slug(line.text)}_seed{line.seed}.wav"


def _mark(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _is_same(path: Path, kept: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == kept["sha256"]


def _write_texts(rows: Sequence[tuple[str, str]], path: Path) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("audio_path", "text"), *rows])
    with atomic(path) as draft:
        draft.write_text(table.getvalue(), encoding="utf-8")
