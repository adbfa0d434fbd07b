"""How fast a checkpoint, or a preset with random weights, speaks here.

Every row is generated to a fixed length: speed depends on the sizes of the network and on how much
is said, not on what, so a random network is as good as a trained one.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from lewm.config import ModelConfig
from lewm.decoding import encode_texts
from lewm.generation import GenerationSettings, Request, row_for
from lewm.inference_engine import STAGES, Engine
from lewm.model import LeWMTTS
from lewm.weights import CheckpointInfo
from ttscommon.mel import MelRecipe

# Bytes a second of plain English prose: 39 bytes to 51 latents of 43 ms, measured on 3.5 hours.
BYTES_PER_SECOND = 18
WORDS = "the quick brown fox jumps over the lazy dog and then walks home again "


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats for one batch size; all times in seconds.

    Attributes:
        audio: what was generated, all rows together
        predictor, decoder, vocoder: time in each stage for the whole batch
    """

    batch_size: int
    audio: float
    predictor: float
    decoder: float
    vocoder: float

    @property
    def total(self) -> float:
        return self.predictor + self.decoder + self.vocoder

    @property
    def model_factor(self) -> float:
        """Real-time factor of predictor and decoder, per second of audio of any row."""
        return (self.predictor + self.decoder) / self.audio

    def to_dict(self) -> dict[str, float]:
        """Real-time factors per stage, and how many times faster than real time it all is."""
        factors = {f"rtf_{stage}": getattr(self, stage) / self.audio for stage in STAGES}
        return {
            "batch_size": self.batch_size,
            "audio_seconds": self.audio,
            **factors,
            "rtf_model": self.model_factor,
            "rtf": self.total / self.audio,
            "times_real_time": self.audio / self.total,
        }


def random_voice(preset: str) -> tuple[LeWMTTS, CheckpointInfo]:
    """A preset with random weights, always the same ones: as fast as a trained one, no speech."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LeWMTTS(ModelConfig.named(preset), MelRecipe()), CheckpointInfo()


def measure(
    engine: Engine, batch_sizes: Sequence[int], *, seconds: float = 5.0, repeats: int = 3
) -> Iterator[Timing]:
    """Generate `seconds` of audio per row at each batch size, after one unmeasured round."""
    for batch_size in batch_sizes:
        yield _measure_one(engine, batch_size, seconds, repeats)


def _measure_one(engine: Engine, batch_size: int, seconds: float, repeats: int) -> Timing:
    requests = [_request(engine, seconds, seed) for seed in range(batch_size)]
    settings = _fixed(engine, seconds, batch_size)
    spent: dict[str, list[float]] = {stage: [] for stage in STAGES}
    n_samples = 0
    for repeat in range(repeats + 1):
        before = dict(engine.seconds)
        generations = engine.generate(requests, settings)
        rendered = engine.render([generation.latents for generation in generations])
        n_samples = sum(len(wave) for _, wave in rendered)
        for stage in STAGES if repeat else ():
            spent[stage].append(engine.seconds[stage] - before[stage])
    medians = {stage: statistics.median(times) for stage, times in spent.items()}
    return Timing(batch_size, n_samples / engine.recipe.sample_rate, **medians)


@torch.inference_mode()
def cache_gain(engine: Engine, *, seconds: float = 10.0) -> dict[str, float]:
    """What the KV cache saves: one row generated with it, and by full passes without.

    Returns:
        with_cache, without_cache: seconds; ratio: how many times faster the cache is
    """
    request, settings = _request(engine, seconds, 0), _fixed(engine, seconds, 1)
    times: dict[str, float] = {}
    engine.generate([request], settings)
    start = engine.clock()
    cached = engine.generate([request], settings)[0].latents
    times["with_cache"] = engine.clock() - start
    start = engine.clock()
    latents = _without_cache(engine, request, settings)
    if latents.is_cuda:
        torch.cuda.synchronize()
    times["without_cache"] = engine.clock() - start
    assert latents.shape == cached.shape
    times["ratio"] = times["without_cache"] / times["with_cache"]
    return times


def _without_cache(engine: Engine, request: Request, settings: GenerationSettings) -> torch.Tensor:
    """(T', C) with every latent from a full pass over all before it."""
    model = engine.model
    row = row_for(model, engine.info, request, settings)
    text, mask = encode_texts(model, [row], len(row.ids))
    latents = text.new_zeros(1, row.maximum, model.config.latent_dim)
    for t in range(row.maximum):
        hidden = model.predictor(latents[:, : t + 1], text, mask).hidden[:, -1]
        noise = None if row.noise is None else row.noise[None, t].to(hidden)
        latents[:, t] = model.predictor.head.sample(hidden, noise, settings.temperature)
    return latents[0]


def _request(engine: Engine, seconds: float, seed: int) -> Request:
    n_bytes = max(1, round(seconds * BYTES_PER_SECOND))
    words = (WORDS * (n_bytes // len(WORDS) + 1))[:n_bytes]
    config = engine.model.config
    return Request(
        text=words,
        speaker=next(iter(config.speakers), None),
        language=next(iter(config.languages), None),
        seed=seed,
    )


def _fixed(engine: Engine, seconds: float, batch_size: int) -> GenerationSettings:
    """Settings under which every row takes exactly `seconds`."""
    n_frames = max(2, round(seconds * engine.model.frame_rate))
    return replace(engine.settings, stop_threshold=1.0, max_frames=n_frames, batch_size=batch_size)
