"""Sentences spoken by models: each clip once for the same weights, words and settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kani.codec import NanoCodec
from kani.codec_weights import codec_file, load_codec
from kani.generation import Reader
from kani.inference import KaniVoice
from kani.sampling import Sampling
from kani.tokens import Ids, TokenSpace, prompt_ids, speaker_prefix
from ttscommon import audio
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.evaluation.comparison import Known
from ttscommon.evaluation.conditions import Utterance
from ttscommon.ledger import Ledger, weights_key
from ttscommon.machine import pick_device

log = logging.getLogger(__name__)

SPOKEN = "spoken.jsonl"
RULES = 1  # raised when the same settings would give other sounds or numbers
BATCH = 8  # clips at a time
SILENCE = 0.5  # seconds that stand for a clip in which nothing was said
SHORTEST, LONGEST = 0.5, 2.0  # times the usual length, which is only guessed from the letters
ROWS_OF_LOGITS = 64


@dataclass(frozen=True)
class Line:
    """What is said once.

    Attributes:
        speaker: stands before the text; None for the text alone
    """

    id: str
    text: str
    speaker: str | None = None
    seed: int | None = None

    @property
    def prompt(self) -> str:
        return speaker_prefix(self.speaker) + self.text

    @property
    def file_name(self) -> str:
        return f"{self.id}.wav" if self.seed is None else f"{self.id}_seed{self.seed}.wav"


def split(sentence: str, speakers: Sequence[str]) -> tuple[str | None, str]:
    """Whose name stands before a sentence, and its words."""
    for name in speakers:
        if sentence.lower().startswith(speaker_prefix(name)):
            return name, sentence[len(speaker_prefix(name)) :].strip()
    return None, sentence.strip()


@dataclass(frozen=True)
class Pace:
    """How long a speaker takes for a text: seconds = base + letter * letters."""

    base: float
    letter: float

    @classmethod
    def of(cls, letters: Sequence[int], seconds: Sequence[float]) -> Pace:
        """What fits clips best; a mean for few of them."""
        mean = cls(0.0, float(np.sum(seconds) / max(1, np.sum(letters))))
        if len(set(letters)) < BATCH:
            return mean
        letter, base = np.polyfit(letters, seconds, 1)
        return cls(float(base), float(letter)) if letter > 0 and base >= 0 else mean

    def seconds(self, text: str) -> float:
        return self.base + self.letter * len(text)


class Booth:
    """A folder of clips by several models, with what is known of each besides its sound.

    Args:
        codec: its weights, read when they are needed; another codec gives other clips
        paces: by speaker
        voices: by speaker, embeddings (E,) for models that take them
    """

    def __init__(
        self,
        folder: Path,
        codec: Path,
        sampling: Sampling,
        space: TokenSpace,
        *,
        paces: Mapping[str | None, Pace],
        voices: Mapping[str | None, Tensor] | None = None,
        device: str = "auto",
        dtype: str = "float32",
    ):
        self.folder, self._codec, self.sampling, self.space = folder, codec, sampling, space
        self.paces, self.device, self.dtype = paces, device, dtype
        self.voices = voices or {}
        self.codec_mark = weights_key(codec_file(codec))
        self._ledger = Ledger(folder / SPOKEN)

    @cached_property
    def codec(self) -> NanoCodec:
        return load_codec(self._codec, pick_device(self.device))

    def path(self, name: str, line: Line) -> Path:
        return self.folder / name / line.file_name

    def key(self, mark: str, line: Line) -> str:
        """Changes with anything that changes the clip.

        Args:
            mark: of the model's weights
        """
        how = {**asdict(self.sampling), "seed": line.seed}
        voice = [self.voices[line.speaker].tolist()] if line.speaker in self.voices else []
        return fingerprint(RULES, mark, self.codec_mark, how, self.dtype, line.prompt, *voice)

    def missing(self, name: str, mark: str, lines: Sequence[Line]) -> list[Line]:
        """What wasn't spoken yet, or with other settings."""
        return [
            line
            for line in lines
            if self.key(mark, line) not in self._ledger or not self.path(name, line).is_file()
        ]

    def clear(self, paths: Sequence[Path]) -> None:
        """Forget clips that other settings made."""
        files = {self._file(path) for path in paths}
        self._ledger.replace({k: v for k, v in self._ledger.items() if v["file"] not in files})
        for path in paths:
            path.unlink(missing_ok=True)

    def keep(self, key: str, path: Path, sound: np.ndarray, rate: int, **facts: Any) -> None:
        """Write a clip; if a kill falls between, it is known and not there, and is made again."""
        self._ledger.append(key, {"file": self._file(path), **facts})
        there = sound if len(sound) else np.zeros(round(SILENCE * rate), np.float32)
        audio.save(path, there, rate)

    def speak(self, name: str, model: Path, mark: str, lines: Sequence[Line]) -> None:
        """Let a model say what is missing; its memory is free afterwards.

        Raises:
            UserError: if it can't be read, or doesn't fit the codec
        """
        todo = self.missing(name, mark, lines)
        if not todo:
            log.info("%s has spoken everything before", name)
            return
        options: dict[str, Any] = {"space": self.space, "device": self.device}
        voice = KaniVoice.open(model, self.codec, dtype=getattr(torch, self.dtype), **options)
        done = len(lines) - len(todo)
        for batch in _batches(todo):
            how = replace(self.sampling, seed=batch[0].seed or 0)
            texts, speaker = [line.text for line in batch], batch[0].speaker
            embedding = self.voices.get(speaker)
            speeches = voice.speak(
                texts, speaker=speaker, speaker_embedding=embedding, sampling=how
            )
            reader = voice.reader_for(embedding)
            for line, one in zip(batch, speeches, strict=True):
                prompt = prompt_ids(line.text, speaker, voice.tokenizer, self.space)
                codes = one.extracted.codes
                facts = {"n_frames": codes.shape[1], "problem": one.extracted.problem}
                facts |= {"n_invalid": invalid_frames(reader, prompt, codes)}
                facts |= {"duration": one.seconds}
                path = self.path(name, line)
                self.keep(self.key(mark, line), path, one.audio, one.sample_rate, **facts)
            done += len(batch)
            log.info("%s has spoken %d/%d clips", name, done, len(lines))

    def play(self, name: str, mark: str, clips: Sequence[tuple[Line, Ids]]) -> None:
        """Let the codec play what is missing of clips that are known by their codes (K, T)."""
        missing = self.missing(name, mark, [line for line, _ in clips])
        if not missing:
            return
        codec, place = self.codec, next(self.codec.parameters()).device
        for line, codes in clips:
            if line in missing:
                length = torch.tensor([codes.shape[1]])
                sound = codec.decode(torch.from_numpy(codes)[None].to(place), length)[0]
                path, rate = self.path(name, line), codec.config.sample_rate
                self.keep(self.key(mark, line), path, sound.float().cpu().numpy(), rate)

    def utterances(self, name: str, lines: Sequence[Line]) -> list[Utterance]:
        """Those clips for the evaluation."""
        return [
            Utterance(self.path(name, one), one.text, one.seed, one.id, one.speaker or "")
            for one in lines
        ]

    def known(self, name: str, mark: str, lines: Sequence[Line]) -> dict[Path, Known]:
        """What isn't to be heard: no end, no code of the right layer, an odd length."""
        return {
            self.path(name, line): self._known(self._ledger[self.key(mark, line)], line)
            for line in lines
        }

    def _known(self, facts: Mapping[str, Any], line: Line) -> Known:
        faults, parts = [], {}
        if facts["n_frames"]:
            parts["invalid_frames"] = (float(facts["n_invalid"]), float(facts["n_frames"]))
        if facts["problem"]:
            faults.append(f"no_end: {facts['problem']}")
        if line.speaker in self.paces:
            usual = self.paces[line.speaker].seconds(line.text)
            ratio = facts["duration"] / usual
            parts["length_ratio"] = (facts["duration"], usual)
            if not SHORTEST <= ratio <= LONGEST:
                which = "long" if ratio > LONGEST else "short"
                faults.append(
                    f"too_{which}: {facts['duration']:.1f} s, where {usual:.1f} s are usual"
                )
        is_failure = bool(faults) or not facts["n_frames"]
        return Known({**parts, "failures": (float(is_failure), 1.0)}, faults)

    def _file(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@torch.no_grad()
def invalid_frames(reader: Reader, prompt: Sequence[int], codes: Ids) -> int:
    """In how many frames the model by itself would have said something else than a code.

    Only codes of the right layer can be drawn here; this looks at what was likeliest of all ids.

    Args:
        codes: (K, T) that it said after the prompt
    """
    space, n_frames = reader.space, codes.shape[1]
    if not n_frames:
        return 0
    opened = reader.opened(prompt)
    said = (codes.T + space.layer_starts).reshape(-1)  # (N,)
    length = torch.tensor([len(opened)])
    places = [reader.positions(length, n) for n in range(len(said))]
    ids = torch.tensor([[*opened, *said.tolist()]], device=reader.device)
    hidden = reader.model.model(
        **reader.inputs(ids, torch.ones_like(ids, dtype=torch.bool)),
        attention_mask=torch.ones_like(ids),
        position_ids=torch.cat([torch.arange(len(opened))[None], *places], 1).to(reader.device),
        use_cache=False,
    ).last_hidden_state[0, len(opened) - 1 : -1]  # (N, D)
    chunks = hidden.split(ROWS_OF_LOGITS)
    likeliest = torch.cat([reader.model.lm_head(rows).argmax(-1).cpu() for rows in chunks])
    low = torch.from_numpy(np.resize(space.layer_starts, len(said)))
    is_right = (likeliest >= low) & (likeliest < low + space.codebook_size)
    frames = is_right.view(n_frames, space.num_codebooks)
    ends = likeliest.view(n_frames, space.num_codebooks)[:, 0] == space.end_of_speech
    ends[0] = False
    return int((~(frames[:, 0] | ends) | ~frames[:, 1:].all(1)).sum())


def _batches(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Few at a time, all of one speaker and seed."""

    def alike(line: Line) -> tuple[str, int]:
        return line.speaker or "", line.seed or 0

    for _, group in groupby(sorted(lines, key=alike), key=alike):
        found = list(group)
        yield from (found[start : start + BATCH] for start in range(0, len(found), BATCH))


def require_texts(lines: Sequence[Line]) -> None:
    """Refuse a sentence without words.

    Raises:
        UserError: naming it
    """
    for line in lines:
        if not line.text:
            raise UserError(f"'{line.id}' says nothing", where="eval_set.yaml")
