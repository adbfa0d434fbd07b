"""Speak texts that have recordings, and compare: the words, the lengths, the sound."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from lewm.alignment import Alignment, measure_alignment
from lewm.config import PreprocessConfig
from lewm.decoding import GenerationSettings
from lewm.generation import Request, generate
from lewm.inference_engine import Engine
from lewm.recordings import LEAD, TAIL
from lewm.text import Reading
from lewm.validation import EARLY_STOP
from lewm.window import DEFAULT_WINDOW, Window
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.mel import log_mel
from ttscommon.metrics import mel_dtw, word_error_rate
from ttscommon.seeds import seed_for
from ttscommon.transcribe import Transcriber

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """A text and how it sounds, as it was recorded or as a model says it.

    Attributes:
        audio: (S,) trimmed, at the loudness of the training clips
        mel: (M, T) natural log
        ran_away: a model said it and didn't stop by itself
        alignment: how the model read the text, None for a recording
    """

    text: str
    audio: audio.Audio
    mel: np.ndarray
    ran_away: bool = False
    alignment: Alignment | None = None


def read_held_out(folder: Path, engine: Engine, limit: int | None = None) -> list[Utterance]:
    """The recordings listed in `folder`/transcripts.csv."""
    rows = _rows(folder / "transcripts.csv", ("audio_path", "text"))[:limit]
    return [_recorded(row["text"], [folder / row["audio_path"]], engine) for row in rows]


def read_long(folder: Path, engine: Engine, limit: int | None = None) -> list[Utterance]:
    """The texts of several sentences in `folder`/long.csv, their recordings end to end."""
    rows = _rows(folder / "long.csv", ("audio_paths", "text"))[:limit]
    return [
        _recorded(row["text"], [folder / name for name in row["audio_paths"].split()], engine)
        for row in rows
    ]


def speak(
    engine: Engine,
    recordings: Sequence[Utterance],
    seed: int,
    *,
    speaker: str | None = None,
    reading: Reading = "auto",
    window: Window | None = DEFAULT_WINDOW,
) -> list[Utterance]:
    """Every text said from the text alone and in one piece, however long it is."""
    requests = [
        Request(
            text=recording.text,
            speaker=speaker,
            seed=seed_for(seed, "utterance", i),
            reading=reading,
        )
        for i, recording in enumerate(recordings)
    ]
    settings = GenerationSettings(keep_attention=True, window=window)
    said = generate(engine.model, engine.info, requests, settings)
    rendered = engine.render([generation.latents for generation in said])
    return [
        Utterance(
            text=recording.text,
            audio=_condition(wave, engine.recipe.sample_rate),
            mel=mel.float().cpu().numpy(),
            ran_away=generation.ran_away,
            alignment=measure_alignment(generation.attention),  # type: ignore[arg-type]
        )
        for recording, generation, (mel, wave) in zip(recordings, said, rendered, strict=True)
    ]


def copy(engine: Engine, recordings: Sequence[Utterance]) -> list[Utterance]:
    """Every recording through the autoencoder and the vocoder: the best `speak` can get."""
    copies = []
    for recording in recordings:
        mel = torch.from_numpy(recording.mel)[None].to(engine.device)  # (1, M, T)
        mask = torch.ones(1, mel.shape[-1], dtype=torch.bool, device=engine.device)
        with torch.inference_mode():
            latents = engine.model.encode(mel, mask)
        copied, wave = engine.render([latents[0]])[0]
        sound = _condition(wave, engine.recipe.sample_rate)
        copies.append(Utterance(recording.text, sound, copied.float().cpu().numpy()))
    return copies


def listen(
    utterances: Sequence[Utterance], transcriber: Transcriber, sample_rate: int, name: str
) -> list[str]:
    """What the recogniser hears, one text an utterance."""
    heard = []
    for i, utterance in enumerate(utterances, 1):
        heard.append(transcriber.text(utterance.audio, sample_rate, "en"))
        if i % 10 == 0 or i == len(utterances):
            log.info("heard %-12s %3d/%d", name, i, len(utterances))
    return heard


def score(
    said: Sequence[Utterance], recordings: Sequence[Utterance], heard: Sequence[str]
) -> dict[str, float]:
    """Means over all utterances, and counts of what went wrong.

    Returns:
        n: utterances
        wer: of all words together
        length_ratio: seconds said / seconds recorded, both trimmed alike; with its extremes
        early_stops, runaways: counts (early: under EARLY_STOP of the recording)
        mel_dtw: distance of the log-mels along the warping path, in nats
        diagonality, monotonicity, coverage: of the text attention, where there is one
    """
    ratios = [len(s.audio) / len(r.audio) for s, r in zip(said, recordings, strict=True)]
    distances = [mel_dtw(s.mel, r.mel) for s, r in zip(said, recordings, strict=True)]
    result = {
        "n": len(said),
        "wer": word_error_rate([r.text for r in recordings], heard),
        "length_ratio": float(np.mean(ratios)),
        "length_ratio_min": min(ratios),
        "length_ratio_max": max(ratios),
        "early_stops": sum(ratio < EARLY_STOP for ratio in ratios),
        "runaways": sum(s.ran_away for s in said),
        "mel_dtw": float(np.mean(distances)),
    }
    alignments = [asdict(s.alignment) for s in said if s.alignment is not None]
    for name in alignments[0] if alignments else ():
        result[name] = float(np.mean([alignment[name] for alignment in alignments]))
    return result


def details(
    said: Sequence[Utterance], recordings: Sequence[Utterance], heard: Sequence[str]
) -> list[dict[str, object]]:
    """One row an utterance: what was to be said, what was heard, and its length."""
    return [
        {
            "text": r.text,
            "heard": text,
            "length_ratio": len(s.audio) / len(r.audio),
            "ran_away": s.ran_away,
        }
        for s, r, text in zip(said, recordings, heard, strict=True)
    ]


def _recorded(text: str, paths: Sequence[Path], engine: Engine) -> Utterance:
    rate = engine.recipe.sample_rate
    clips = [_with_margins(audio.load(path, rate), rate) for path in paths]
    sound = _condition(np.concatenate(clips), rate)
    mel = log_mel(torch.from_numpy(sound), engine.recipe)
    return Utterance(text, sound, mel.numpy())


def _with_margins(sound: audio.Audio, sample_rate: int) -> audio.Audio:
    """A recording between the margins that preprocessing leaves, and so a model that joins them."""
    start, end = audio.sound_edges(sound, sample_rate, PreprocessConfig().trim_db)
    return sound[max(0, start - round(LEAD * sample_rate)) : end + round(TAIL * sample_rate)]


def _condition(sound: audio.Audio, sample_rate: int) -> audio.Audio:
    """Trimmed and at the training clips' loudness, so that lengths and mels can be compared."""
    config = PreprocessConfig()
    trimmed = audio.trim_silence(sound, sample_rate, config.trim_db)
    return audio.normalize_loudness(trimmed, sample_rate, config.loudness)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        fix = "python examples/closed_grammar/corpus.py --help"
        raise UserError("no held-out texts", where=path, fix=fix)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or set(columns) - rows[0].keys():
        raise UserError(f"expected rows with the columns {', '.join(columns)}", where=path)
    return rows
