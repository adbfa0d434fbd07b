"""How fast IndexTTS2 speaks here, stage by stage, and how much memory each stage takes.

Every segment is written to a fixed length, so that a random network takes as long as a trained one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from indextts.config import DecodingConfig
from indextts.gpt.decoding import generate
from indextts.gpt.model import Prefix
from indextts.random_networks import Networks
from indextts.s2mel.reference import speaker_features, to_16k
from indextts.s2mel.speaker import SpeakerFeatures
from ttscommon.errors import UserError
from ttscommon.metering import Clock, Meter

STAGES = ("w2v_bert", "speaker_features", "conditioning", "gpt_prefill", "gpt_decode")
STAGES += ("second_pass", "length_regulator", "cfm", "vocoder")
OF_THE_VOICE = STAGES[:3]  # once a voice, not once a text
CODES_PER_SECOND = 50
# English in the official tokenizer's pieces: 14 letters a second, 3 letters a piece; an estimate.
TOKENS_PER_SECOND = 5
SHORTEST_TEXT = 4


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is spoken, and how.

    Attributes:
        seconds: of sound in each segment
        reference_seconds: of the recording that the voice is taken from
        spread: how much shorter the shortest segment is than the longest, as a share
        n_steps, guidance: of the flow
        repeats: the median of them counts
        warmups: rounds before, which don't count
    """

    seconds: float = 3.0
    n_segments: int = 2
    reference_seconds: float = 5.0
    spread: float = 0.08
    n_steps: int = 25
    guidance: float = 0.7
    num_beams: int = 3
    flow_dtype: torch.dtype | None = None
    repeats: int = 1
    warmups: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds <= 0.1 or self.reference_seconds < 0.3:
            raise UserError("segments need 0.1 s and more, references 0.3 s")
        if min(self.n_segments, self.n_steps, self.repeats, self.num_beams) < 1:
            raise UserError("segments, steps, beams and repeats are 1 or more")

    @property
    def n_codes(self) -> int:
        return max(2, round(self.seconds * CODES_PER_SECOND))


@dataclass(frozen=True)
class StageTiming:
    """One stage for all segments together; see `Measured`."""

    stage: str
    seconds: float
    peak: int | None


@dataclass
class Inputs:
    """What each stage is given: made by the stage before it, or out of nothing where it's left out.

    Attributes:
        voice: as the speaker stages leave it
        told: speaker latent (1, N, D) and emotion vector (1, D)
        texts: token ids of each segment
        codes: (B, n) long
        latents: (B, n, D)
        conditions: (1, T, C) of each segment
    """

    voice: SpeakerFeatures
    told: tuple[Tensor, Tensor]
    texts: list[list[int]]
    codes: Tensor
    latents: Tensor
    conditions: list[Tensor]


class Benchmark:
    """Speaks a piece of `Work` stage by stage."""

    def __init__(self, networks: Networks, work: Work, clock: Clock = time.perf_counter):
        self.networks, self.work = networks, work
        self.meter = Meter(networks.device, clock)
        self.inputs = self._made_up()
        self._features = self.inputs.voice.spk_cond_emb
        self._mels: list[Tensor] = []

    @property
    def n_frames(self) -> list[int]:
        """Mel frames of each segment."""
        return [condition.shape[1] for condition in self.inputs.conditions]

    @property
    def duration(self) -> float:
        """Seconds of sound in all segments."""
        return sum(self.n_frames) / self.networks.s2mel.config.mel.frame_rate

    @property
    def n_codes(self) -> int:
        """Codes in all segments."""
        return self.inputs.codes.numel()

    def stages(self) -> Iterator[StageTiming]:
        """Each stage in its turn; those of the voice only where recordings can be read."""
        actions = {
            "w2v_bert": self.listen,
            "speaker_features": self.know_the_speaker,
            "conditioning": self.condition,
            "gpt_prefill": lambda: self.networks.gpt.start(self.prefix()),
            "gpt_decode": self.decode,
            "second_pass": self.read_again,
            "length_regulator": self.regulate,
            "cfm": self.flow,
            "vocoder": self.vocode,
        }
        prefill = 0.0
        for stage, action in actions.items():
            if self.networks.features is None and stage in OF_THE_VOICE[:2]:
                continue
            with torch.no_grad():
                found = self.meter.measure(
                    action, repeats=self.work.repeats, warmups=self.work.warmups
                )
            seconds = found.seconds
            if stage == "gpt_prefill":
                prefill = seconds
            elif stage == "gpt_decode":
                seconds = max(0.0, seconds - prefill)  # decoding begins with the prefill
            yield StageTiming(stage, seconds, found.peak)

    def listen(self) -> Tensor:
        features = self.networks.features
        assert features is not None
        audio = to_16k(self.reference(), self.networks.s2mel.config.mel.sample_rate)
        self._features = features(audio)
        return self._features

    def know_the_speaker(self) -> SpeakerFeatures:
        parts = self.networks
        assert parts.campplus is not None
        audio = self.reference().to(parts.device)
        self.inputs.voice = speaker_features(
            audio, self._features, parts.s2mel, parts.codec, parts.campplus
        )
        return self.inputs.voice

    def condition(self) -> tuple[Tensor, Tensor]:
        gpt = self.networks.gpt
        features = self.inputs.voice.spk_cond_emb.to(gpt.mel_head.weight.dtype)
        self.inputs.told = gpt.speaker_latent(features), gpt.emotion_vector(features)
        return self.inputs.told

    def prefix(self) -> Prefix:
        return self.networks.gpt.prefix(*self.inputs.told, self.inputs.texts)

    def decoding(self) -> DecodingConfig:
        return DecodingConfig(num_beams=self.work.num_beams, max_mel_tokens=self.work.n_codes)

    def decode(self) -> Tensor:
        seeds = range(self.work.n_segments)
        written = generate(self.networks.gpt, self.prefix(), self.decoding(), seeds)
        self.inputs.codes = torch.stack([one.codes for one in written])
        return self.inputs.codes

    def read_again(self) -> Tensor:
        self.inputs.latents = self.networks.gpt.latents(self.prefix(), self.inputs.codes).float()
        return self.inputs.latents

    def regulate(self) -> list[Tensor]:
        parts, shares = self.networks, self._shares()
        self.inputs.conditions = [
            parts.s2mel.condition(parts.codec.embed(codes[None]), latents[None], share)
            for codes, latents, share in zip(
                self.inputs.codes, self.inputs.latents, shares, strict=True
            )
        ]
        return self.inputs.conditions

    def flow(self) -> list[Tensor]:
        everyone = range(self.work.n_segments)
        self._mels = self.flow_of(everyone, self.noises(), self.work.flow_dtype)
        return self._mels

    def flow_of(
        self, segments: range, noises: list[Tensor], flow_dtype: torch.dtype | None = None
    ) -> list[Tensor]:
        """Mels (1, M, T) of some segments in one call."""
        return self.networks.s2mel.mels(
            [self.inputs.conditions[i] for i in segments],
            [self.inputs.voice] * len(segments),
            [noises[i] for i in segments],
            n_steps=self.work.n_steps,
            guidance=self.work.guidance,
            flow_dtype=flow_dtype,
        )

    def noises(self) -> list[Tensor]:
        """What the flow of each segment starts from: (1, M, P + T)"""
        n_prompt = self.inputs.voice.ref_mel.shape[2]
        chance, n_mels = self._chance(), self.networks.s2mel.config.mel.n_mels
        return [
            torch.randn(1, n_mels, n_prompt + n, generator=chance).to(self.networks.device)
            for n in self.n_frames
        ]

    def vocode(self) -> list[Tensor]:
        return [self.networks.vocoder.vocode(mel) for mel in self._mels]

    def reference(self) -> Tensor:
        """(1, S) noise; what is heard in it changes no time."""
        rate = self.networks.s2mel.config.mel.sample_rate
        n_samples = int(self.work.reference_seconds * rate)
        return 0.1 * torch.randn(1, n_samples, generator=self._chance())

    def _shares(self) -> list[float]:
        """How long each segment is beside the longest."""
        n = self.work.n_segments
        return [1 - self.work.spread * i / max(1, n - 1) for i in range(n)]

    def _made_up(self) -> Inputs:
        parts, work, chance = self.networks, self.work, self._chance()
        config, dtype = parts.gpt.config, parts.gpt.mel_head.weight.dtype
        n_frames = int(work.reference_seconds * parts.s2mel.config.mel.frame_rate)
        n_features = int(work.reference_seconds * CODES_PER_SECOND)

        def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.randn(shape, generator=chance).to(parts.device, dtype)

        def ids(n: int, end: int) -> Tensor:
            return torch.randint(2, end, (n,), generator=chance)

        n_tokens = max(SHORTEST_TEXT, round(work.seconds * TOKENS_PER_SECOND))
        n_rows, n_codes = work.n_segments, work.n_codes
        codes = ids(n_rows * n_codes, config.start_mel_token).view(n_rows, n_codes)
        s2mel, width = parts.s2mel.config, config.model_dim
        lengths = [int(n_codes * 1.72 * share) for share in self._shares()]
        return Inputs(
            voice=SpeakerFeatures(
                spk_cond_emb=numbers(1, n_features, config.cond_input_dim),
                style=numbers(1, s2mel.dit.style_dim),
                prompt_condition=numbers(1, n_frames, s2mel.length_regulator.channels),
                ref_mel=numbers(1, s2mel.mel.n_mels, n_frames),
            ),
            told=(
                numbers(1, config.condition_num_latent, width, dtype=dtype),
                numbers(1, width, dtype=dtype),
            ),
            texts=[ids(n_tokens, config.number_text_tokens).tolist() for _ in range(n_rows)],
            codes=codes.to(parts.device),
            latents=numbers(n_rows, n_codes, width),
            conditions=[numbers(1, n, s2mel.length_regulator.channels) for n in lengths],
        )

    def _chance(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.work.seed)
