"""What a process occupies that speaks with a stored voice, or with one read from a recording.

For a process of its own, in which nothing else was loaded or imported before.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from indextts.benchmark import Benchmark, Work
from indextts.loading import DTYPES, Amp
from indextts.random_networks import Networks, Sizes
from ttscommon import audio, memory
from ttscommon.machine import pick_device
from ttscommon.metering import Meter

TEXT = "Good morning."
N_CODES = 10


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """What is loaded.

    Attributes:
        model_dir: a checkpoint folder; None takes random weights
        preset: of random weights
        amp: precision of the language model
    """

    model_dir: Path | None = None
    preset: str = "full"
    device: str = "cpu"
    amp: Amp = "no"
    reference_seconds: float = 5.0


def occupied(case: MemoryCase, *, is_stored: bool) -> dict[str, float | bool | None]:
    """Bytes after a few sounds were spoken.

    Returns:
        resident: now, on the device; peak: of this process since it began;
        has_transformers: whether the library that w2v-bert comes from was imported
    """
    torch.set_num_threads(1)
    kept = _by_checkpoint(case, is_stored) if case.model_dir else _by_random(case, is_stored)
    found = {
        "resident": Meter(pick_device(case.device)).held(),
        "peak": memory.peak(),
        "has_transformers": "transformers" in sys.modules,
    }
    del kept
    return found


def _by_random(case: MemoryCase, is_stored: bool) -> object:
    networks = Networks.random(
        Sizes.named(case.preset),
        device=pick_device(case.device),
        gpt_dtype=DTYPES[case.amp],
        reads_recordings=not is_stored,
    )
    benchmark = Benchmark(networks, _work(case))
    for _ in benchmark.stages():
        pass
    return benchmark


def _by_checkpoint(case: MemoryCase, is_stored: bool) -> object:
    from indextts.infer_v2 import IndexTTS2  # the door that everyone takes

    tts = IndexTTS2(model_dir=case.model_dir, device=case.device, amp=case.amp)
    little: dict[str, Any] = {
        "num_beams": 1,
        "max_mel_tokens": N_CODES,
        "diffusion_steps": 1,
        "seed": 0,
    }
    benchmark = Benchmark(_of(tts), _work(case))
    with tempfile.TemporaryDirectory() as folder:
        if is_stored:
            tts.infer(text=TEXT, speaker_embeddings=benchmark.inputs.voice, **little)
        else:
            path = Path(folder, "reference.wav")
            rate = tts.synthesizer.sample_rate
            audio.save(path, benchmark.reference()[0].numpy(), rate)
            tts.infer(path, TEXT, **little)
    return tts


def _of(tts) -> Networks:
    models = tts.synthesizer.models
    return Networks(models.gpt, models.s2mel, models.codec, models.vocoder, None, None)


def _work(case: MemoryCase) -> Work:
    return Work(
        seconds=0.2,
        n_segments=1,
        reference_seconds=case.reference_seconds,
        n_steps=1,
        num_beams=1,
        warmups=0,
    )
