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
from kani.sampling import Sampling
from kani.streaming import CHUNK_FRAMES, pieces
from kani.tokens import Extracted, TokenSpace, prompt_ids
from kani.weights import load_codec, load_language_model, load_tokenizer, read_config
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.machine import pick_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """What was said.

    Attributes:
        audio: (S,) float32
        extracted: its codes, and what is wrong with it
    """

    audio: np.ndarray
    sample_rate: int
    extracted: Extracted

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
        codec: Path,
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
        audio_step = audio_step_of(read_config(model), model)
        tokenizer, network = load_tokenizer(model), load_codec(codec, chosen)
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
        sampling: Sampling | None = None,
    ) -> list[Speech]:
        """Say each text, all of them in one batch.

        Args:
            speaker: as in training; for kani-tts-2 a language, such as "en_us"

        Raises:
            UserError: if a text is empty
        """
        how = sampling or Sampling()
        seeds = seeds_of(texts, how.seed)
        found = spoken(self.reader, self._prompts(texts, speaker), how, seeds)
        for text, one in zip(texts, found, strict=True):
            if not one.complete:
                log.warning("%s, all that is whole was kept: %s", one.problem, text[:60])
        sounds = self._sounds([one.codes for one in found])
        rate = self.codec.config.sample_rate
        return [Speech(sound, rate, one) for sound, one in zip(sounds, found, strict=True)]

    def stream(
        self,
        text: str,
        *,
        speaker: str | None = None,
        sampling: Sampling | None = None,
        chunk: int = CHUNK_FRAMES,
        lookback: int | None = None,
    ) -> Iterator[np.ndarray]:
        """The sound of `speak` piece by piece (S,), while the rest is still being generated.

        Args:
            chunk: frames of a piece
            lookback: frames that a piece is decoded with; the codec's whole context by default

        Raises:
            UserError: if the text is empty
        """
        how = sampling or Sampling()
        prompts = self._prompts([text], speaker)
        frames = self._frames(steps(self.reader, prompts, how, seeds_of([text], how.seed)))
        for sound in pieces(frames, self.codec, chunk=chunk, lookback=lookback):
            yield sound.float().numpy()

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


def audio_step_of(config: dict[str, Any], where: Path) -> float | None:
    """How a model counts frames: kani-tts-2 says so in its `config.json`, kani-tts-1 doesn't.

    Raises:
        UserError: for what kani-tts-2 can have and we don't compute
    """
    if "audio_step" not in config:
        return None
    if config.get("use_learnable_rope"):
        raise UserError(
            "this model stretches its positions in each layer (use_learnable_rope), which isn't "
            "computed here",
            where=where,
            fix="take a kani-tts-1 model, such as nineninesix/kani-tts-370m",
        )
    return config["audio_step"]


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
