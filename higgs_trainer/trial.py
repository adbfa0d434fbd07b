"""A text from a trained adapter, written as sound and judged."""

from __future__ import annotations

from pathlib import Path

from higgs_trainer.clips import read_prepared
from higgs_trainer.inference import HiggsVoice
from higgs_trainer.jobs import Models
from higgs_trainer.outputs import write_spoken
from higgs_trainer.speaking import Narrator, Spoken
from higgs_trainer.speaking_config import Sampling, SpeakingConfig

MOST_STEPS = 100


def try_out(
    models: Models, adapter: Path, held_out: Path, output: Path, *, device: str = "auto"
) -> Spoken:
    """Say the text of the first held-out clip as the tool would, and write it to `output`.

    Raises:
        UserError: if a file is missing or broken
    """
    text = read_prepared(held_out).clips[0].text
    voice = HiggsVoice.open(models.checkpoint, models.codec, adapter=adapter, device=device)
    spoken = Narrator(voice, SpeakingConfig(), Sampling(max_steps=MOST_STEPS)).tell(text)
    write_spoken(output, text, spoken)
    return spoken
