"""Text to speech with a KaniTTS model, with or without an adapter."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kani.codec import NanoCodec
from kani.generation import Reader, seeds_of, spoken, steps
from kani.positions import audio_step_of
from kani.sampling import Sampling, Segments
from kani.streaming import CHUNK_FRAMES, pieces
from kani.tokens import Extracted, TokenSpace, prompt_ids
from kani.weights import load_codec, load_language_model, load_tokenizer, read_config
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.machine import pick_device
from ttscommon.sentences import fitted

log = logging.getLogger(__name__)

LANGUAGE = "en"  # whose sentences are found; others that end in dots and question marks are too


@dataclass(frozen=True)
class Speech:
    """What was said.

    Attributes:
        audio: (S,) float32
        extracted: its codes, and what is wrong with it
        segments: the pieces that a longer text was spoken in
    """

    audio: np.ndarray
    sample_rate: int
    extracted: Extracted
    segments: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate


class KaniVoice:
    """A model, its tokenizer and the codec."""

    def __init__(self, reader: Reader, tokenizer: Any, codec: NanoCodec):
        require_fit(codec, reader.space)
        self.reader, self.tokenizer, self.codec = reader, tokenizer, codec

    @classmethod
    def open(
        cls,
        model: Path,
        codec: Path | NanoCodec,
        *,
        adapter: Path | None = None,
        scale: float = 1.0,
        space: TokenSpace | None = None,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> KaniVoice:
        """Read everything.

        Args:
            model: a released model's folder, or one that training merged
            adapter: a LoRA's folder
            scale: of the adapter; 1 as it was trained

        Raises:
            UserError: if a file is missing or broken, or they don't fit each other
        """
        chosen, ids = pick_device(device), space or TokenSpace()
        audio_step = audio_step_of(read_config(model))
        tokenizer = load_tokenizer(model)
        network = codec if isinstance(codec, NanoCodec) else load_codec(codec, chosen)
        loaded = load_language_model(model, chosen, dtype, space=ids)
        if adapter is not None:
            found = lora.attach(loaded, lora.read_adapter(loaded, adapter), scale)
            if found.mean_change == 0:
                log.warning("the adapter changes nothing, it was never trained: %s", adapter)
        return cls(Reader(loaded, ids, audio_step), tokenizer, network)

    def speak(
        self,
        texts: Sequence[str],
        *,
        speaker: str | None = None,
        speaker_embedding: Tensor | None = None,
        sampling: Sampling | None = None,
    ) -> list[Speech]:
        """Say each text, all of them in one batch.

        Args:
            speaker: as in training; for kani-tts-2 a language, such as "en_us"
            speaker_embedding: (E,) for kani-tts-2, whose voice; None gives none to the model

        Raises:
            UserError: if a text is empty, or the model takes no such embedding
        """
        how = sampling or Sampling()
        seeds = seeds_of(texts, how.seed)
        reader = self.reader_for(speaker_embedding)
        found = spoken(reader, self._prompts(texts, speaker), how, seeds)
        for text, one in zip(texts, found, strict=True):
            if not one.complete:
                log.warning("%s, all that is whole was kept: %s", one.problem, text[:60])
        sounds = self._sounds([one.codes for one in found])
        rate = self.codec.config.sample_rate
        return [Speech(sound, rate, one) for sound, one in zip(sounds, found, strict=True)]

    def say(
        self,
        texts: Sequence[str],
        *,
        speaker: str | None = None,
        speaker_embedding: Tensor | None = None,
        sampling: Sampling | None = None,
        segments: Segments | None = None,
    ) -> list[Speech]:
        """As `speak`; what is too long for an answer in several, with pauses between them."""
        cut = [self.cut(text, sampling, segments) for text in texts]
        said = iter(
            self.speak(
                [one for all_ in cut for one in all_],
                speaker=speaker,
                speaker_embedding=speaker_embedding,
                sampling=sampling,
            )
        )
        pause = self.pause(segments)
        return [_joined([next(said) for _ in pieces], pieces, pause) for pieces in cut]

    def cut(
        self, text: str, sampling: Sampling | None = None, segments: Segments | None = None
    ) -> list[str]:
        """A text in the pieces that it is spoken in."""
        most = (segments or Segments()).most_tokens(sampling or Sampling())

        def size(piece: str) -> int:
            return len(self.tokenizer.encode(piece, add_special_tokens=False))

        return fitted(text, most, size=size, language=LANGUAGE)

    def pause(self, segments: Segments | None = None) -> np.ndarray:
        """(S,) of silence between pieces."""
        milliseconds = (segments or Segments()).interval_silence
        return np.zeros(round(milliseconds * self.codec.config.sample_rate / 1000), np.float32)

    def stream(
        self,
        text: str,
        *,
        speaker: str | None = None,
        speaker_embedding: Tensor | None = None,
        sampling: Sampling | None = None,
        chunk: int = CHUNK_FRAMES,
        lookback: int | None = None,
        segments: Segments | None = None,
    ) -> Iterator[np.ndarray]:
        """The sound of `say` piece by piece (S,), while the rest is still being generated.

        Args:
            chunk: frames of a piece
            lookback: frames that a piece is decoded with; the codec's whole context by default

        Raises:
            UserError: as `speak` does
        """
        how = sampling or Sampling()
        cut = self.cut(text, how, segments)
        prompts, seeds = self._prompts(cut, speaker), seeds_of(cut, how.seed)
        reader = self.reader_for(speaker_embedding)
        n_said = 0
        for prompt, seed in zip(prompts, seeds, strict=True):
            frames = self._frames(steps(reader, [prompt], how, [seed]))
            for place, sound in enumerate(
                pieces(frames, self.codec, chunk=chunk, lookback=lookback)
            ):
                if n_said and not place:
                    yield self.pause(segments)
                yield sound.float().numpy()
                n_said += 1

    def reader_for(self, speaker_embedding: Tensor | None) -> Reader:
        """The model as it reads with a speaker's embedding, or without one."""
        if speaker_embedding is None:
            return self.reader
        return self.reader.speaking_as(speaker_embedding)

    def _prompts(self, texts: Sequence[str], speaker: str | None) -> list[list[int]]:
        for text in texts:
            if not text.strip():
                raise UserError("there is nothing to say", fix='--text "Hello."')
        return [prompt_ids(text, speaker, self.tokenizer, self.reader.space) for text in texts]

    def _frames(self, ids: Iterator[Tensor]) -> Iterator[Tensor]:
        """Codes (K,) of each whole frame of one answer."""
        space = self.reader.space
        starts = torch.from_numpy(space.layer_starts)
        frame: list[int] = []
        for id_ in ids:
            if int(id_) == space.end_of_speech:
                return
            frame.append(int(id_))
            if len(frame) == space.num_codebooks:
                yield torch.tensor(frame) - starts
                frame = []

    def _sounds(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(S,) of codes (K, T), decoded together."""
        sounds = [np.zeros(0, np.float32)] * len(clips)
        there = [place for place, codes in enumerate(clips) if codes.shape[1]]
        if not there:
            return sounds
        lengths = torch.tensor([clips[place].shape[1] for place in there])
        longest = int(lengths.max())
        padded = [np.pad(clips[p], ((0, 0), (0, longest - clips[p].shape[1]))) for p in there]
        device = next(self.codec.parameters()).device
        audio = self.codec.decode(torch.from_numpy(np.stack(padded)).to(device), lengths)
        hop = self.codec.config.samples_per_frame
        for row, place in enumerate(there):
            sounds[place] = audio[row, : int(lengths[row]) * hop].float().cpu().numpy()
        return sounds


def _joined(said: Sequence[Speech], pieces: Sequence[str], pause: np.ndarray) -> Speech:
    """Of the pieces of a text; where nothing was said there is no pause either."""
    if len(said) == 1:
        return said[0]
    heard = [one.audio for one in said if len(one.audio)]
    sounds = [part for sound in heard for part in (pause, sound)][1:]
    problems = [one.extracted.problem for one in said if one.extracted.problem]
    codes = np.concatenate([one.extracted.codes for one in said], axis=1)
    extracted = Extracted(codes, problems[0] if problems else None)
    audio = np.concatenate(sounds) if sounds else np.zeros(0, np.float32)
    return Speech(audio, said[0].sample_rate, extracted, tuple(pieces))


def require_fit(codec: NanoCodec, space: TokenSpace) -> None:
    """Refuse a codec whose codes the model doesn't know.

    Raises:
        UserError: with both shapes
    """
    found = codec.config.n_codebooks, codec.config.codebook_size
    if found != (space.num_codebooks, space.codebook_size):
        raise UserError(
            f"this codec has {found[0]} layers of {found[1]} codes, the model "
            f"{space.num_codebooks} of {space.codebook_size}",
            fix="take nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps",
        )
