"""A model that is being trained, spoken with and listened to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from indextts.checkpoint import CheckpointFolder
from indextts.clips import TrainingClip
from indextts.config import DecodingConfig, SpeechConfig
from indextts.emotion import Mood
from indextts.frontend.text import plan
from indextts.frontend.tokenizer import TextTokenizer
from indextts.gpt.model import UnifiedVoice
from indextts.inference import Models, Synthesizer
from indextts.references import ReferenceReader
from indextts.speech import Request
from indextts.stored_voice import Voice
from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.evaluation.verdicts import judge
from ttscommon.evaluation.voices import (
    VOICE_RATE,
    Embedding,
    SpeakerEncoder,
    load_ge2e,
    mean_voice,
    similarity,
    speech_only,
)
from ttscommon.metrics import Errors, word_errors
from ttscommon.progress import Monitor
from ttscommon.segment import Span, speech_spans
from ttscommon.transcribe import Transcriber

log = logging.getLogger(__name__)

SEED, RATE = 1, 16_000
MOST_RECORDINGS = 8  # that the speaker's voice is known by
HEADROOM = 2.0  # times the codes of the recording, after which a sample is cut


@dataclass
class Heard:
    """What was found out about one sample.

    Attributes:
        level: root mean square, in dB of full scale
        duration_ratio: of the sample to the recording of the same text, from first to last word
        errors, likeness: None where they can't be measured
    """

    level: float
    seconds: float
    duration_ratio: float
    faults: list[str] = field(default_factory=list)
    errors: Errors | None = None
    likeness: float | None = None


def summed_up(found: Sequence[Heard]) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of all samples together, less is better, and what else was measured.

    Returns:
        scores: faults; fluent_wer over all words
        facts: level_db, seconds, duration_ratio, similarity; means
    """
    scores = {"faults": float(np.mean([len(one.faults) for one in found]))}
    errors = [one.errors for one in found if one.errors is not None]
    if errors:
        n_units = sum(one.n_units for one in errors)
        scores["fluent_wer"] = sum(one.n_errors for one in errors) / max(1, n_units)
    facts = {
        "level_db": [one.level for one in found],
        "seconds": [one.seconds for one in found],
        "duration_ratio": [one.duration_ratio for one in found],
        "similarity": [one.likeness for one in found if one.likeness is not None],
    }
    return scores, {name: float(np.mean(values)) for name, values in facts.items() if values}


class Listener:
    """Speaks the texts of held-out clips, each with the prompt of its speaker.

    Args:
        clips: what is spoken; their recordings say how long it should take
        prompts: recordings of the same speakers, which the voice is taken from and compared with
        transcriber: understands the samples, if there is one
        encoder: knows voices; None loads the one that is at hand, if any

    Attributes:
        manner: see `indextts.inference.Synthesizer`
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        clips: Sequence[TrainingClip],
        prompts: Sequence[TrainingClip],
        device: torch.device,
        *,
        transcriber: Transcriber | None = None,
        encoder: SpeakerEncoder | None = None,
    ):
        self.folder, self.device = folder, device
        self.clips, self.prompts = list(clips), [p for p in prompts if _is_there(p)]
        if not self.prompts:
            raise UserError("no recording to take a voice from for the samples",
                            fix="--sample-interval 0")  # fmt: skip
        self.transcriber, self.encoder = transcriber, encoder or _encoder()
        if self.transcriber is None or self.encoder is None:
            log.info("no best_audio: it takes --whisper-model and a speaker encoder (Resemblyzer)")
        self._require_sense()
        self.manner: Callable[[Tensor], Tensor] | None = None
        self._synthesizer: Synthesizer | None = None
        self._voices: dict[str, Voice] = {}
        self._lengths: dict[str, float | None] = {}

    def __call__(self, gpt: UnifiedVoice, monitor: Monitor, step: int) -> float | None:
        """See `indextts.tasks.Speaks`: word errors, plus what the voice lacks of the speaker's.

        A sample that can't be made or heard is told of, and there is no score then.
        """
        found = []
        for number, clip in enumerate(self.clips):
            try:
                heard = self._sample(gpt, monitor, step, number, clip)
            except UserError as error:
                log.warning("sample %d at step %d: %s", number, step, error)
                continue
            for fault in heard.faults:
                log.warning("sample %d at step %d: %s", number, step, fault)
            found.append(heard)
        if not found:
            return None
        scores, facts = summed_up(found)
        monitor.scalars("sample", step, scores)
        monitor.scalars("heard", step, facts)
        if len(found) < len(self.clips) or "fluent_wer" not in scores or "similarity" not in facts:
            return None
        return scores["fluent_wer"] + 1 - facts["similarity"]

    def _require_sense(self) -> None:
        """Refuse now what can't be spoken or understood, and not after an epoch of work."""
        tokenizer, most = TextTokenizer(self.folder.tokenizer), SpeechConfig()
        for clip in self.clips:
            plan(tokenizer, clip.text, max_tokens=most.max_text_tokens_per_segment)
        if self.transcriber is not None:
            for language in sorted({_language(clip) for clip in self.clips}):
                self.transcriber.text(np.zeros(RATE, np.float32), RATE, language)

    def _sample(
        self, gpt: UnifiedVoice, monitor: Monitor, step: int, number: int, clip: TrainingClip
    ) -> Heard:
        synthesizer = self._with(gpt)
        speech = synthesizer.synthesize(self._request(synthesizer, clip))
        sound = (speech.samples / 32768).astype(np.float32)
        monitor.audio(f"sample/{number}", step, sound, speech.sample_rate, clip.text)
        return self._heard(clip, sound, speech.sample_rate)

    def _with(self, gpt: UnifiedVoice) -> Synthesizer:
        if self._synthesizer is None:
            self._synthesizer = Synthesizer(Models.load(self.folder, gpt, self.device))
            s2mel = self._synthesizer.models.s2mel
            reader = ReferenceReader(self.folder, s2mel, self.device, releases=True)
            for clip in self.clips:
                prompt = self._prompt(clip)
                if prompt.id not in self._voices:
                    assert prompt.audio_path is not None
                    self._voices[prompt.id] = reader.voice(prompt.audio_path)
            reader.release()
        self._synthesizer.speak_with(gpt)
        self._synthesizer.manner = self.manner
        return self._synthesizer

    def _prompt(self, clip: TrainingClip) -> TrainingClip:
        own = [prompt for prompt in self.prompts if prompt.speaker == clip.speaker]
        return (own or self.prompts)[0]

    def _request(self, synthesizer: Synthesizer, clip: TrainingClip) -> Request:
        config = synthesizer.models.gpt.config
        most = max(50, int(HEADROOM * clip.code_len))
        decoding = DecodingConfig(max_mel_tokens=min(most, config.max_mel_tokens - 1))
        speech = SpeechConfig()
        return Request(
            items=synthesizer.plan(clip.text, speech),
            voice=self._voices[self._prompt(clip).id],
            seed=SEED,
            mood=Mood(),
            decoding=decoding,
            speech=speech,
        )

    def _heard(self, clip: TrainingClip, sound: NDArray[np.float32], rate: int) -> Heard:
        level = float(10 * np.log10(max(np.square(sound, dtype=np.float64).mean(), 1e-10)))
        text, language = None, _language(clip)
        if self.transcriber is not None:
            text = self.transcriber.text(sound, rate, language)
        spans = speech_spans(sound, rate) if len(sound) else ()
        expected = self._expected(clip)
        faults = judge(sound, rate, speech=spans, text=clip.text, heard=text,
                       expected_seconds=expected, language=language)  # fmt: skip
        ratio = extent(spans) / expected if expected else 1.0
        heard = Heard(level, len(sound) / rate, ratio,
                      [f"{fault.name}: {fault.reason}" for fault in faults])  # fmt: skip
        if text is not None:
            heard.errors = word_errors(clip.text, text, language=language, fluent=True)
        if self.encoder is not None:
            heard.likeness = self._likeness(clip, sound, rate)
        return heard

    def _expected(self, clip: TrainingClip) -> float | None:
        """Seconds from first to last word of the clip's recording; None if it isn't known."""
        if clip.id not in self._lengths:
            own = 0.0
            if _is_there(clip) and clip.audio_path is not None:
                own = extent(speech_spans(load(clip.audio_path, VOICE_RATE), VOICE_RATE))
            self._lengths[clip.id] = own or clip.duration or None
        return self._lengths[clip.id]

    def _likeness(self, clip: TrainingClip, sound: NDArray[np.float32], rate: int) -> float:
        """0 for what holds no speech."""
        import soxr

        assert self.encoder is not None
        at_rate = soxr.resample(sound, rate, VOICE_RATE)
        try:
            mine = self.encoder.embed(speech_only(at_rate, VOICE_RATE))
        except ValueError:
            return 0.0
        known = self._known.get(clip.speaker)
        return similarity(mine, known) if known is not None else 0.0

    @cached_property
    def _known(self) -> dict[str, Embedding]:
        """The voice of each speaker, from a few recordings."""
        assert self.encoder is not None
        voices: dict[str, list[Embedding]] = {}
        for prompt in self.prompts:
            own = voices.setdefault(prompt.speaker, [])
            if len(own) < MOST_RECORDINGS and prompt.audio_path is not None:
                sound = load(prompt.audio_path, VOICE_RATE)
                try:
                    own.append(self.encoder.embed(speech_only(sound, VOICE_RATE)))
                except ValueError:
                    continue
        return {speaker: mean_voice(own) for speaker, own in voices.items() if own}


def _is_there(clip: TrainingClip) -> bool:
    return clip.audio_path is not None and clip.audio_path.is_file()


def _language(clip: TrainingClip) -> str:
    return clip.language or "en"


def extent(spans: Sequence[Span]) -> float:
    """Seconds from first to last word."""
    return spans[-1].end - spans[0].start if spans else 0.0


def _encoder() -> SpeakerEncoder | None:
    try:
        return load_ge2e()
    except UserError as error:
        log.info("%s", error)
        return None
