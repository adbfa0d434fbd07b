"""From texts of any length to waveforms: split, generate in one batch, decode, vocode, join."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lewm import text, weights
from lewm.generation import Generation, GenerationSettings, Request, generate
from lewm.model import LeWMTTS
from lewm.static_decoding import StaticDecoder
from lewm.vocoder import load_vocoder
from lewm.weights import CheckpointInfo
from ttscommon.errors import UserError
from ttscommon.machine import pick_device
from ttscommon.seeds import seed_for
from ttscommon.workspace import resolve_checkpoint

Precision = Literal["fp32", "fp16", "bf16"]
# As the tools' --amp names them.
PRECISIONS: dict[str, Precision] = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Stage = Literal["predictor", "decoder", "vocoder"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PAUSE = 0.12  # seconds of silence between the sentences of a long text
MIN_ROOM = 16  # bytes; a voice prompt must leave at least this much for each sentence


@dataclass(frozen=True)
class Speech:
    """What was said for one request.

    Attributes:
        audio: (S,) float32
        log_mel: (M, T)
        ran_away: some sentence was cut at its maximum instead of ending by itself
        seconds: time spent per stage, this request's share of its batch
        parts: the generations of its sentences
    """

    audio: np.ndarray
    sample_rate: int
    log_mel: Tensor
    ran_away: bool
    seconds: dict[Stage, float]
    parts: list[Generation]

    @property
    def duration(self) -> float:
        return len(self.audio) / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio."""
        return sum(self.seconds.values()) / max(self.duration, 1e-9)


class Engine:
    """A loaded voice that speaks many texts at once.

    Args:
        checkpoint: a checkpoint folder, or a model and its info
        device: "auto" takes a CUDA GPU where there is one
        dtype: precision of text encoder, predictor and mel decoder
        vocoder: as `lewm.vocoder.load_vocoder` reads it
        compile: fuse the predictor's step with torch.compile; minutes before the first word
        clock: what measures the stages, in seconds

    Attributes:
        seconds: time spent per stage since the engine was made

    Raises:
        UserError: for a missing or broken checkpoint, or a vocoder of another mel recipe
    """

    def __init__(
        self,
        checkpoint: Path | tuple[LeWMTTS, CheckpointInfo],
        *,
        device: str = "auto",
        dtype: Precision = "fp32",
        vocoder: str = "auto",
        compile: bool = False,
        settings: GenerationSettings | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.device = pick_device(device)
        if isinstance(checkpoint, tuple):
            model, self.info = copy.deepcopy(checkpoint[0]), checkpoint[1]
        else:
            model, self.info = weights.load(resolve_checkpoint(checkpoint), self.device)
        self.model = model.to(self.device).eval()
        self.dtype = DTYPES[dtype]
        self.model.text_encoder.to(self.dtype)
        self.model.predictor.to(self.dtype)
        if self.device.type == "cpu" and self.dtype == torch.float32:
            self.model.predictor.fuse_steps()
        self.recipe = self.model.recipe
        self.vocoder = load_vocoder(vocoder, self.recipe, self.device)
        self.settings = settings or GenerationSettings()
        self.seconds: dict[Stage, float] = {stage: 0.0 for stage in STAGES}
        self.clock = clock
        is_static = compile or self.device.type == "cuda"
        self._run = StaticDecoder(self.model, compile=compile).run if is_static else None

    def voice(self, wanted: str | None, home: str | None) -> str | None:
        """`wanted`, or else the speaker whose folder this is, if the checkpoint knows the name."""
        if wanted is None and home in self.model.config.speakers:
            return home
        return wanted

    def synthesize(self, requests: Sequence[Request]) -> list[Speech]:
        """Speak every request, the sentences of all of them generated together.

        Raises:
            UserError: for a text that can't be spoken; nothing is generated then
        """
        parts = [self._sentences(request) for request in requests]
        flat = [part for sentences in parts for part in sentences]
        before = dict(self.seconds)
        generations = self.generate(flat)
        rendered = self.render([g.latents for g in generations])
        spent: dict[Stage, float] = {s: self.seconds[s] - before[s] for s in STAGES}
        n_frames = sum(len(g.latents) for g in generations)
        speeches, at = [], 0
        for sentences in parts:
            mine = slice(at, at + len(sentences))
            at = mine.stop
            share = sum(len(g.latents) for g in generations[mine]) / n_frames
            seconds: dict[Stage, float] = {s: spent[s] * share for s in STAGES}
            speeches.append(self._join(generations[mine], rendered[mine], seconds))
        return speeches

    def generate(
        self, requests: Sequence[Request], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """Latents of texts that need no splitting."""
        with self._timed("predictor"):
            return generate(
                self.model, self.info, requests, settings or self.settings, run=self._run
            )

    def render(self, latents: Sequence[Tensor]) -> list[tuple[Tensor, np.ndarray]]:
        """Standardised latents (T', C) of each clip -> its log-mel (M, T) and audio (S,)."""
        with self._timed("decoder"):
            mels = self._decode(latents)
        with self._timed("vocoder"):
            return list(zip(mels, self._vocode(mels), strict=True))

    def _decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """A batch on a GPU; one by one on a CPU, which is as fast there and pads nothing."""
        size = self.settings.batch_size if self.device.type == "cuda" else 1
        mels: list[Tensor] = []
        for at in range(0, len(latents), size):
            batch = list(latents[at : at + size])
            lengths = torch.tensor([len(clip) for clip in batch], device=self.device)
            padded = pad_sequence(batch, batch_first=True)  # (B, T', C)
            mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
            with torch.inference_mode(), self._autocast():
                decoded = self.model.decode(padded.float(), mask).float()  # (B, M, T)
            n_frames = lengths * self.model.config.downsample
            mels += [mel[:, :n] for mel, n in zip(decoded, n_frames.tolist(), strict=True)]
        return mels

    def _vocode(self, mels: Sequence[Tensor]) -> list[np.ndarray]:
        """On a GPU in batches padded with silence, on a CPU one by one."""
        size = self.settings.batch_size if self.device.type == "cuda" else 1
        waves: list[np.ndarray] = []
        for at in range(0, len(mels), size):
            batch = mels[at : at + size]
            silence = math.log(self.recipe.floor)
            padded = pad_sequence([mel.T for mel in batch], True, silence).mT  # (B, M, T)
            audio = self.vocoder.synthesize(padded).float().cpu().numpy()
            ends = [(mel.shape[1] - 1) * self.recipe.hop_length for mel in batch]
            waves += [wave[:end] for wave, end in zip(audio, ends, strict=True)]
        return waves

    def _sentences(self, request: Request) -> list[Request]:
        """The request cut into texts of at most the trained length, each with its own seed."""
        room = self.info.max_text_bytes
        if request.prompt_text is not None:
            room -= len(text.clean(request.prompt_text).encode()) + 1
        if room < MIN_ROOM:
            raise UserError(
                "the voice prompt is too long for this checkpoint, which was trained on texts of "
                f"up to {self.info.max_text_bytes} bytes",
                fix="use a shorter prompt clip and its text",
            )
        language = request.language or next(iter(self.model.config.languages), "en")
        sentences = text.split_text(request.text, room, language)
        return [
            replace(request, text=sentence, seed=seed_for(request.seed, "sentence", i))
            for i, sentence in enumerate(sentences)
        ]

    def _join(
        self,
        parts: list[Generation],
        rendered: list[tuple[Tensor, np.ndarray]],
        seconds: dict[Stage, float],
    ) -> Speech:
        rate = self.recipe.sample_rate
        pause = np.zeros(round(PAUSE * rate), dtype=np.float32)
        n_still = round(PAUSE * self.recipe.frame_rate)
        still = torch.full((self.recipe.n_mels, n_still), math.log(self.recipe.floor))
        mels, waves = [rendered[0][0].cpu()], [rendered[0][1]]
        for mel, wave in rendered[1:]:
            mels += [still, mel.cpu()]
            waves += [pause, wave]
        return Speech(
            audio=np.concatenate(waves),
            sample_rate=rate,
            log_mel=torch.cat(mels, 1),
            ran_away=any(part.ran_away for part in parts),
            seconds=seconds,
            parts=parts,
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[None]:
        self._wait()
        start = self.clock()
        yield
        self._wait()
        self.seconds[stage] += self.clock() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


if __name__ == "__main__":
    from ttscommon.cli import run_tool

    run_tool("lewm_engine")
