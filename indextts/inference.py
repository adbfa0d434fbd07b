"""Text -> waveform, by one path for every voice: base or adapted model, recorded or stored speaker.

plan -> conditioning -> write (codes and latents) -> render (mels and sound) -> join
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from indextts import emotion, weights
from indextts.checkpoint import CheckpointFolder
from indextts.config import SpeechConfig
from indextts.emotion import EmotionMatrices
from indextts.frontend.text import Pause, Segment, plan
from indextts.frontend.tokenizer import TextTokenizer
from indextts.gpt.decoding import Writer, generate
from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.speech import (
    STAGES,
    Conditioning,
    Piece,
    Progress,
    Request,
    Samples,
    Seconds,
    Speech,
    Stage,
    Utterance,
)
from indextts.vocoder.bigvgan import BigVGAN
from indextts.vocoder.waveform import silence, to_int16
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)


@dataclass
class Models:
    """What speaking needs once the voice is known: 4.3 GB of weights, 2.6 with the GPT in half.

    Attributes:
        codec: its quantizer only
    """

    gpt: UnifiedVoice
    s2mel: S2Mel
    codec: SemanticCodec
    vocoder: BigVGAN
    tokenizer: TextTokenizer
    emotions: EmotionMatrices

    @classmethod
    def load(cls, folder: CheckpointFolder, gpt: UnifiedVoice, device: torch.device) -> Models:
        """Everything else beside a loaded GPT, in float32."""
        config = folder.config
        codec = weights.load_codec(folder.semantic_codec, config.codec)
        codec.encoder = codec.decoder = None  # only references need them
        tokenizer = TextTokenizer(folder.tokenizer)
        if (glossary := folder.root / "glossary.yaml").is_file():
            tokenizer.normalizer.load_glossary(glossary)
        speakers, emotions = (matrix.to(device) for matrix in weights.load_matrices(folder))
        return cls(
            gpt=gpt,
            s2mel=weights.load_s2mel(folder.s2mel, config.s2mel, device=device),
            codec=codec.to(device),
            vocoder=weights.load_bigvgan(folder.bigvgan, device=device),
            tokenizer=tokenizer,
            emotions=EmotionMatrices(speakers, emotions, config.emo_num),
        )


class Synthesizer:
    """A loaded model that speaks.

    Args:
        flow_dtype: what the flow's estimator computes in; None: float32
        make_writer: what codes are written by, given the GPT; None: the GPT itself
        clock: what measures the stages, in seconds

    Attributes:
        seconds: time spent per stage since it was made
        manner: what changes (1, N, D) of who speaks so that it says how, too; None: nothing
    """

    def __init__(
        self,
        models: Models,
        *,
        flow_dtype: torch.dtype | None = None,
        make_writer: Callable[[UnifiedVoice], Writer] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.models, self.flow_dtype, self._clock = models, flow_dtype, clock
        self._make_writer = make_writer
        self.manner: Callable[[Tensor], Tensor] | None = None
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self.speak_with(models.gpt)

    def speak_with(self, gpt: UnifiedVoice) -> None:
        """Take another language model from now on."""
        self.models.gpt = gpt
        self._writer = self._make_writer(gpt) if self._make_writer else gpt

    @property
    def sample_rate(self) -> int:
        return self.models.s2mel.config.mel.sample_rate

    @property
    def device(self) -> torch.device:
        return self.models.gpt.mel_head.weight.device

    def plan(
        self, text: str, config: SpeechConfig | None = None, *, quick_tokens: int = 0
    ) -> list[Segment | Pause]:
        """What will be rendered for a text, in order.

        Args:
            quick_tokens: keep segments short within so many first tokens, for streaming

        Raises:
            UserError: if nothing can be said, or segments would be longer than the model reads
        """
        most = (config or SpeechConfig()).max_text_tokens_per_segment
        limit = self.models.gpt.config.max_text_tokens
        if most >= limit:
            raise UserError(
                f"segments of {most} tokens, but this model reads fewer than {limit}",
                fix=f"--max-text-tokens-per-segment {min(120, limit - 1)}",
            )
        return plan(self.models.tokenizer, text, max_tokens=most, quick_tokens=quick_tokens)

    def synthesize(self, request: Request, progress: Progress | None = None) -> Speech:
        """Speak all of it."""
        before = dict(self.seconds)
        pieces = tuple(self.stream(request, progress))
        spent: dict[Stage, Seconds] = {s: self.seconds[s] - before[s] for s in STAGES}
        spent["reference"] += request.reading
        return Speech(pieces, self.sample_rate, request.seed, spent)

    def stream(self, request: Request, progress: Progress | None = None) -> Iterator[Piece]:
        """Speak piece by piece; put together they are what `synthesize` gives."""
        segments = [item for item in request.items if isinstance(item, Segment)]
        spoken = self._spoken(segments, request)
        gap = silence(request.speech.interval_silence / 1000, self.sample_rate)
        n_done, follows_segment = 0, False
        for item in request.items:
            if isinstance(item, Pause):
                yield Piece(silence(item.duration, self.sample_rate))
                follows_segment = False
                continue
            if follows_segment and len(gap):
                yield Piece(gap)
            piece = next(spoken)
            n_done, follows_segment = n_done + 1, True
            if progress is not None:
                progress(n_done, len(segments), piece)
            yield piece

    @torch.no_grad()
    def conditioning(self, request: Request) -> Conditioning:
        """Speaker and mood for the language model.

        `manner` changes `Conditioning.speaker`, and nothing else.
        """
        gpt, matrices, mood = self.models.gpt, self.models.emotions, request.mood
        dtype, voice = gpt.mel_head.weight.dtype, request.voice
        with self.timed("conditioning"):
            features = voice.features.spk_cond_emb.to(self.device, dtype)
            heard = voice.emo_cond_emb if mood.features is None else mood.features
            felt = gpt.emotion_vector(heard.to(self.device, dtype)).float()
            if mood.features is not None:
                own = gpt.emotion_vector(features).float()
                felt = emotion.merged(own, felt, mood.alpha)
            if mood.vector is not None:
                rows = (
                    matrices.random_rows(seed_for(request.seed, "emotion"))
                    if mood.is_random
                    else matrices.nearest_rows(voice.features.style.to(self.device))
                )
                felt = matrices.mix(emotion.scaled(mood.vector, mood.alpha), rows, felt)
            speaker = gpt.speaker_latent(features)
            if self.manner is not None:
                speaker = self.manner(speaker)
            return Conditioning(speaker, felt.to(dtype))

    @torch.no_grad()
    def write(
        self, segments: Sequence[Segment], told: Conditioning, request: Request, first: int = 0
    ) -> list[Utterance]:
        """Semantic codes of segments, in one batch.

        Args:
            first: number of the first of them in the text
        """
        gpt = self.models.gpt
        seeds = [seed_for(request.seed, "codes", first + i) for i in range(len(segments))]
        with self.timed("codes"):
            prefix = gpt.prefix(told.speaker, told.emotion, [s.ids for s in segments])
            written = generate(
                self._writer,
                prefix,
                request.decoding,
                seeds,
                lambda row, n: log.info("segment %d written after %d steps", first + row + 1, n),
            )
        with self.timed("latents"):
            rows = [one.codes for one in written]
            codes = pad_sequence(rows, batch_first=True, padding_value=gpt.config.stop_mel_token)
            if codes.shape[1]:
                latents = gpt.latents(prefix, codes).float()
            else:  # every segment stopped at once
                latents = told.speaker.new_zeros(len(rows), 0, gpt.config.model_dim)
        return [
            Utterance(one.codes, latents[i : i + 1, : len(one.codes)], one.is_complete)
            for i, one in enumerate(written)
        ]

    def render(
        self, utterances: Sequence[Utterance], request: Request, first: int = 0
    ) -> list[Samples]:
        """The sound (S,) of each utterance; the flow works on all of them together."""
        s2mel, codec, config = self.models.s2mel, self.models.codec, request.speech
        sounds = [np.zeros(0, np.int16) for _ in utterances]
        spoken = [i for i, one in enumerate(utterances) if len(one.codes)]
        with self.timed("mel"), torch.no_grad():
            voice = self._prompt(request)
            conditions = [
                s2mel.condition(
                    codec.embed(utterances[i].codes[None]),
                    utterances[i].latents,
                    config.duration_factor,
                )
                for i in spoken
            ]
            lengths = [voice.ref_mel.shape[2] + c.shape[1] for c in conditions]
            mels = s2mel.mels(
                conditions,
                [voice] * len(spoken),
                [self.noise(n, request, first + i) for n, i in zip(lengths, spoken, strict=True)],
                n_steps=config.diffusion_steps,
                guidance=config.cfg_rate,
                flow_dtype=self.flow_dtype,
            )
        with self.timed("sound"):
            for i, mel in zip(spoken, mels, strict=True):
                sound = self.models.vocoder.vocode(mel)[0, 0]
                if not sound.isfinite().all():
                    raise UserError(
                        "the flow or the vocoder computes NaN or infinity instead of sound",
                        fix="--flow-dtype fp32; if that doesn't help, fetch the weights again, or "
                        "take another recording",
                    )
                sounds[i] = to_int16(sound)
        return sounds

    def noise(self, n_frames: int, request: Request, number: int) -> Tensor:
        """What the flow of a segment starts from: (1, M, n_frames), the same on every device."""
        chance = torch.Generator().manual_seed(seed_for(request.seed, "noise", number))
        n_mels = self.models.s2mel.config.mel.n_mels
        return torch.randn(1, n_mels, n_frames, generator=chance).to(self.device)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the time of the block."""
        began = self._now()
        yield
        self.seconds[stage] += self._now() - began

    def _spoken(self, segments: Sequence[Segment], request: Request) -> Iterator[Piece]:
        """The sound of each segment, made a batch at a time."""
        told, size = self.conditioning(request), request.speech.batch_size
        for first in range(0, len(segments), size):
            batch = segments[first : first + size]
            utterances = self.write(batch, told, request, first)
            sounds = self.render(utterances, request, first)
            for segment, one, samples in zip(batch, utterances, sounds, strict=True):
                if not one.is_complete:
                    log.warning("a segment was cut at %d codes: %s", len(one.codes), said(segment))
                elif not len(samples):
                    log.warning("nothing was said for: %s", said(segment))
                yield Piece(samples, segment, len(one.codes), one.is_complete)

    def _prompt(self, request: Request) -> SpeakerFeatures:
        """The voice as the flow goes on from it."""
        voice, wanted = request.voice.features, request.speech.prompt_seconds
        if wanted is None:
            return voice
        n_frames = max(1, int(wanted * self.models.s2mel.config.mel.frame_rate))
        return SpeakerFeatures(
            voice.spk_cond_emb,
            voice.style,
            voice.prompt_condition[:, :n_frames],
            voice.ref_mel[:, :, :n_frames],
        )

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()


def said(segment: Segment) -> str:
    """The words of a segment, near enough for a message."""
    text = "".join(segment.pieces).replace("▁", " ").strip()
    return text if len(text) <= 60 else text[:59] + "…"
