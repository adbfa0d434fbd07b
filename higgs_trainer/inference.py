"""Text to speech with a Higgs Audio checkpoint, with or without an adapter and references."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from higgs_trainer.adapter import attach, needs_text_head
from higgs_trainer.checkpoint import HiggsCheckpoint, Wishes
from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.collator import Collator
from higgs_trainer.conversation import SCENE, SYSTEM, Audio, request
from higgs_trainer.delay import Cut
from higgs_trainer.generation import Sampling, spoken
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.weights import load_model
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.machine import pick_device

log = logging.getLogger(__name__)


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
    """A model, its codec, and the writer of its prompts."""

    def __init__(self, model: Any, codec: Codec, writer: PromptWriter):
        codec.require_fit(writer.streams)
        self.model, self.codec, self.writer = model, codec, writer
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
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> HiggsVoice:
        """Read everything.

        Args:
            scale: of the adapter; 1 as it was trained

        Raises:
            UserError: if a file is missing or broken, or they don't fit each other
        """
        found, chosen = HiggsCheckpoint.open(checkpoint, wishes), pick_device(device)
        writer = PromptWriter.of(found)
        text_head = adapter is not None and needs_text_head(adapter)
        model = load_model(found, text_head=text_head, dtype=dtype, device=chosen)
        if adapter is not None:
            attach(model, adapter, scale)
        return cls(model, load_codec(codec, chosen), writer)

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
        for text in texts:
            if not text.strip():
                raise UserError("there is nothing to say", fix='--text "Hello."')
        said = [(one.text, Audio(one.path)) for one in references]
        rate = self.codec.sample_rate
        codes = [self.codec.encode(audio.load(one.path, rate)) for one in references]
        prompts = [
            self.writer.prompt(request(text, references=said, system=system, scene=scene), codes)
            for text in texts
        ]
        cuts = spoken(self.model, prompts, self.collator, sampling or Sampling())
        return [self._speech(cut, text) for cut, text in zip(cuts, texts, strict=True)]

    def _speech(self, cut: Cut, text: str) -> Speech:
        if not cut.stopped:
            log.warning("didn't come to an end: %s", text[:60])
        elif not cut.is_sound:
            log.warning("came to an end in disorder, and may sound so: %s", text[:60])
        sound = np.zeros(0, np.float32) if cut.codes.shape[1] == 0 else self.codec.decode(cut.codes)
        return Speech(sound, self.codec.sample_rate, cut)
