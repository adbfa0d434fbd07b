"""A model that is being trained, spoken with and judged."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from higgs_trainer.audio_validation import AudioQualityValidator
from higgs_trainer.codec import Codec
from higgs_trainer.collator import Collator
from higgs_trainer.dataset import SamplePlan
from higgs_trainer.generation import Sampling, spoken
from higgs_trainer.statistics import Statistics
from ttscommon.progress import Monitor

log = logging.getLogger(__name__)

MOST_STEPS = 500  # of a sample, however long its text may take


class Listener:
    """Lets the model say what the first held-out clips say, and tells what is wrong with it.

    Args:
        interval: steps between samples; they are heard at the evaluation that follows
        evaluate_every: steps between evaluations
        statistics: say how long a text can take
    """

    def __init__(
        self,
        codec: Codec,
        plan: SamplePlan,
        statistics: Statistics,
        *,
        n_samples: int,
        interval: int,
        evaluate_every: int,
    ):
        self.codec, self.plan, self.statistics = codec, plan, statistics
        self.n_samples, self.interval, self.every = n_samples, interval, evaluate_every
        collator = plan.collator
        self.collator = Collator(collator.streams, collator.pad_id, "left")
        self.judge = AudioQualityValidator()

    def is_due(self, step: int) -> bool:
        return is_due(step, interval=self.interval, every=self.every)

    @torch.no_grad()
    def listen(self, model: Any, monitor: Monitor, step: int) -> dict[str, float]:
        """Speak, record the sounds, and warn of each that is no good.

        Returns:
            shares of the samples: "valid", and "stopped" by themselves; "seconds", their mean
        """
        rows = []
        for item in range(min(self.n_samples, len(self.plan.clips))):
            clip = self.plan.clips[item]
            conversation, sounds = self.plan.asked(item, 0)
            heard = sounds[: len(conversation.prompt.audios)]
            codes = [self.plan.store.codes(sound) for sound in heard]
            prompt = self.plan.writer.prompt(conversation.prompt, codes)
            expected = self.statistics.bounds(clip.text).steps(self.codec.frame_rate)
            cut = spoken(
                model, [prompt], self.collator, Sampling(max_steps=min(MOST_STEPS, expected[1]))
            )[0]
            found = cut.codes.numpy().astype(np.int64)
            verdict = self.judge.tokens(
                found, self.plan.writer.streams, expected=expected, stopped=cut.stopped
            )
            seconds = 0.0
            if cut.codes.shape[1]:
                sound = np.clip(self.codec.decode(cut.codes), -1, 1)
                seconds = len(sound) / self.codec.sample_rate
                verdict = self.judge.waveform(sound, self.codec.sample_rate) + verdict
                name = f"{clip.speaker}/{clip.id}"
                monitor.audio(name, step, sound, self.codec.sample_rate, clip.text)
            if not verdict.is_valid:
                log.warning("sample of %s at step %d: %s", clip.id, step, verdict)
            rows.append((float(verdict.is_valid), float(cut.stopped), seconds))
        valid, stopped, length = (float(mean) for mean in np.mean(rows, axis=0))
        scores = {"valid": valid, "stopped": stopped, "seconds": length}
        monitor.scalars("samples", step, scores)
        return scores


def is_due(step: int, *, interval: int, every: int) -> bool:
    """Whether an interval has passed since the evaluation before, `every` steps ago."""
    return step // interval > max(0, step - every) // interval
