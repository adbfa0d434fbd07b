"""From prepared clips to batches, each clip with another clip of its speaker as the prompt."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from indextts.clips import (
    MAX_PROMPT_FRAMES,
    PREPARE,
    TrainingClip,
    codes,
    read_array,
    read_clips,
    require_base,
    require_fit,
    text_ids,
)
from indextts.gpt.model import VoiceBatch
from ttscommon.batching import BatchKey, length_buckets, pad
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

__all__ = [
    "PairedPlan",
    "TrainingClip",
    "VoiceTrainingBatch",
    "read_clips",
    "require_base",
    "require_fit",
]

log = logging.getLogger(__name__)

Pairing = Literal["other", "same"]
MIN_PROMPT_FRAMES = 100  # 2 s; crops aren't shorter


@dataclass(frozen=True)
class VoiceTrainingBatch:
    """Utterances to learn from, each with what it is prompted by.

    Attributes:
        ids: of the clips that are spoken
        n_targets: codes to predict, a stop token for each clip included
        text: (B, L) long, without start and stop; text_lengths: (B,)
        codes: (B, T) long, without start and stop; code_lengths: (B,)
        speaker: (B, N, D) and emotion: (B, D) of the prompts, where they were computed beforehand
        prompt: (B, F, C) w2v-bert features of the prompts, where they are to be computed
        prompt_lengths: (B,)
        prompt_ids: of the clips that prompt
    """

    ids: tuple[str, ...]
    n_targets: int
    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    speaker: Tensor | None
    emotion: Tensor | None
    prompt: Tensor | None
    prompt_lengths: Tensor | None
    prompt_ids: tuple[str, ...]

    @property
    def prompt_mask(self) -> Tensor:
        """(B, F) bool, True on real frames"""
        assert self.prompt is not None
        assert self.prompt_lengths is not None
        places = torch.arange(self.prompt.shape[1], device=self.prompt.device)
        return places < self.prompt_lengths[:, None]

    def voiced(self, speaker: Tensor | None = None, emotion: Tensor | None = None) -> VoiceBatch:
        """What the language model reads, with these conditions or its own."""
        speaker, emotion = (self.speaker, self.emotion) if speaker is None else (speaker, emotion)
        assert speaker is not None
        assert emotion is not None
        streams = (self.text, self.text_lengths, self.codes, self.code_lengths)
        return VoiceBatch(*streams, speaker, emotion)


class PairedPlan:
    """Clips of like length together, each with its prompt; everything follows from (seed, epoch).

    Args:
        batch_size: most clips in a batch
        token_budget: most columns of a batch in the transformer (clips x longest); None: no limit
        on_the_fly: load the prompts' features, not the conditions computed from them beforehand
        pairing: "other" draws another clip of the speaker as the prompt, anew in every epoch;
            "same" lets each clip prompt itself, which lets the model look ahead
        shuffle: False makes all epochs alike, prompts too, for validation
        prompts: clips to draw prompts from, by default `clips`; for validation the training clips
        crop_prompts: let prompts be stretches of 2 s or more, with features only

    Raises:
        UserError: if clips lack the files that are needed, or one is over the budget
    """

    def __init__(
        self,
        clips: Sequence[TrainingClip],
        *,
        batch_size: int,
        token_budget: int | None = None,
        on_the_fly: bool = False,
        pairing: Pairing = "other",
        seed: int = 0,
        shuffle: bool = True,
        prompts: Sequence[TrainingClip] | None = None,
        crop_prompts: bool = False,
    ):
        if crop_prompts and not on_the_fly:
            raise ValueError("conditions computed beforehand can't be cropped")
        self.clips, self.on_the_fly, self.pairing = list(clips), on_the_fly, pairing
        self.batch_size, self.token_budget = batch_size, token_budget or 0
        self.seed, self.shuffle, self.crop_prompts = seed, shuffle, crop_prompts
        self.prompts = self.clips if prompts is None else list(prompts)
        self.n_tokens = np.array([clip.n_tokens for clip in self.clips])
        _require_files([*self.clips, *self.prompts], on_the_fly)
        _require_budget(self.clips, self.token_budget)
        self._choices, self._places = self._prompt_choices()
        pool = [] if prompts is None else [clip.sha256 for clip in self.prompts]
        self.fingerprint = fingerprint([clip.sha256 for clip in self.clips], pool)

    def epoch(self, epoch: int) -> list[BatchKey]:
        keys = length_buckets(
            self.n_tokens,
            batch_size=self.batch_size,
            frame_budget=self.token_budget,
            seed=self.seed,
            epoch=epoch if self.shuffle else 0,
        )
        return keys if self.shuffle else sorted(keys, key=lambda key: self.n_tokens[key.items[0]])

    def load(self, key: BatchKey) -> VoiceTrainingBatch:
        chosen = [self.clips[item] for item in key.items]
        prompts = [self.prompt_of(item, key.epoch) for item in key.items]
        text, _ = pad([_long(text_ids(clip)) for clip in chosen])
        spoken, _ = pad([_long(codes(clip)) for clip in chosen])
        speaker = emotion = prompt = prompt_lengths = None
        if self.on_the_fly:
            frames = [
                self._frames(clip, item, key.epoch)
                for clip, item in zip(prompts, key.items, strict=True)
            ]
            prompt, _ = pad(frames)
            prompt_lengths = torch.tensor([len(one) for one in frames])
        else:
            speaker = torch.stack([_float(clip.condition_path) for clip in prompts])
            emotion = torch.stack([_float(clip.emo_vec_path) for clip in prompts])
        return VoiceTrainingBatch(
            ids=tuple(clip.id for clip in chosen),
            n_targets=sum(clip.code_len + 1 for clip in chosen),
            text=text,
            text_lengths=torch.tensor([clip.text_len for clip in chosen]),
            codes=spoken,
            code_lengths=torch.tensor([clip.code_len for clip in chosen]),
            speaker=speaker,
            emotion=emotion,
            prompt=prompt,
            prompt_lengths=prompt_lengths,
            prompt_ids=tuple(clip.id for clip in prompts),
        )

    def prompt_of(self, item: int, epoch: int) -> TrainingClip:
        """The clip that prompts clip number `item` in this epoch."""
        clip, choices = self.clips[item], self._choices[self.clips[item].speaker]
        own = self._places[clip.speaker, clip.sha256]
        n_others = len(choices) - len(own)
        if self.pairing == "same" or not n_others:
            return clip
        place = seed_for(self.seed, "prompt", epoch if self.shuffle else 0, item) % n_others
        for mine in own:  # rising: step over the clip's own places
            place += mine <= place
        return self.prompts[choices[place]]

    @property
    def most_prompt_frames(self) -> int:
        """Of features, in any epoch."""
        longest = max(self.prompts, key=lambda clip: clip.code_len)
        assert longest.features_path is not None
        return min(len(read_array(longest.features_path)), MAX_PROMPT_FRAMES)

    def _prompt_choices(self) -> tuple[dict[str, list[int]], dict[tuple[str, str], list[int]]]:
        """Numbers of each speaker's prompts, and the places in that list where each clip stands."""
        choices: dict[str, list[int]] = defaultdict(list)
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, clip in enumerate(self.prompts):
            places[clip.speaker, clip.sha256].append(len(choices[clip.speaker]))
            choices[clip.speaker].append(number)
        alone = [
            clip.id
            for clip in self.clips
            if len(places[clip.speaker, clip.sha256]) == len(choices[clip.speaker])
        ]
        if alone and self.pairing == "other":
            log.warning(
                "%d clips prompt themselves, their speaker has no other: %s",
                *(len(alone), ", ".join(alone[:5])),
            )
        return choices, places

    def _frames(self, clip: TrainingClip, item: int, epoch: int) -> Tensor:
        """(F, C) float32"""
        assert clip.features_path is not None
        features = read_array(clip.features_path)
        n_frames = min(len(features), MAX_PROMPT_FRAMES)
        if not self.crop_prompts or n_frames <= MIN_PROMPT_FRAMES:
            return _numbers(features[:n_frames])
        random = np.random.default_rng(seed_for(self.seed, "crop", epoch, item))
        length = int(random.integers(MIN_PROMPT_FRAMES, n_frames + 1))
        start = int(random.integers(0, n_frames - length + 1))
        return _numbers(features[start : start + length])


def _require_files(clips: Sequence[TrainingClip], on_the_fly: bool) -> None:
    names = ("features_path",) if on_the_fly else ("condition_path", "emo_vec_path")
    lacking = [clip.id for clip in clips if any(getattr(clip, name) is None for name in names)]
    if lacking:
        raise UserError(
            f"{len(lacking)} clips have no {' and '.join(names)} in their manifest, {lacking[0]} "
            "first",
            fix=f"{PREPARE} makes them",
        )


def _require_budget(clips: Sequence[TrainingClip], budget: int) -> None:
    longest = max(clips, key=lambda clip: clip.n_tokens)
    if budget and longest.n_tokens > budget:
        raise UserError(
            f"{longest.id} takes {longest.n_tokens} tokens, a batch may have {budget}",
            fix=f"--token-budget {longest.n_tokens}, or more",
        )


def _long(ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64))


def _float(path: Path | None) -> Tensor:
    assert path is not None
    return _numbers(read_array(path))


def _numbers(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
