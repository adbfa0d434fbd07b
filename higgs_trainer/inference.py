"""Text to speech with a Higgs Audio checkpoint, with or without an adapter and references."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higgs_trainer.adapter import attach, needs_text_head
from higgs_trainer.checkpoint import HiggsCheckpoint, Wishes
from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.collator import Collator
from higgs_trainer.config import PrepareConfig
from higgs_trainer.conversation import SCENE, SYSTEM, Audio, Conversation, request
from higgs_trainer.delay import Cut
from higgs_trainer.generation import Sampling, spoken
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.statistics import Statistics, followed, read_statistics
from higgs_trainer.text import TextConfig, has_speech, normalised
from higgs_trainer.weights import load_model
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.machine import pick_device

log = logging.getLogger(__name__)

LONGEST_REFERENCE = PrepareConfig().max_duration  # seconds; longer ones were never trained with


@dataclass(frozen=True)
class Reference:
    """A recording whose voice is to be taken.

    Attributes:
        text: what is said in it
    """

    path: Path
    text: str


@dataclass(frozen=True)
class Speech:
    """What was said.

    Attributes:
        audio: (S,) float32
        cut: its codes, and whether it ended as it should
    """

    audio: np.ndarray
    sample_rate: int
    cut: Cut

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate


class HiggsVoice:
    """A model, its codec, and the writer of its prompts.

    Attributes:
        statistics: of what it learned; by default nothing is known
    """

    def __init__(
        self, model: Any, codec: Codec, writer: PromptWriter, statistics: Statistics | None = None
    ):
        codec.require_fit(writer.streams)
        self.model, self.codec, self.writer = model, codec, writer
        self.statistics = statistics or Statistics()
        self.collator = Collator(writer.streams, model.config.pad_token_id, "left")

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        codec: Path,
        *,
        adapter: Path | None = None,
        scale: float = 1.0,
        wishes: Wishes | None = None,
        text: TextConfig | None = None,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> HiggsVoice:
        """Read everything.

        Args:
            scale: of the adapter; 1 as it was trained
            text: how texts are written, by default as the adapter learned them

        Raises:
            UserError: if a file is missing or broken, or they don't fit each other
        """
        found, chosen = HiggsCheckpoint.open(checkpoint, wishes), pick_device(device)
        writer = PromptWriter.of(found)
        statistics = _statistics(adapter, checkpoint, text)
        text_head = adapter is not None and needs_text_head(adapter)
        model = load_model(found, text_head=text_head, dtype=dtype, device=chosen)
        if adapter is not None:
            attach(model, adapter, scale)
        return cls(model, load_codec(codec, chosen), writer, statistics)

    def speak(
        self,
        texts: Sequence[str],
        *,
        references: Sequence[Reference] = (),
        sampling: Sampling | None = None,
        system: str = SYSTEM,
        scene: str = SCENE,
    ) -> list[Speech]:
        """Say each text, all of them in one batch.

        Raises:
            UserError: if a text is empty, or a reference can't be read
        """
        texts = [normalised(text, self.statistics.text) for text in texts]
        if not all(map(has_speech, texts)):
            raise UserError("there is nothing to say", fix='--text "Hello."')
        heard = [self.heard(one) for one in references]
        said, codes = [(one, Audio()) for one, _ in heard], [one for _, one in heard]
        asked = [
            (request(text, references=said, system=system, scene=scene), codes) for text in texts
        ]
        found = self.say(asked, sampling or Sampling())
        for speech, text in zip(found, texts, strict=True):
            if not speech.cut.stopped:
                log.warning("didn't come to an end: %s", text[:60])
            elif not speech.cut.is_sound:
                log.warning("came to an end in disorder, and may sound so: %s", text[:60])
        return found

    def say(
        self,
        asked: Sequence[tuple[Conversation, Sequence[Tensor]]],
        sampling: Sampling,
        most: Sequence[int] | None = None,
    ) -> list[Speech]:
        """What the assistant says next in conversations whose texts are normalised, as one batch.

        Args:
            asked: each with the codes (K, T) of the audio in it
            most: steps of each, by default `sampling.max_steps`
        """
        prompts = [self.writer.prompt(conversation, codes) for conversation, codes in asked]
        cuts = spoken(self.model, prompts, self.collator, sampling, most)
        return [self._speech(cut) for cut in cuts]

    def heard(self, reference: Reference) -> tuple[str, Tensor]:
        """The normalised text of a reference, and its codes (K, T).

        Raises:
            UserError: if it can't be read, is too long or too short, or nothing is said in it
        """
        said = normalised(reference.text, self.statistics.text)
        if not has_speech(said):
            fix = "say what is said in it: --reference-text"
            raise UserError("the reference has no text", where=reference.path, fix=fix)
        return said, self.encoded(reference.path)

    def encoded(self, path: Path) -> Tensor:
        """The codes (K, T) of a recording to be heard before speech.

        Raises:
            UserError: if it can't be read, or is too long or too short
        """
        seconds = audio.duration(path)
        if seconds > LONGEST_REFERENCE:
            what = f"a reference of {seconds:.1f} s, at most {LONGEST_REFERENCE:g} s are learned"
            raise UserError(what, where=path, fix="take 5 to 15 seconds of it")
        try:
            return self.codec.encode(audio.load(path, self.codec.sample_rate))
        except UserError as error:
            raise UserError(error.what, where=path, fix="take 5 to 15 seconds") from error

    def _speech(self, cut: Cut) -> Speech:
        sound = np.zeros(0, np.float32) if cut.codes.shape[1] == 0 else self.codec.decode(cut.codes)
        return Speech(sound, self.codec.sample_rate, cut)


def _statistics(adapter: Path | None, checkpoint: Path, wish: TextConfig | None) -> Statistics:
    """Of an adapter, or of a checkpoint that one was merged into."""
    places = [place for place in (adapter, checkpoint) if place is not None]
    known = next((place for place in places if read_statistics(place)), None)
    return followed(known, wish)
