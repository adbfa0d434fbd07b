"""The demo: what a voice learns from a few minutes of recordings, as sounds, numbers and a page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lewm import inference
from lewm.alignment import measure_alignment
from lewm.config import PreprocessConfig, TrainConfig
from lewm.dataset import split_by_recording
from lewm.decoding import GenerationSettings
from lewm.embedded_voice import EMBEDDED_SPEAKER
from lewm.features import MANIFEST_FILE, FeatureStore
from lewm.generation import Request
from lewm.inference_engine import Engine, Speech
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.evaluation import KEPT, pages
from ttscommon.evaluation.conditions import find_utterances
from ttscommon.evaluation.evaluate import Evaluation, evaluate
from ttscommon.evaluation.measuring import load_instruments
from ttscommon.files import atomic
from ttscommon.manifest import Clip, read_manifest
from ttscommon.mel import log_mel
from ttscommon.metrics import mel_dtw
from ttscommon.progress import read_kept
from ttscommon.report import Report, alignment_figure, curve_figure
from ttscommon.workspace import Speaker

# The longest clip of the bundled set is 14 s; transcripts are all there, so nothing is fetched.
PREPARE = PreprocessConfig(max_seconds=15.0, transcribe="never", workers=1)
NEW_SENTENCES = (
    "Please call our glorious weasels before you leave the house.",
    "The train to the coast leaves at half past nine.",
    "I left my umbrella on the kitchen table again.",
    "Nobody told me that the museum is closed on Mondays.",
    "She planted tomatoes and beans behind the old garage.",
    "Would you like some more soup, or shall we have dessert?",
)
N_MEASURED = 4  # training clips that are measured; held-out ones all are
# Folders below outputs/: what is compared, and with what.
BASE, OTHERS, REAL = "copy", ("teacher_forced", "from_text"), "recording"
TUNED_FROM = "base"  # what is compared with, where a voice was tuned
CURVES = (("autoencoder", "mel_l1"), ("speaker", "mel_dtw"), ("predictor", "mel_dtw"))
N_SHOWN = 2  # training clips that can be heard; of the held-out ones one

LEAD = """
A `tiny` LeWM-TTS voice, trained from nothing but {n_clips} recordings ({seconds:.0f} seconds of one
person) in {autoencoder_steps} + {predictor_steps} steps.

So little speech is enough to copy a voice, not to read aloud with it. Expect the copies to be
clear, texts of the training set to come out more or less, and texts that were never heard to be
babble in the speaker's timbre. Reading needs hours of recordings and the `small` preset.
"""
TUNED_LEAD = """
The embedded voice, tuned on {n_clips} recordings ({seconds:.0f} seconds of one person, some of
them held out) in {autoencoder_steps} steps of its decoder, {speaker_steps} of the new voice's place
among its own and at most {predictor_steps} of its predictor.

It should have the person's timbre and still read any English text. What it lost or won against the
voice it was tuned from is in the evaluation beside this page.
"""
LISTEN = """
Each recording goes through the whole system one step further. `Copy`: encoded and decoded again,
the best this autoencoder can sound. `Teacher-forced`: each latent predicted from the true ones
before it. `From text`: nothing of the recording is used. `Base`, where there is one: the same text
by the voice that this one was tuned from. Waveforms by {vocoder}.
"""
MEASURED = """
`mel-DTW` is the mean difference of log-mels in nats along the cheapest warping path to the
recording; lower is nearer. `length` is generated / recorded length, `diagonality` the correlation
of the place in the text that was looked at with time; both are 1 in a perfect reading. Measured
over {n_training} clips of the training set and {n_held_out} held-out ones.
"""
ALIGNMENT = """
Which part of the text each frame looked at while it was spoken from text alone. A rising line means
that the text was read from beginning to end.
"""


@dataclass(frozen=True)
class Heard:
    """One version of one sentence, on disk."""

    label: str
    path: Path
    text: str
    log_mel: NDArray[np.float32]
    attention: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """What the trained voice did.

    Attributes:
        shown: (heading, versions of one sentence)
        table: one row of numbers per version, training and held-out texts apart
        is_tuned: there is a base to compare with
    """

    shown: list[tuple[str, list[Heard]]]
    table: list[dict[str, object]]
    n_training: int
    n_held_out: int
    vocoder: str
    is_tuned: bool


def bring_recordings(source: Path, speaker: Speaker) -> int:
    """Copy a folder of recordings and transcripts to the speaker's dataset; returns how many files
    were new.

    Raises:
        UserError: if `source` is no folder
    """
    if not source.is_dir():
        raise UserError("no recordings here", where=source)
    n_new = 0
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        target = speaker.dataset / path.relative_to(source)
        if target.is_file() and target.stat().st_size == path.stat().st_size:
            continue
        with atomic(target) as draft:
            shutil.copyfile(path, draft)
        n_new += 1
    return n_new


def speak(speaker: Speaker, config: TrainConfig, base: Path | None = None) -> Outcome:
    """Let the speaker's best checkpoint say training, held-out and new texts; write and measure.

    Args:
        base: the checkpoint it was tuned from, which says them as well
    """
    settings = GenerationSettings(keep_attention=True)
    engine = Engine(speaker.lewm.best_checkpoint, settings=settings)
    base_engine = Engine(base, settings=settings) if base else None
    store = FeatureStore(speaker.lewm.processed)
    clips = {clip.id: clip for clip in read_manifest(speaker.lewm.processed / MANIFEST_FILE)}
    training, held_out = split_by_recording(store, config.validation_share, config.seed)
    measured = {
        "training text": _spread(training, store.n_frames, N_MEASURED),
        "held-out text": _spread(held_out, store.n_frames, len(held_out)),
    }
    shown: list[tuple[str, list[Heard]]] = []
    table: list[dict[str, object]] = []
    for kind, items in measured.items():
        versions = [_versions(engine, base_engine, store, item) for item in items]
        table += _measures(kind, versions, [_mel_of(store, item) for item in items])
        n_shown = N_SHOWN if kind == "training text" else 1
        for number, (item, said) in enumerate(zip(items, versions, strict=True)):
            heading = f"{kind} {number + 1}"
            heard = _write(speaker, heading, clips[store.ids[item]], said, engine)
            if number % max(1, len(items) // n_shown) == 0:
                shown.append((heading, heard))
    new = NEW_SENTENCES if base_engine else NEW_SENTENCES[:1]
    for number, text in enumerate(new, 1):
        heading = f"new sentence {number}" if base_engine else "new sentence"
        said = _read(engine, base_engine, text)
        shown.append((heading, [_save(speaker, heading, *one) for one in _labelled(said, text)]))
    n_training, n_held_out = map(len, measured.values())
    is_tuned = base is not None
    return Outcome(shown, table, n_training, n_held_out, engine.vocoder.name, is_tuned)


def write_report(
    speaker: Speaker,
    config: TrainConfig,
    outcome: Outcome,
    commands: str,
) -> None:
    """The page at `training/<speaker>/report.html`."""
    store = FeatureStore(speaker.lewm.processed)
    report = Report(
        f"What a voice learns from {len(store)} recordings",
        (TUNED_LEAD if outcome.is_tuned else LEAD).format(
            n_clips=len(store),
            seconds=store.n_frames.sum() / store.recipe.frame_rate,
            autoencoder_steps=config.autoencoder_steps,
            speaker_steps=config.speaker_steps,
            predictor_steps=config.predictor_steps,
        ),
    )
    report.section("Listen", LISTEN.format(vocoder=outcome.vocoder))
    for heading, versions in outcome.shown:
        report.heading(heading.capitalize(), f"“{versions[0].text}”")
        for heard in versions:
            report.audio(heard.label, heard.path, heard.log_mel)
    counts = {"n_training": outcome.n_training, "n_held_out": outcome.n_held_out}
    report.section("Measured", MEASURED.format(**counts))
    report.table(outcome.table)
    report.section("Alignment", ALIGNMENT)
    for heading, versions in outcome.shown:
        said = versions[-1]
        if said.attention is not None:
            figure = alignment_figure(said.attention.numpy(), text=said.text)
            report.figure(figure, heading.capitalize())
    report.section("Training")
    for stage, value in CURVES:
        records = read_kept(speaker.lewm.logs / stage / "progress.jsonl")
        if records:
            report.figure(_curves(records, value), f"{stage}: training loss, held-out {value}")
    report.section("Next")
    report.code(commands)
    report.write(speaker.report)


def evaluate_outputs(
    speaker: Speaker, outcome: Outcome, whisper_model: str
) -> tuple[Evaluation, Path]:
    """Measure what `speak` wrote, as `tools/evaluate.py` does.

    Args:
        whisper_model: what hears the words; "none" leaves them out

    Returns:
        what was found, and the page at `training/<speaker>/evaluation/evaluation.html`
    """
    tuned = (TUNED_FROM, "from_text", BASE, REAL)
    names = tuned if outcome.is_tuned else (BASE, *OTHERS, REAL)
    found = evaluate(
        {name: find_utterances(speaker.outputs / name) for name in names},
        load_instruments(whisper_model, language="en", device="auto"),
        base=names[0],
        real=REAL,
        cache=speaker.evaluation / KEPT,
    )
    path = speaker.evaluation / "evaluation.json"
    found.write(path)
    page = path.with_suffix(".html")
    pages.write_report(found, page, title=f"{pages.TITLE} {speaker.name}")
    return found, page


def _versions(
    engine: Engine, base: Engine | None, store: FeatureStore, item: int
) -> dict[str, Speech]:
    """A clip copied, predicted with its true past, and spoken from its text; by the base, too."""
    mel, text = torch.from_numpy(_mel_of(store, item)), store.texts[item]
    return {
        "Copy": inference.reconstruct(engine, mel),
        "Teacher-forced": inference.predict(engine, mel, Request(text=text)),
        **_read(engine, base, text),
    }


def _read(engine: Engine, base: Engine | None, text: str) -> dict[str, Speech]:
    """A text spoken by the voice, and by the one it was tuned from."""
    said = {"From text": inference.synthesize(engine, Request(text=text))}
    if base is not None:
        voice = base.voice(None, EMBEDDED_SPEAKER)
        said["Base"] = inference.synthesize(base, Request(text=text, speaker=voice))
    return said


def _labelled(said: dict[str, Speech], text: str) -> list[tuple[str, str, Speech]]:
    return [(label, text, speech) for label, speech in said.items()]


def _measures(
    kind: str, versions: Sequence[dict[str, Speech]], originals: Sequence[NDArray]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for label in versions[0]:
        said = [version[label] for version in versions]
        pairs = list(zip(said, originals, strict=True))
        row: dict[str, object] = {
            "what": f"{label}, {kind}",
            "mel-DTW": _mean(lambda s, mel: mel_dtw(s.log_mel.numpy(), mel), pairs),
        }
        if label in ("From text", "Base"):
            maps = [part.attention for s in said for part in s.parts if part.attention is not None]
            row["length"] = _mean(lambda s, mel: s.log_mel.shape[1] / mel.shape[1], pairs)
            row["diagonality"] = float(np.mean([measure_alignment(m).diagonality for m in maps]))
            row["no end found"] = sum(s.ran_away for s in said)
        rows.append(row)
    return rows


def _mean(
    measure: Callable[[Speech, NDArray], float], pairs: Sequence[tuple[Speech, NDArray]]
) -> float:
    return float(np.mean([measure(*pair) for pair in pairs]))


def _write(
    speaker: Speaker, heading: str, clip: Clip, said: dict[str, Speech], engine: Engine
) -> list[Heard]:
    """The recording and its versions as wave files."""
    rate = engine.recipe.sample_rate
    source = speaker.folder / clip.audio
    sound = audio.load(source, rate, start=clip.start, end=clip.start + clip.duration)
    sound = audio.normalize_loudness(sound, rate, PREPARE.loudness)
    mel = log_mel(torch.from_numpy(sound), engine.recipe)
    recording = Speech(sound, rate, mel, ran_away=False, seconds={}, parts=[])
    versions = {"Recording": recording, **said}
    return [_save(speaker, heading, *one) for one in _labelled(versions, clip.text)]


def _save(speaker: Speaker, heading: str, label: str, text: str, speech: Speech) -> Heard:
    """A folder for each version, as `tools/evaluate.py` compares them; the words lie beside."""
    folder, name = (words.lower().replace(" ", "_").replace("-", "_") for words in (label, heading))
    path = speaker.outputs / folder / f"{name}.wav"
    audio.save(path, speech.audio, speech.sample_rate)
    with atomic(path.with_suffix(".txt")) as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    attention = speech.parts[0].attention if len(speech.parts) == 1 else None
    return Heard(label, path, text, speech.log_mel.float().numpy(), attention)


def _mel_of(store: FeatureStore, item: int) -> NDArray[np.float32]:
    return store[item].mel.astype(np.float32)


def _spread(items: Sequence[int], n_frames: NDArray, n: int) -> list[int]:
    """n of the items, spread evenly over their lengths."""
    by_length = sorted(items, key=lambda i: (int(n_frames[i]), i))
    chosen = np.linspace(0, len(by_length) - 1, min(n, len(by_length))).round().astype(int)
    return [by_length[i] for i in chosen]


def _curves(records: Sequence[dict[str, Any]], value: str) -> Figure:
    curves = {
        f"{group} {name}": [
            (r["step"], r[name]) for r in records if name in r and r["group"] == group
        ]
        for group, name in (("train", "loss"), ("val", value))
    }
    return curve_figure(curves, is_log=True)
