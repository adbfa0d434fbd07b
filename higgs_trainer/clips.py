"""What is prepared once: the codes of each audio, and lists of what is learned from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from higgs_trainer.conversation import Audio, Conversation, Turn
from higgs_trainer.statistics import Statistics, read_statistics
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.manifest import read_records

FORMAT, VERSION = "higgs_trainer.samples", 1
TRAIN, VALIDATION, CODES = "train.jsonl", "validation.jsonl", "codes"
PREPARE = "prepare the data again"


@dataclass(frozen=True)
class Sound:
    """An audio whose codes are stored.

    Attributes:
        audio: the file it was, as it is named to people
        key: changes with its content
        n_steps: of its codes
    """

    audio: str
    key: str
    n_steps: int


@dataclass(frozen=True)
class HiggsClip:
    """Something to learn.

    Attributes:
        turns: of a conversation, in which numbers stand for `sounds`; empty for a clip of a
            speaker, which gets its reference when it is drawn
        text: what is said in the last sound
    """

    id: str
    speaker: str
    recording: str
    text: str
    sounds: tuple[Sound, ...]
    turns: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    learned_from: int = 0

    @property
    def target(self) -> Sound:
        return self.sounds[-1]

    def conversation(self) -> Conversation:
        """That of a fixed one."""
        turns = tuple(
            Turn(role, tuple(Audio() if isinstance(part, int) else part for part in parts))  # type: ignore[arg-type]
            for role, parts in self.turns
        )
        return Conversation(turns, self.learned_from)


class CodeStore:
    """Codes of audios, a file each, below the folder of the codec that made them."""

    def __init__(self, processed: Path, codec: str):
        self.folder = processed / CODES / codec

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def write(self, key: str, codes: Tensor) -> None:
        path = self.path(key)
        with atomic(path) as draft:
            save_file({"codes": codes.to(torch.int16).contiguous()}, draft)

    def read(self, key: str) -> Tensor | None:
        """(K, T) long, or None if there are none that can be read."""
        try:
            return load_file(self.path(key))["codes"].long()
        except (FileNotFoundError, SafetensorError, KeyError):
            return None

    def codes(self, sound: Sound) -> Tensor:
        """(K, T) long.

        Raises:
            UserError: if they are gone or others than when they were listed
        """
        codes = self.read(sound.key)
        if codes is None or codes.ndim != 2 or codes.shape[1] != sound.n_steps:
            what = f"the codes of {sound.audio} are missing or others"
            raise UserError(what, where=self.path(sound.key), fix=PREPARE)
        return codes


@dataclass(frozen=True)
class Prepared:
    """A list of what is to be learned, with its codes."""

    clips: list[HiggsClip]
    store: CodeStore
    codec: str
    path: Path

    @property
    def statistics(self) -> Statistics:
        """Of the clips that are trained on; nothing is known where there are none."""
        return read_statistics(self.path.parent) or Statistics()


def write_clips(path: Path, clips: Sequence[HiggsClip], codec: str) -> None:
    """Replace a list."""
    header = {"format": FORMAT, "version": VERSION, "codec": codec, "n": len(clips)}
    with atomic(path) as draft:
        lines = [header, *map(_record, clips)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        draft.write_text(text, encoding="utf-8", newline="\n")


def read_prepared(path: Path) -> Prepared:
    """A list that `write_clips` wrote, in the folder that has its codes.

    Raises:
        UserError: if it is missing, broken, of another kind, or empty
    """
    records = read_records(path)
    header = records[0] if records else {}
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise UserError(f"expected a {FORMAT} file of version {VERSION}", where=path, fix=PREPARE)
    try:
        clips = [_clip(record) for record in records[1:]]
        codec = str(header["codec"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"broken: {error!r}", where=path, fix=PREPARE) from error
    if not clips or len(clips) != header["n"]:
        raise UserError(f"cut short: {len(clips)} of {header['n']} clips", where=path, fix=PREPARE)
    return Prepared(clips, CodeStore(path.parent, codec), codec, path)


def _record(clip: HiggsClip) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": clip.id,
        "speaker": clip.speaker,
        "recording": clip.recording,
        "text": clip.text,
        "sounds": [vars(sound) for sound in clip.sounds],
    }
    if clip.turns:
        record["turns"] = [{"role": role, "parts": list(parts)} for role, parts in clip.turns]
        record["learned_from"] = clip.learned_from
    return record


def _clip(record: Mapping[str, Any]) -> HiggsClip:
    turns = tuple((turn["role"], tuple(turn["parts"])) for turn in record.get("turns", ()))
    sounds = tuple(Sound(**sound) for sound in record["sounds"])
    named = {name: str(record[name]) for name in ("id", "speaker", "recording", "text")}
    return HiggsClip(
        **named, sounds=sounds, turns=turns, learned_from=int(record.get("learned_from", 0))
    )
