"""What is to be said, from files; where it goes; what is told about it, in JSON and in a table."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_trainer.chatml import read_request
from higgs_trainer.conversation import Conversation
from higgs_trainer.inference import HiggsVoice, Reference
from higgs_trainer.speaking import Spoken
from higgs_trainer.text import words_of
from ttscommon import audio
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.manifest import read_transcripts
from ttscommon.outputs import read_texts, slug, speech_paths

FORMAT = "higgs_trainer.speech"
TABLE = "transcripts.csv"
JSON_SUFFIXES = (".json", ".jsonl")
KEYS = ("text", "id")
CHAT_KEYS = ("messages", "id", "speaker", "start_index", "recording")  # of a training sample


@dataclass(frozen=True)
class Wanted:
    """A text to be said.

    Attributes:
        name: of its file, if it has one
        conversation: that asks for it, with its own references
    """

    text: str
    name: str = ""
    conversation: Conversation | None = None


def read_wanted(path: Path) -> list[Wanted]:
    """The texts of a file: one a line, or JSON.

    JSON holds texts, records of "text" and "id", or samples in the form that is trained on.

    Raises:
        UserError: if the file is missing, broken, or holds no text
    """
    if path.suffix.lower() not in JSON_SUFFIXES:
        return [Wanted(text) for text in read_texts(path)]
    lines = read_texts(path)
    try:
        whole = path.suffix.lower() == ".json"
        found = json.loads("\n".join(lines)) if whole else [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise UserError(f"broken JSON: {error}", where=path) from error
    if not isinstance(found, list) or not found:
        fix = 'write ["Hello.", {"text": "Good morning.", "id": "morning"}]'
        raise UserError("no list of texts in the file", where=path, fix=fix)
    return [_wanted(one, path, number) for number, one in enumerate(found, start=1)]


def paths_of(wanted: Sequence[Wanted], folder: Path, seed: int | None) -> list[Path]:
    """A wave file for each text; its name tells a seed that was asked for.

    Raises:
        UserError: if two have the same name
    """
    plain = speech_paths([words_of(one.text) for one in wanted], folder, "higgs")
    end = "" if seed is None else f"_seed{seed}"
    paths = [
        folder / f"{one.name or path.stem}{end}.wav"
        for one, path in zip(wanted, plain, strict=True)
    ]
    twice = [path for number, path in enumerate(paths) if path in paths[:number]]
    if twice:
        raise UserError("two texts have the same id", where=twice[0])
    return paths


def write_spoken(path: Path, text: str, spoken: Spoken) -> dict[str, Any]:
    """Write the wave file, if anything was said, and return what there is to tell about it."""
    is_said = len(spoken.audio) > 0
    if is_said:
        audio.save(path, spoken.audio, spoken.sample_rate)
    return {
        "text": text,
        "path": str(path) if is_said else None,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if is_said else None,
        "duration": spoken.seconds,
        "retries": spoken.n_retries,
        "seeds": [segment.take.seed for segment in spoken.segments],
        "verdict": spoken.verdict.to_dict(),
        "segments": [segment.to_dict() for segment in spoken.segments],
    }


def add_transcripts(folder: Path, said: Mapping[str, str]) -> None:
    """Lay {file name: text} over the folder's table of texts, for tools/evaluate.py.

    Raises:
        UserError: if there is a table that can't be read
    """
    path = folder / TABLE
    known = read_transcripts(path) if path.is_file() else {}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("audio_path", "text"))
    writer.writerows(sorted({**known, **said}.items()))
    with atomic(path) as draft:
        draft.write_text(table.getvalue(), encoding="utf-8")


def report(
    voice: HiggsVoice, model: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Which weights spoke and how, and the results of `write_spoken`.

    Args:
        model: what is to be told about weights and settings
    """
    return {
        "format": FORMAT,
        "version": 1,
        **model,
        "codec": voice.codec.name,
        "text_rules": to_dict(voice.statistics.text),
        "paces": to_dict(voice.statistics)["paces"],
        "results": list(results),
    }


def reference_with_text(path: Path, text: str | None) -> Reference:
    """A reference, its text by default that of a .txt file beside it.

    Raises:
        UserError: if it is nowhere
    """
    if text is not None:
        return Reference(path, text)
    if not path.is_file():
        raise UserError("no such audio file", where=path)
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        raise UserError(
            "what is said in the reference must be known",
            where=path,
            fix=f"--reference-text 'WORDS', or write them into {beside.name} beside it",
        )
    return Reference(path, " ".join(read_texts(beside)))


def _wanted(record: Any, where: Path, number: int) -> Wanted:
    if isinstance(record, str):
        record = {"text": record}
    is_chat = isinstance(record, Mapping) and "messages" in record
    if not isinstance(record, Mapping) or not (is_chat or isinstance(record.get("text"), str)):
        raise UserError(f'entry {number} is no text and has no "text"', where=where)
    known = CHAT_KEYS if is_chat else KEYS
    strange = sorted(set(record) - set(known))
    if strange:
        what = f"entry {number} has '{strange[0]}'; known are {', '.join(known)}"
        raise UserError(what, where=where)
    name = str(record.get("id", ""))
    if name and slug(name) != name.lower().replace("_", "-"):
        what = f"entry {number}: '{name}' can't be a file's name"
        raise UserError(what, where=where, fix=f"call it '{slug(name)}'")
    if not is_chat:
        return Wanted(record["text"], name)
    conversation = read_request(record, where.parent, f"entry {number}")
    return Wanted(conversation.turns[-1].text, name, conversation)
