"""What is measured of one utterance by itself, and kept, so that nothing is done twice.

Each result is appended to a file as soon as it is there, under the hash of the sound and of the
settings it was measured with. A run that was killed goes on after the last whole line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.evaluation import NO_RECOGNISER
from ttscommon.evaluation.prosody import measure_prosody
from ttscommon.evaluation.quality import measure_quality
from ttscommon.evaluation.verdicts import judge
from ttscommon.evaluation.voices import SpeakerEncoder, load_ge2e, load_xvector, speech_only
from ttscommon.machine import pick_device
from ttscommon.records import read_kept
from ttscommon.segment import Span, speech_spans
from ttscommon.sound_progress import clock
from ttscommon.spoken import hesitant_beginning
from ttscommon.transcribe import Transcriber, WordTranscriber, identity, load_transcriber, sentence

log = logging.getLogger(__name__)

RATE = 16_000
VERSION = 3  # of what is measured; raise it when a number changes its meaning
NO_SECOND = (
    "no second speaker encoder was given; python tools/download_checkpoints.py wavlm fetches one, "
    "--speaker-encoder checkpoints/wavlm gives it"
)
LOST = 0.5  # of the words: a second hearing of fewer broke off, as one in 34 did with tiny.en
PATIENCE = 5.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Instruments:
    """What to measure with. What is None or False isn't measured; `absent` says why.

    Attributes:
        transcriber_name: stands for the transcriber in the file of results
        encoders: speaker encoders by the name of their metric
        absent: {metric: reason} of what can't be measured here
    """

    language: str = "en"
    transcriber: Transcriber | None = None
    transcriber_name: str = ""
    encoders: Mapping[str, SpeakerEncoder] = field(default_factory=dict)
    has_quality: bool = True
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Changes with anything that changes a result."""
        encoders = sorted((metric, encoder.name) for metric, encoder in self.encoders.items())
        parts = [VERSION, self.language, self.transcriber_name, encoders]
        return hashlib.sha256(repr([*parts, self.has_quality]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Measured:
    """One utterance's results, as they are kept.

    Attributes:
        sample_rate: of the file; everything is measured at 16 kHz
        speech: (start, end) of the stretches of speech, in seconds
        heard: what the recogniser understood
        words: the same as (word, start, end), if the recogniser tells
        verbatim: what it understood when told of hesitations, for these alone; None if that failed
        prosody: see `ttscommon.evaluation.prosody.Prosody`
        quality: see `ttscommon.evaluation.quality.Quality`
        voices: an embedding from each encoder; none where hardly anybody speaks
        trouble: why nothing could be measured
    """

    sample_rate: int = 0
    seconds: float = 0.0
    speech: Sequence[Sequence[float]] = ()
    heard: str | None = None
    words: Sequence[Sequence[Any]] = ()
    prosody: Mapping[str, float | None] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    voices: Mapping[str, Sequence[float]] = field(default_factory=dict)
    trouble: str | None = None
    verbatim: str | None = None


def choose_instruments(
    transcriber: Transcriber | None,
    *,
    transcriber_name: str = "",
    language: str = "en",
    second_encoder: Path | None = None,
) -> Instruments:
    """All that can be measured here; each missing library or model is one reason in `absent`.

    Raises:
        UserError: if the second encoder was asked for and can't be read
    """
    absent, encoders = {}, {}
    try:
        encoders["similarity"] = load_ge2e()
    except UserError as error:
        absent["similarity"] = str(error)
    if second_encoder is None:
        absent["similarity_wavlm"] = NO_SECOND
    else:
        encoders["similarity_wavlm"] = load_xvector(second_encoder)
    try:
        measure_quality(np.full(RATE, 0.1, np.float32))
    except UserError as error:
        absent["dnsmos"] = str(error)
    if transcriber is None:
        absent["wer"] = "no recogniser was given (--whisper-model)"
    return Instruments(
        language=language,
        transcriber=transcriber,
        transcriber_name=transcriber_name,
        encoders=encoders,
        has_quality="dnsmos" not in absent,
        absent=absent,
    )


def load_instruments(
    whisper_model: str, *, language: str, device: str, speaker_encoder: Path | None = None
) -> Instruments:
    """What the flags of `ttscommon.cli.add_measuring` and --device ask for.

    Args:
        whisper_model: "none" measures nothing that needs words

    Raises:
        UserError: if a recogniser or encoder that was asked for can't be read
    """
    is_deaf = whisper_model == NO_RECOGNISER
    return choose_instruments(
        None if is_deaf else load_transcriber(whisper_model, pick_device(device).type),
        transcriber_name=identity(whisper_model),
        language=language,
        second_encoder=speaker_encoder,
    )


def measure(path: Path, instruments: Instruments) -> Measured:
    """Everything of one file; one that can't be read has only `trouble`."""
    try:
        audio = load(path, RATE)
        rate = int(soundfile.info(str(path)).samplerate)
    except UserError as error:
        return Measured(trouble=str(error.what))
    spans = speech_spans(audio, RATE)
    heard, words, verbatim = None, [], None
    if instruments.transcriber is not None:
        # A recogniser makes up words for silence.
        heard, words, verbatim = _read(audio, instruments) if spans else ("", [], None)
    quality = asdict(measure_quality(audio)) if instruments.has_quality else {}
    return Measured(
        sample_rate=rate,
        seconds=len(audio) / RATE,
        speech=[[round(span.start, 4), round(span.end, 4)] for span in spans],
        heard=heard,
        words=words,
        verbatim=verbatim,
        prosody=asdict(measure_prosody(audio)),
        quality=quality,
        voices=_voices(audio, spans, instruments.encoders),
    )


def measure_all(
    paths: Sequence[Path], instruments: Instruments, *, cache: Path | None, n_processes: int = 1
) -> dict[Path, Measured]:
    """`measure` of every file, with a line of progress now and then; of equal files once.

    Args:
        cache: the file of results, read first and appended to; None keeps nothing
    """
    mark = instruments.key
    keys = {path: f"{_content(path)}-{mark}" for path in dict.fromkeys(paths)}
    known = _known(cache, mark) if cache else {}
    found = {path: known[key] for path, key in keys.items() if key in known}
    first = {keys[path]: path for path in reversed(keys) if path not in found}
    todo = [path for path in keys if first.get(keys[path]) == path]
    if found:
        log.info("%d of %d files were measured before", len(found), len(keys))
    began = told = time.monotonic()
    seconds, n_first = 0.0, 0
    for number, (path, measured) in enumerate(_results(todo, instruments, n_processes), 1):
        found[path] = measured
        if cache and measured.trouble is None:
            _append(cache, keys[path], measured)
        seconds, now = seconds + measured.seconds, time.monotonic()
        if number <= n_processes < len(todo):  # until here, each process loads its models
            began, told, seconds, n_first = now, now, 0.0, number
        elif now - told >= PATIENCE or number == len(todo):
            eta = clock((now - began) / (number - n_first) * (len(todo) - number))
            speed = seconds / max(now - began, 1e-9)
            log.info("measured %d/%d  %.1f x real time  eta %s", number, len(todo), speed, eta)
            told = now
    return {path: found[first.get(key, path)] for path, key in keys.items()}


def faults(path: Path, measured: Measured, **given: Any) -> list[str]:
    """The verdicts on a measured file, as "name: reason"."""
    if measured.trouble is not None:
        return []
    speech = [Span(start, end) for start, end in measured.speech]
    found = judge(load(path, RATE), RATE, speech=speech, heard=measured.heard, **given)
    return [f"{verdict.name}: {verdict.reason}" for verdict in found]


def _read(
    audio: NDArray[np.float32], instruments: Instruments
) -> tuple[str, list[tuple[str, float, float]], str | None]:
    """Heard, words, and heard once more by one who expects hesitations.

    Whisper writes nearly none down unasked, but who expects some hears other words besides: no
    error is counted in the second hearing.
    """
    transcriber, language = instruments.transcriber, instruments.language
    if isinstance(transcriber, WordTranscriber):
        words = transcriber.words(audio, RATE, language)
        prompt = hesitant_beginning(language)
        again = transcriber.words(audio, RATE, language, prompt) if prompt else []
        verbatim = sentence(again) if again and len(again) >= LOST * len(words) else None
        return sentence(words), [(w.word, w.start, w.end) for w in words], verbatim
    assert transcriber is not None
    return transcriber.text(audio, RATE, language), [], None


def _voices(
    audio: NDArray[np.float32], spans: Sequence[Any], encoders: Mapping[str, SpeakerEncoder]
) -> dict[str, list[float]]:
    try:
        speech = speech_only(audio, RATE, spans)
    except ValueError:  # hardly anybody speaks
        return {}
    return {name: encoder.embed(speech).round(5).tolist() for name, encoder in encoders.items()}


def _results(
    todo: Sequence[Path], instruments: Instruments, n_processes: int
) -> Iterator[tuple[Path, Measured]]:
    with Parallel(n_jobs=n_processes, return_as="generator_unordered") as parallel:
        calls = parallel(delayed(_measure_named)(path, instruments) for path in todo)
        yield from cast("Iterator[tuple[Path, Measured]]", calls)


def _measure_named(path: Path, instruments: Instruments) -> tuple[Path, Measured]:
    return path, measure(path, instruments)


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]


def _known(cache: Path, mark: str) -> dict[str, Measured]:
    """What these instruments found; other ones, or older programs, may have kept other things."""
    records = [record for record in read_kept(cache) if isinstance(record, dict)]
    ours = [r for r in records if str(r.get("key")).endswith(f"-{mark}") and "measured" in r]
    return {record["key"]: Measured(**record["measured"]) for record in ours}


def _append(cache: Path, key: str, measured: Measured) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"key": key, "measured": asdict(measured)}, ensure_ascii=False) + "\n"
    with cache.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":  # the last line was cut short by a kill
                line = "\n" + line
        file.write(line.encode())
