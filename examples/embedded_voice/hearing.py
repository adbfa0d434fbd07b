"""Instruments that remember: what was heard in a sound once needn't be listened to again.

Listening takes longer than speaking, so it is what a stopped measurement mustn't lose.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from ttscommon import audio
from ttscommon.evaluation.quality import measure_quality
from ttscommon.evaluation.voices import SpeakerEncoder, load_ge2e, speech_only
from ttscommon.records import append_record, read_kept
from ttscommon.transcribe import Transcriber, identity, load_transcriber

log = logging.getLogger(__name__)
LANGUAGE = "en"
INSTRUMENT_RATE = 16_000
EVERY = 20  # sounds between two lines of progress


class Ear:
    """Listens to sounds: their words, their voice, their quality.

    Args:
        whisper_model: as `ttscommon.transcribe.load_transcriber` takes it, or a transcriber
        sample_rate: of all sounds
        kept: file of what was found, read first and added to
    """

    def __init__(self, whisper_model: str | Transcriber, sample_rate: int, kept: Path):
        self.sample_rate, self.kept = sample_rate, kept
        self._given = whisper_model
        self.name = identity(whisper_model) if isinstance(whisper_model, str) else "given"
        self._transcriber: Transcriber | None = None
        self._encoder: SpeakerEncoder | None = None
        self.known = {record["key"]: record["found"] for record in read_kept(kept)}
        kept.parent.mkdir(parents=True, exist_ok=True)

    def words(self, sounds: Sequence[audio.Audio], what: str) -> list[str]:
        """What the recogniser hears, one text a sound."""
        return self._found(f"words {self.name}", sounds, self._hear, what)

    def voices(self, sounds: Sequence[audio.Audio], what: str) -> list[audio.Audio]:
        """Whose voice it is, (D,) of length 1 each, by Resemblyzer's encoder."""
        found = self._found("voice ge2e", sounds, self._recognise, what)
        return [np.asarray(voice, dtype=np.float32) for voice in found]

    def quality(self, sounds: Sequence[audio.Audio], what: str) -> list[float]:
        """DNSMOS overall, 1 to 5."""
        return self._found("dnsmos overall", sounds, self._judge, what)

    def _found(
        self,
        instrument: str,
        sounds: Sequence[audio.Audio],
        measure: Callable[[audio.Audio], Any],
        what: str,
    ) -> list[Any]:
        keys = [f"{instrument} {_content(sound)}" for sound in sounds]
        todo = [i for i, key in enumerate(keys) if key not in self.known]
        for n, i in enumerate(todo, 1):
            self.known[keys[i]] = found = measure(sounds[i])
            append_record(self.kept, {"key": keys[i], "found": found, "what": what})
            if n % EVERY == 0 or n == len(todo):
                log.info("%-34s %-12s %3d/%d", what, instrument.split()[0], n, len(todo))
        return [self.known[key] for key in keys]

    def _hear(self, sound: audio.Audio) -> str:
        if self._transcriber is None:
            given = self._given
            self._transcriber = load_transcriber(given) if isinstance(given, str) else given
        return self._transcriber.text(sound, self.sample_rate, LANGUAGE)

    def _recognise(self, sound: audio.Audio) -> list[float]:
        self._encoder = self._encoder or load_ge2e()
        sound = self._resampled(sound)
        try:
            sound = speech_only(sound, INSTRUMENT_RATE)
        except ValueError:  # a short utterance, without silences to leave out
            log.debug("hardly any speech found; all of it is taken")
        return self._encoder.embed(sound).round(5).tolist()

    def _judge(self, sound: audio.Audio) -> float:
        return measure_quality(self._resampled(sound)).overall

    def _resampled(self, sound: audio.Audio) -> audio.Audio:
        return soxr.resample(sound, self.sample_rate, INSTRUMENT_RATE).astype(np.float32)


def _content(sound: audio.Audio) -> str:
    samples = (np.clip(sound, -1, 1) * 32767).round().astype(np.int16)
    return hashlib.sha256(samples.tobytes()).hexdigest()[:24]
