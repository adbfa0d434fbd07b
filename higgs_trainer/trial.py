"""A text from a trained adapter, written as sound and judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from higgs_trainer.audio_validation import AudioQualityValidator, Verdict
from higgs_trainer.clips import read_prepared
from higgs_trainer.generation import Sampling
from higgs_trainer.inference import HiggsVoice
from higgs_trainer.jobs import Models
from ttscommon import audio

MOST_STEPS = 100


def try_out(
    models: Models, adapter: Path, held_out: Path, output: Path, *, device: str = "auto"
) -> Verdict:
    """Say the text of the first held-out clip, write it to `output`, and judge it.

    Raises:
        UserError: if a file is missing or broken
    """
    text = read_prepared(held_out).clips[0].text
    voice = HiggsVoice.open(models.checkpoint, models.codec, adapter=adapter, device=device)
    speech = voice.speak([text], sampling=Sampling(max_steps=MOST_STEPS))[0]
    judge = AudioQualityValidator()
    codes = speech.cut.codes.numpy().astype(np.int64)
    verdict = judge.tokens(codes, voice.writer.streams, stopped=speech.cut.stopped)
    if len(speech.audio):
        audio.save(output, np.clip(speech.audio, -1, 1), speech.sample_rate)
        verdict = judge.waveform(speech.audio, speech.sample_rate) + verdict
    return verdict
