"""From features to batches: crops for the autoencoder, joined sentences for the predictor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lewm.config import ModelConfig, TrainConfig
from lewm.features import FeatureStore
from lewm.joining import Row, joined_rows
from lewm.text import MAX_TEXT_BYTES, PHONEMES_FOLLOW, encode, encode_all, has_espeak
from ttscommon.batching import BatchKey, length_buckets, pad
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.machine import processes
from ttscommon.seeds import seed_for

if TYPE_CHECKING:
    from lewm.replay import SaidByBase

log = logging.getLogger(__name__)

# A GPU keeps all features if they take less than this share of its free memory.
DEVICE_CACHE_SHARE = 0.25


@dataclass(frozen=True)
class CropBatch:
    """Pieces of clips for the autoencoder.

    Attributes:
        log_mel: (B, M, T), padded with the lowest value
        mask: (B, T) bool, True on real frames
        n_targets: real frames
    """

    ids: tuple[str, ...]
    log_mel: Tensor
    mask: Tensor
    n_targets: int


@dataclass(frozen=True)
class SpeechBatch:
    """Sentences with what was spoken, one to three clips joined in a row.

    Attributes:
        text_ids: (B, L), text_mask: (B, L) bool
        speech: (B, T, C) raw latents, or (B, T, M) log-mel frames for the joint graph
        speech_mask: (B, T) bool, True on real frames
        n_joined: (B,) clips in each row
        speaker_ids, language_ids: (B,) rows of the tables
        n_targets: real latent frames
    """

    ids: tuple[str, ...]
    text_ids: Tensor
    text_mask: Tensor
    speech: Tensor
    speech_mask: Tensor
    n_joined: Tensor
    speaker_ids: Tensor
    language_ids: Tensor
    n_targets: int


def split_by_recording(store: FeatureStore, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Clip indices for training and for validation; no recording is on both sides.

    Each speaker gives recordings in a random order until `share` of their frames is held out, one
    at least. A speaker with a single recording gives its last clips.

    Raises:
        UserError: if a speaker has but one clip
    """
    held_out: list[int] = []
    for speaker in sorted(set(store.speakers)):
        items = [i for i, name in enumerate(store.speakers) if name == speaker]
        if len(items) < 2:
            raise UserError(
                f"one clip of {speaker} is too little: one must be held out to measure with",
                fix="add recordings",
            )
        held_out += _held_out(store, items, share, seed)
    training = sorted(set(range(len(store))) - set(held_out))
    return training, sorted(held_out)


def _held_out(store: FeatureStore, items: Sequence[int], share: float, seed: int) -> list[int]:
    """One speaker's clips to hold out."""
    clips: dict[str, list[int]] = {}
    for item in items:
        clips.setdefault(store.recordings[item], []).append(item)
    if len(clips) == 1:
        return list(items[-max(1, round(share * len(items))) :])
    frames = {name: int(store.n_frames[mine].sum()) for name, mine in clips.items()}
    names = sorted(clips)
    order = np.random.default_rng(seed_for(seed, "split")).permutation(len(names))
    room, chosen = share * sum(frames.values()), []
    for name in (names[i] for i in order):
        if frames[name] <= room:
            chosen.append(name)
            room -= frames[name]
    chosen = chosen or [min(names, key=lambda name: (frames[name], name))]
    return [item for name in chosen for item in clips[name]]


class MelTable:
    """Log-mel frames of every clip: memory-mapped, or all on the GPU where they fit.

    Args:
        placement: "auto", "device" or "disk", as `TrainConfig.cache_mels`
        device_name: "auto", "cpu" or "cuda"
        workers: loader processes, which can't read what is on a GPU
    """

    def __init__(
        self, store: FeatureStore, placement: str, device_name: str = "auto", workers: int = 0
    ):
        self.store, self.device_name = store, device_name
        device = processes(device_name).device or torch.device("cpu")
        self.device = device
        self.n_frames = np.asarray(store.n_frames)
        self._offsets = np.concatenate([[0], np.cumsum(self.n_frames)])
        self._flat: Tensor | None = None
        if placement == "device" or (placement == "auto" and not workers and self._fits(device)):
            flat = torch.empty(self._offsets[-1], store.recipe.n_mels, dtype=torch.float16)
            for index in range(len(store)):
                start, end = self._offsets[index : index + 2]
                flat[start:end] = torch.from_numpy(store[index].mel.T.copy())
            self._flat = flat.to(device)
            log.info("all %d clips' features are on %s", len(store), device)

    def frames(self, index: int, start: int = 0, end: int | None = None) -> Tensor:
        """Frames [start, end) of a clip as (T, M) float32."""
        if self._flat is not None:
            base = self._offsets[index]
            stop = self._offsets[index + 1] if end is None else base + end
            return self._flat[base + start : stop].float()
        mel = self.store[index].mel[:, start:end]
        return torch.from_numpy(mel.T.astype(np.float32))

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return False
        n_bytes = int(self._offsets[-1]) * self.store.recipe.n_mels * 2
        return n_bytes < DEVICE_CACHE_SHARE * torch.cuda.mem_get_info(device)[0]


class CropPlan:
    """Random crops of the training clips, for the autoencoder stage."""

    def __init__(self, mels: MelTable, items: Sequence[int], config: TrainConfig):
        self.mels, self.items, self.config = mels, np.asarray(items), config
        self.fingerprint = fingerprint(mels.store.fingerprint, list(items))

    def epoch(self, epoch: int) -> list[BatchKey]:
        random = np.random.default_rng(seed_for(self.config.seed, "epoch", epoch))
        order = random.permutation(self.items)
        size = self.config.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        return [BatchKey(epoch, n, tuple(batch.tolist())) for n, batch in enumerate(batches)]

    def load(self, key: BatchKey) -> CropBatch:
        crops = [self._crop(item, key.epoch) for item in key.items]
        floor = float(np.log(self.mels.store.recipe.floor))
        padded, mask = pad(crops, value=floor)  # (B, T, M)
        return CropBatch(
            ids=tuple(self.mels.store.ids[item] for item in key.items),
            log_mel=padded.transpose(1, 2).contiguous(),
            mask=mask.to(padded.device),
            n_targets=int(mask.sum()),
        )

    def _crop(self, item: int, epoch: int) -> Tensor:
        n_frames, length = int(self.mels.n_frames[item]), self.config.crop_frames
        if n_frames <= length:
            return self.mels.frames(item)
        random = np.random.default_rng(seed_for(self.config.seed, "item", epoch, item))
        start = int(random.integers(0, n_frames - length + 1))
        return self.mels.frames(item, start, start + length)


class Sentences:
    """Text, speaker and language of every clip as ids.

    A model of text form "mixed" reads a clip's letters or its phonemes, so both are kept.

    Args:
        is_tuning: the model can read already, so letters alone will do where espeak-ng isn't
    """

    def __init__(
        self, store: FeatureStore | SaidByBase, model: ModelConfig, *, is_tuning: bool = False
    ):
        self.ids = store.ids
        self.speakers = np.array([model.speakers.index(name) for name in store.speakers])
        self.languages = np.array([model.languages.index(name) for name in store.languages])
        reads_both = model.text_form == "mixed"
        self.is_mixed = reads_both and not (is_tuning and not has_espeak())
        self.fallback = ("bytes",) if reads_both and not self.is_mixed else ()
        if self.fallback:
            log.warning("warning: no espeak-ng command here, so only letters are tuned")
        forms = ("bytes", "ipa") if self.is_mixed else self.fallback or (model.text_form,)
        self._encoded = [_encoded(store, form) for form in forms]

    def joined(self, items: Sequence[int], *, as_phonemes: bool = False) -> Tensor:
        """(L,) ids of the texts joined by a space: BOS, text, space, text, ..., EOS.

        Args:
            as_phonemes: only looked at where there is a choice
        """
        encoded = self._encoded[-1] if as_phonemes else self._encoded[0]
        bodies = [encoded[item][1:-1] for item in items]
        space = np.array([ord(" ") + 1], dtype=np.int16)
        parts = [encoded[items[0]][:1], bodies[0]]
        if self.is_mixed and as_phonemes:
            parts.insert(1, np.array([PHONEMES_FOLLOW], dtype=np.int16))
        for body in bodies[1:]:
            parts += [space, body]
        parts.append(encoded[items[0]][-1:])
        return torch.from_numpy(np.concatenate(parts).astype(np.int64))

    def n_bytes(self, item: int) -> int:
        """Bytes of the clip's text, in the longer of its forms."""
        return max(len(encoded[item]) for encoded in self._encoded) - 2


def _encoded(store: FeatureStore | SaidByBase, form: str) -> list[np.ndarray]:
    """The ids of every clip's text."""
    ids: list[list[int]] = [[]] * len(store.ids)
    for language in sorted(set(store.languages)):
        items = [i for i, name in enumerate(store.languages) if name == language]
        texts = [store.texts[item] for item in items]
        try:
            made = encode_all(texts, form, language)
        except UserError:
            made = [_encoded_alone(store, item, form) for item in items]  # says which clip it is
        for item, each in zip(items, made, strict=True):
            ids[item] = each
    return [np.array(each, dtype=np.int16) for each in ids]


def _encoded_alone(store: FeatureStore | SaidByBase, item: int, form: str) -> list[int]:
    try:
        return encode(store.texts[item], form, store.languages[item])
    except UserError as error:
        what = f"clip {store.ids[item]}: {error.what}"
        raise UserError(what, where=error.where, fix=error.fix) from error


class SpeechPlan:
    """Sentences of like length, one to three clips of a speaker joined in a row.

    Joining teaches the predictor texts longer than its clips; without it the voice stops at the
    length it was trained on (reference measurements in docs/lewm.md).

    Args:
        frames: a clip's speech as (T, C) or (T, M)
        n_frames: (N,) their number in each clip
        stride: frames per latent: 1 for latents, `downsample` for mels
        downsample: mel frames per latent
        limit: most frames in a joined row
    """

    def __init__(
        self,
        sentences: Sentences,
        frames: Callable[[int], Tensor],
        n_frames: np.ndarray,
        items: Sequence[int],
        config: TrainConfig,
        *,
        stride: int,
        downsample: int,
        limit: int,
        data: str,
        augment: bool = True,
    ):
        self.sentences, self.frames, self.config = sentences, frames, config
        self.n_frames, self.items, self.stride = n_frames, np.asarray(items), stride
        self.augment, self.downsample = augment, downsample
        self.frame_budget = config.batch_frames * stride // downsample
        self.limit = min(limit, self.frame_budget or limit)
        self.fingerprint = fingerprint(data, list(items), *sentences.fallback)

    def epoch(self, epoch: int) -> list[BatchKey]:
        config = self.config
        longest = int(self.n_frames[self.items].max(initial=0))
        if self.frame_budget and longest > self.frame_budget:
            raise UserError(
                f"--batch-frames {config.batch_frames} is too little for the longest clip",
                fix=f"--batch-frames {longest * self.downsample // self.stride}, or 0 for no limit",
            )
        rows = self._rows(epoch)
        keys: list[BatchKey] = []
        for n in sorted({len(row) for row in rows}):  # joined alike, so that little is padding
            alike = [row for row in rows if len(row) == n]
            buckets = length_buckets(
                np.array([self._length(row) for row in alike]),
                batch_size=max(1, round(config.batch_size / n)),
                frame_budget=self.frame_budget,
                seed=config.seed,
                epoch=epoch,
            )
            for bucket in buckets:
                items = tuple(item for row in bucket.items for item in alike[row])
                keys.append(BatchKey(epoch, len(keys), items, per_row=n))
        random = np.random.default_rng(seed_for(config.seed, "batches", epoch))
        return [keys[i] for i in random.permutation(len(keys))]

    def load(self, key: BatchKey) -> SpeechBatch:
        n = key.per_row
        rows = [key.items[i : i + n] for i in range(0, len(key.items), n)]
        speech, speech_mask = pad([self._joined(row) for row in rows])
        readings = self._readings(key, len(rows))
        text_ids, text_mask = pad(
            [
                self.sentences.joined(row, as_phonemes=reading)
                for row, reading in zip(rows, readings, strict=True)
            ]
        )
        first = [row[0] for row in rows]
        return SpeechBatch(
            ids=tuple(self.sentences.ids[item] for row in rows for item in row),
            text_ids=text_ids,
            text_mask=text_mask,
            speech=speech,
            speech_mask=speech_mask.to(speech.device),
            n_joined=torch.tensor([len(row) for row in rows]),
            speaker_ids=torch.from_numpy(self.sentences.speakers[first]),
            language_ids=torch.from_numpy(self.sentences.languages[first]),
            n_targets=int((-(-speech_mask.sum(1) // self.stride)).sum()),
        )

    def _readings(self, key: BatchKey, n_rows: int) -> list[bool]:
        """Which rows are read as phonemes: by chance, or every second one to measure with."""
        if not self.augment:
            return [row % 2 == 1 for row in range(n_rows)]
        seed = seed_for(self.config.seed, "reading", key.epoch, key.position)
        return (np.random.default_rng(seed).random(n_rows) < self.config.phoneme_share).tolist()

    def _rows(self, epoch: int) -> list[Row]:
        if not self.augment:
            return [(item,) for item in self.items.tolist()]
        shares = self.config.join_two, self.config.join_three
        sentences = self.sentences
        voices = sentences.speakers * (sentences.languages.max() + 1) + sentences.languages
        random = np.random.default_rng(seed_for(self.config.seed, "join", epoch))
        return joined_rows(self.items, voices[self.items], shares, self._may_join, random)

    def _may_join(self, row: Sequence[int]) -> bool:
        n_bytes = sum(self.sentences.n_bytes(item) + 1 for item in row)
        return n_bytes <= MAX_TEXT_BYTES and self._length(row) <= self.limit

    def _joined(self, row: Sequence[int]) -> Tensor:
        """Clips one after the other, each cut to whole latents so that the parts stay aligned."""
        if self.stride == 1 or len(row) == 1:
            return torch.cat([self.frames(item) for item in row])
        parts = [self.frames(item) for item in row]
        return torch.cat([part[: len(part) - len(part) % self.stride] for part in parts])

    def _length(self, row: Sequence[int]) -> int:
        return int(self.n_frames[list(row)].sum())


def longest_trained_text(n_bytes: np.ndarray, config: TrainConfig) -> int:
    """Bytes of text that inference may feed at once: nine in ten joined rows are shorter.

    Args:
        n_bytes: (N,) UTF-8 length of each training clip's text
    """
    most = 3 if config.join_three else 2 if config.join_two else 1
    return min(MAX_TEXT_BYTES, max(16, int(most * np.quantile(n_bytes, 0.9))))
