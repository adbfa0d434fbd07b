"""A speaker's own voice: the adapter that was trained, and a clip to speak after."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from higgs_trainer.clips import VALIDATION, read_prepared
from higgs_trainer.inference import Reference
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.transcripts import clip_texts
from ttscommon.workspace import ADAPTER_FILE, Speaker

log = logging.getLogger(__name__)

ModelType = Literal["auto", "lora", "base"]
GOOD_LENGTH = 8.0  # seconds; short ones say little about a voice, long ones cost time
SHORTEST, LONGEST = 1.0, 30.0


def adapter_of(speaker: Speaker, kind: ModelType) -> Path | None:
    """The folder of a speaker's best adapter, or None for the base.

    Raises:
        UserError: if the adapter is asked for and there is none
    """
    places = (speaker.higgs.best_checkpoint, speaker.higgs.final_checkpoint)
    found = next((place for place in places if (place / ADAPTER_FILE).is_file()), None)
    if kind == "lora" and found is None:
        raise UserError(
            "no adapter was trained",
            where=places[0],
            fix=f"python tools/higgs_train.py --speaker {speaker.name}",
        )
    return None if kind == "base" else found


def reference_of(speaker: Speaker) -> Reference:
    """One of the speaker's clips with a text, of a good length; none that was held out.

    Raises:
        UserError: if there is none
    """
    held_out = _held_out(speaker)
    lengths = {}
    for name, text in clip_texts(speaker).items():
        if text.strip() and name not in held_out:
            seconds = audio.duration(speaker.clips_folder / name)
            if SHORTEST <= seconds <= LONGEST:
                lengths[name] = (abs(seconds - GOOD_LENGTH), name, text)
    if not lengths:
        raise UserError(
            f"no clip of {SHORTEST:g} to {LONGEST:g} seconds that has a text",
            where=speaker.clips_folder,
            fix=f"python tools/transcribe_dataset.py --speaker {speaker.name}",
        )
    _, name, text = min(lengths.values())
    return Reference(speaker.clips_folder / name, text)


def _held_out(speaker: Speaker) -> set[str]:
    """Names of clips that training was measured with."""
    path = speaker.higgs.processed / VALIDATION
    if not path.is_file():
        return set()
    return {clip.target.audio for clip in read_prepared(path).clips}
