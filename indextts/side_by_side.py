"""The same texts with the same seeds, spoken by one model after the other in one process."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indextts.clips import VALIDATION_MANIFEST, read_clips
from indextts.infer_v2 import IndexTTS2
from indextts.loading import LanguageModel, load_language_model
from indextts.lora import adapter_effect, detach
from indextts.outputs import write_speech
from indextts.pattern_embeddings import PatternEmbedding
from indextts.pattern_inference import require_effect, speak_in_manner
from indextts.pattern_text import readable
from indextts.stored_voice import SpeakerEmbeddings
from indextts.tuned import Tuned
from indextts.weights import fingerprint
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import Utterance
from ttscommon.files import atomic, read_json
from ttscommon.outputs import slug
from ttscommon.workspace import Speaker

log = logging.getLogger(__name__)

# Conditions by the kind of model, as the numbered files are called.
LABELS = {"base": "1_base", "lora": "2_lora", "finetune": "3_finetuned", "pattern": "4_pattern"}
SILENT = -60.0  # dB of full scale; the mean of a recording is about -25
# Everyday English that no training set is likely to hold; two questions and a long one.
SENTENCES = (
    "Could you close the window before the rain starts?",
    "My sister keeps two goats and a very old tractor behind the barn.",
    "We should have left an hour ago, but nobody could find the keys.",
    "What did the doctor say about your shoulder?",
    "On the third day the wind turned, the clouds broke up, and for the first time since we had "
    "set sail we saw the coast.",
    "Put the blue folder on top, please.",
    "He laughed so hard that he had to sit down on the stairs.",
    "The museum opens at ten, except on Mondays.",
)


@dataclass(frozen=True)
class Line:
    """What every model says.

    Attributes:
        number: of the text, from 1
        is_held_out: the speaker's own recording of it was kept out of training
    """

    number: int
    text: str
    seed: int
    is_held_out: bool = False


@dataclass(frozen=True)
class Spoken:
    """One line by one model.

    Attributes:
        record: see `indextts.outputs.write_speech`
        loudness: RMS in dB of full scale
    """

    label: str
    line: Line
    path: Path
    record: dict[str, Any]
    loudness: float

    @property
    def utterance(self) -> Utterance:
        """For the evaluation."""
        return Utterance(self.path, self.line.text, self.line.seed, f"text{self.line.number}")


@dataclass(frozen=True)
class ModelSpoken:
    """What one model said, and what it is."""

    tuned: Tuned
    description: str
    spoken: Sequence[Spoken]


def lines(texts: Sequence[str], seeds: Sequence[int], n_held_out: int = 0) -> list[Line]:
    """Every text with every seed; the first `n_held_out` texts are the speaker's own."""
    return [
        Line(number, text, seed, number <= n_held_out)
        for number, text in enumerate(texts, start=1)
        for seed in seeds
    ]


def held_out(manifest: Path) -> list[Utterance]:
    """The speaker's recordings that weren't trained on, with their texts."""
    if not manifest.is_file():
        return []
    clips = [clip for clip in read_clips([manifest]) if clip.audio_path and clip.text]
    return [
        Utterance(clip.audio_path, clip.text, None, clip.id)
        for clip in clips
        if clip.audio_path and clip.audio_path.is_file()
    ]


def spoken_language(speaker: Speaker) -> str:
    """What is spoken in a speaker's recordings, so far as it is known; else "en"."""
    manifest = speaker.processed / VALIDATION_MANIFEST
    clips = read_clips([manifest]) if manifest.is_file() else []
    known = Counter(clip.language for clip in clips if clip.language)
    if not known and speaker.transcription_stats.is_file():
        known[read_json(speaker.transcription_stats)["language"]] += 1
    return known.most_common(1)[0][0] if known else "en"


def file_name(stamp: str, label: str, line: Line, among: Sequence[Line]) -> str:
    """`<stamp>_<label>_<text>.wav`, with number and seed where there are several."""
    numbered = f"{line.number}_" if len({one.number for one in among}) > 1 else ""
    seeded = f"_seed{line.seed}" if len({one.seed for one in among}) > 1 else ""
    return f"{stamp}_{label}_{numbered}{slug(line.text)}{seeded}.wav"


def speak_by(
    tts: IndexTTS2, tuned: Tuned, scale: float = 1.0, *, pattern_scale: float = 1.0
) -> str:
    """Let another model speak from now on; an adapter is put in or taken out, nothing else is read.

    Args:
        scale: strength of an adapter
        pattern_scale: strength of a pattern

    Returns:
        what the model is, in a line

    Raises:
        UserError: if it can't be read, belongs to another base, or changes nothing
    """
    tts.synthesizer.manner = None
    told = _take_weights(tts, tuned, scale)
    if tuned.pattern_path is None:
        return told
    pattern = PatternEmbedding.load(tuned.pattern_path)
    speak_in_manner(tts, pattern, scale=pattern_scale)
    effect = require_effect(tts, pattern, pattern_scale)
    return f"{told}; the pattern, scale {pattern_scale:g}, moves them by up to {effect:.3g}"


def _take_weights(tts: IndexTTS2, tuned: Tuned, scale: float) -> str:
    wanted = tuned.gpt_checkpoint or tts.folder.gpt
    if wanted != tts.gpt_path:
        tts.language_model.gpt.to("cpu")  # makes room on a GPU
        config = tts.folder.config.gpt
        take(tts, load_language_model(wanted, config, None, dtype=tts.dtype, device=tts.device))
        tts.gpt_path = wanted
    if tuned.lora_path is not None:
        adapter = tts.load_lora(tuned.lora_path, scale)
        effect = adapter_effect(tts.language_model.gpt)
        return (
            f"{tuned}: rank {adapter.rank}, {adapter.n_layers} matrices, scale {scale:g}, "
            f"moves the logits by up to {effect:.3g}, sha256 {adapter.sha256[:12]}"
        )
    if tts.language_model.adapter is not None:
        gpt = tts.language_model.gpt
        detach(gpt)
        mark = gpt.file_fingerprint or fingerprint(gpt)
        take(tts, LanguageModel(gpt, None, 1.0, mark))
    return f"{tuned}: weights {tts.gpt_path}, fingerprint {tts.language_model.fingerprint[:12]}"


def take(tts: IndexTTS2, model: LanguageModel) -> None:
    tts.language_model = model
    tts.synthesizer.speak_with(model.gpt)


def speak_all(
    tts: IndexTTS2,
    models: Sequence[Tuned],
    said: Sequence[Line],
    folder: Path,
    *,
    voice: SpeakerEmbeddings | None = None,
    recording: Path | None = None,
    scale: float = 1.0,
    pattern_scale: float = 1.0,
    stamp: str = "",
    **settings: Any,
) -> Iterator[ModelSpoken]:
    """Each model's reading of all lines, as wave files.

    Args:
        voice: a stored voice, or else `recording`; the same for every model
        scale, pattern_scale: strength of an adapter, and of a pattern
        stamp: what the files' names begin with
        settings: fields of `SpeechConfig` and `DecodingConfig`

    Raises:
        UserError: if a line can't be spoken or a model can't be read
    """
    # Marks such as [UM] are read as a pattern's training read them, if one speaks.
    as_read = readable if any(tuned.pattern_path for tuned in models) else str
    told = {"speaker_embeddings": voice, **settings}
    requests = [tts.request(recording, as_read(x.text), seed=x.seed, **told) for x in said]
    for tuned in models:
        label = LABELS[tuned.kind]
        description = speak_by(tts, tuned, scale, pattern_scale=pattern_scale)
        log.info("%s  %s", label, description)
        spoken = []
        for number, (line, request) in enumerate(zip(said, requests, strict=True), start=1):
            began = time.monotonic()
            speech = tts.speak(request, lambda *_: None)
            path = folder / file_name(stamp, label, line, said)
            record = write_speech(path, line.text, speech)
            one = Spoken(label, line, path, record, _decibels(speech.samples))
            spoken.append(one)
            log.info(
                "%s  %d/%d  %.1f s of sound in %.1f s  %s",
                *(label, number, len(said), speech.duration, time.monotonic() - began, path.name),
            )
        yield ModelSpoken(tuned, description, spoken)


def write_summary(
    path: Path, title: str, voice: str, models: Sequence[ModelSpoken], findings: Sequence[str] = ()
) -> None:
    """What was spoken, by what, where it is, and what was noticed, to be read in an editor."""
    rows = [title, "", f"Voice: {voice}", "Models:"]
    rows += [f"  {LABELS[one.tuned.kind]:<12} {one.description}" for one in models]
    for spoken in zip(*(one.spoken for one in models), strict=True):
        line = spoken[0].line
        own = ", the speaker's own recording of it was held out" if line.is_held_out else ""
        rows += ["", f'Text {line.number}, seed {line.seed}{own}: "{line.text}"']
        rows += [_row(one) for one in spoken]
    rows += ["", *(found for found in (*noticed(models), *findings))]
    with atomic(path) as draft:
        draft.write_text("\n".join(rows).rstrip() + "\n", encoding="utf-8")


def noticed(models: Sequence[ModelSpoken]) -> list[str]:
    """What is wrong on the face of it: silence, readings cut short, models that sound the same."""
    found = []
    for one in models:
        silent = [spoken.path.name for spoken in one.spoken if spoken.loudness < SILENT]
        cut = [spoken.path.name for spoken in one.spoken if not spoken.record["is_complete"]]
        if silent:
            found.append(f"{one.tuned.kind}: {len(silent)} are silent, {silent[0]} first")
        if cut:
            found.append(f"{one.tuned.kind}: {len(cut)} found no end, {cut[0]} first")
    base = models[0]
    for one in models[1:]:
        pairs = zip(base.spoken, one.spoken, strict=True)
        same = sum(a.record["sha256"] == b.record["sha256"] for a, b in pairs)
        if same:
            what = f"{same} of {len(one.spoken)} sound exactly as by the {base.tuned.kind} model"
            found.append(f"{one.tuned.kind}: {what}")
    return found


def own_texts(real: Sequence[Utterance], n_texts: int, language: str) -> tuple[list[str], int]:
    """What to say if nothing is asked for: what was held out, then sentences of ours in English.

    Returns:
        texts, and how many of them were held out

    Raises:
        UserError: if there is nothing to say in that language
    """
    is_english = language.partition("-")[0].lower() == "en"
    most = max(1, n_texts - 2) if is_english else n_texts
    texts = list(dict.fromkeys(one.text for one in real if one.text))[:most]
    n_own = len(texts)
    if is_english:
        texts += [text for text in SENTENCES if text not in texts][: max(0, n_texts - n_own)]
    if not texts:
        raise UserError(f"nothing to say in '{language}'", fix='--text "..."')
    return texts, n_own


def _row(spoken: Spoken) -> str:
    seconds = f"{spoken.record['duration']:6.2f} s"
    return f"  {spoken.label:<12} {seconds}  {spoken.loudness:6.1f} dB  {spoken.path.name}"


def _decibels(samples: np.ndarray) -> float:
    if not len(samples):
        return -120.0
    power = float(np.mean((samples / 32768.0) ** 2))
    return round(10 * np.log10(max(power, 1e-12)), 1)
