"""Speech of many texts, written as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lewm.generation import Request
from lewm.inference_engine import Engine, Speech
from ttscommon import audio

BATCHES_PER_WRITE = 4


def speak_to_files(
    engine: Engine, requests: Sequence[Request], paths: Sequence[Path]
) -> Iterator[tuple[Path, Speech]]:
    """Speak all requests, a few batches at a time, writing each wave as soon as it is there."""
    size = BATCHES_PER_WRITE * engine.settings.batch_size
    for at in range(0, len(requests), size):
        speeches = engine.synthesize(requests[at : at + size])
        for path, speech in zip(paths[at : at + size], speeches, strict=True):
            audio.save(path, speech.audio, speech.sample_rate)
            yield path, speech
