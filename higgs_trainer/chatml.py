"""Samples in the ChatML form of the guide: JSON or JSONL, read with every defect that they have.

A sample is {"messages": [...], "speaker": ..., "start_index": ...}; what is learned is the audio of
its last turn. The guide's own samples end with the text, so there is nothing in them to learn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_trainer.conversation import (
    ROLES,
    Audio,
    Conversation,
    Part,
    Turn,
    role_defects,
    with_scene,
)
from higgs_trainer.prompt import FORBIDDEN
from ttscommon.errors import UserError

# The guide types these into texts, where they stand for an audio that isn't there.
TYPED = re.compile(r"\s*<\|audio_bos\|><\|AUDIO\|><\|audio_eos\|>\s*")


@dataclass(frozen=True)
class ChatSample:
    """One sample, and what is wrong with it.

    Attributes:
        recording: what the target was cut from; samples of one recording stay together in a split
        defects: why it can't be used, a line each
        notes: what was put right
    """

    id: str
    conversation: Conversation
    speaker: str = ""
    recording: str = ""
    defects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> Audio | None:
        """The audio of the last turn."""
        turns = self.conversation.turns
        found = [part for part in turns[-1].parts if isinstance(part, Audio)] if turns else []
        return found[0] if found else None


def read_samples(path: Path, audio_base: Path | None = None) -> list[ChatSample]:
    """All samples of a file, those with defects too.

    Args:
        audio_base: what relative paths of audio begin at, by default the file's own folder

    Raises:
        UserError: if the file is missing, isn't JSON or JSONL, or holds nothing
    """
    base = audio_base or path.parent
    records = _records(path)
    width = len(str(len(records)))
    return [
        read_sample(record, base, f"{path.stem}_{number:0{width}d}")
        for number, record in enumerate(records, start=1)
    ]


def read_sample(record: Any, base: Path, name: str) -> ChatSample:
    """One sample of a file."""
    if not isinstance(record, Mapping) or not isinstance(record.get("messages"), list):
        return ChatSample(name, Conversation(()), defects=('no list "messages"',))
    turns, defects, notes = [], [], []
    for number, message in enumerate(record["messages"]):
        turn, wrong, mended = _turn(message, base, number)
        defects += wrong
        notes += mended
        if turn is not None:
            turns.append(turn)
    has_scene = any(turn.role == "scene" for turn in turns)
    roles = [Turn(turn.role, turn.parts) for turn in _with_scenes(turns)]  # type: ignore[arg-type]
    learned_from = record.get("start_index")
    if learned_from is None or has_scene:  # a scene is no turn of its own, so numbers move
        learned_from = len(roles) - 1
    conversation = Conversation(tuple(roles), learned_from)
    defects += role_defects(roles) + _target_defects(conversation, learned_from)
    target = ChatSample(name, conversation).target
    speaker = record.get("speaker", "")
    return ChatSample(
        id=str(record.get("id") or name),
        conversation=conversation,
        speaker=speaker if isinstance(speaker, str) else "",
        recording=str(record.get("recording") or (target.path if target else name)),
        defects=tuple(defects),
        notes=tuple(notes),
    )


def read_request(record: Mapping[str, Any], base: Path, name: str) -> Conversation:
    """What a sample asks the assistant to say; an answer that it ends with is left out.

    Raises:
        UserError: with every defect of the sample
    """
    messages = record["messages"] if isinstance(record.get("messages"), list) else []
    last = messages[-1] if messages else None
    if isinstance(last, Mapping) and last.get("role") == "assistant":
        messages = messages[:-1]
    read = [_turn(message, base, number) for number, message in enumerate(messages)]
    turns = [turn for turn, _, _ in read if turn is not None]
    roles = [Turn(turn.role, turn.parts) for turn in _with_scenes(turns)]  # type: ignore[arg-type]
    defects = [line for _, wrong, _ in read for line in wrong] + role_defects(roles)
    if not defects and (roles[-1].role != "user" or roles[-1].has_audio):
        defects = ["nothing is asked for: the user's last turn must be the text to be said"]
    if defects:
        raise UserError(f"{name}: {'; '.join(defects)}", where=base)
    return Conversation(tuple(roles))


def refuse_defects(samples: Iterable[ChatSample], where: Path) -> None:
    """Refuse a file of which no sample can be used.

    Raises:
        UserError: with the first defects
    """
    samples = list(samples)
    if any(not sample.defects for sample in samples):
        return
    first = samples[0]
    raise UserError(
        f"none of {len(samples)} samples can be used; {first.id}: {'; '.join(first.defects)}",
        where=where,
        fix="--validate-data-only lists every defect, --create-sample-data writes an example",
    )


def _records(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError("no such file of samples", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError("the file isn't UTF-8", where=path) from error
    try:
        if path.suffix == ".jsonl":
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            records = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"broken JSON: {error}", where=path) from error
    records = [records] if isinstance(records, Mapping) else records
    if not isinstance(records, list) or not records:
        raise UserError("no list of samples in the file", where=path)
    return records


@dataclass(frozen=True)
class _Read:
    """A turn whose role may still be "scene"."""

    role: str
    parts: tuple[Part, ...]


def _turn(message: Any, base: Path, number: int) -> tuple[_Read | None, list[str], list[str]]:
    place = f"message {number}"
    if not isinstance(message, Mapping) or "content" not in message:
        return None, [f"{place} has no content"], []
    role = message.get("role")
    if role not in (*ROLES, "scene"):
        return None, [f"{place} has the role '{role}', not one of {', '.join(ROLES)}"], []
    content = message["content"]
    parts, defects, notes = [], [], []
    for item in content if isinstance(content, list) else [content]:
        part, wrong = _part(item, base)
        defects += [f"{place}: {wrong}"] if wrong else []
        if isinstance(part, str) and TYPED.search(part):
            part = TYPED.sub(" ", part).strip()
            notes.append(f"{place}: took out typed marks of an audio that isn't there")
        if isinstance(part, str) and (found := FORBIDDEN.search(part)):
            defects.append(f"{place}: '{found[0]}' belongs to the structure, not into a text")
        if part is not None:
            parts.append(part)
    return _Read(role, tuple(parts)), defects, notes


def _part(item: Any, base: Path) -> tuple[Part | None, str]:
    if isinstance(item, str):
        return item, ""
    if not isinstance(item, Mapping):
        return None, f"content of the type {type(item).__name__}"
    if item.get("type") == "text" and isinstance(item.get("text"), str):
        return item["text"], ""
    if item.get("type") != "audio":
        return None, f"content of the type '{item.get('type')}' instead of text or audio"
    name = item.get("audio_url") or item.get("url") or item.get("path")
    if not isinstance(name, str) or not name:
        return None, "an audio without audio_url"
    path = base / name
    return Audio(path), "" if path.is_file() else f"no such file: {name}"


def _with_scenes(turns: list[_Read]) -> list[_Read]:
    """A turn of the scene becomes part of the system's before it."""
    found: list[_Read] = []
    for turn in turns:
        if turn.role != "scene":
            found.append(turn)
            continue
        before = found.pop() if found and found[-1].role == "system" else _Read("system", ("",))
        system, scene = (
            "".join(part for part in one.parts if isinstance(part, str)) for one in (before, turn)
        )
        found.append(_Read("system", (with_scene(system, scene),)))
    return found


def _target_defects(conversation: Conversation, learned_from: Any) -> list[str]:
    turns = conversation.turns
    if not turns:
        return []
    last = turns[-1]
    audios = [part for part in last.parts if isinstance(part, Audio)]
    if last.role != "assistant" or not audios:
        return ["no target: the last message must be the assistant's, with the audio to be learned"]
    if len(audios) > 1:
        return ["two audios in the last message; one answer is one audio"]
    if not isinstance(learned_from, int) or not 0 <= learned_from < len(turns):
        return [f"start_index is {learned_from}, of {len(turns)} messages"]
    target = audios[0].path
    if any(audio.path == target for audio in conversation.audios[:-1]):
        return ["the reference is the target itself, which would teach to repeat it"]
    return []
