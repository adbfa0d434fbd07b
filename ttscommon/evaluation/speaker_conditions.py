"""What a speaker's folder holds to compare: recordings, outputs, numbered comparisons."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

from ttscommon.audio import find_audio
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import Utterance, find_utterances, pair
from ttscommon.evaluation.evaluate import read_evaluation
from ttscommon.evaluation.likeness import FEWEST_RECORDINGS
from ttscommon.exclusions import read_exclusions, usable_clips
from ttscommon.records import read_kept
from ttscommon.transcripts import clip_texts
from ttscommon.workspace import VALIDATION_MANIFEST, Speaker

log = logging.getLogger(__name__)

REAL = "real"
# tools/compare_models.py: <when>_1_base_<text>.wav, <when>_2_lora_..., <when>_3_finetuned_...
_NUMBERED = re.compile(r"^(?P<when>.+?)_[1-9]_(?P<name>[^\W\d_][^\W_]*)_(?P<said>.+)$")
_SEED = re.compile(r"_seed(\d+)$")
_TEXT_LINE = re.compile(r"^\s*text\s*:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)


def find_conditions(
    speaker: Speaker, *, texts: Path | None = None, base: str | None = None
) -> dict[str, list[Utterance]]:
    """The recordings as "real", each folder of outputs by its name, and what models were compared.

    A condition that has no text in common with the base is left out, with a warning.

    Args:
        texts: a table for every condition; by default what each folder holds
        base: which condition is the base; by default "base", else the first

    Raises:
        UserError: if there are no recordings, or texts that fit none of their files
    """
    found = {REAL: find_recordings(speaker, texts)}
    folders = sorted(p for p in _children(speaker.outputs) if p != speaker.comparison)
    for folder in folders:
        found[folder.name] = find_utterances(folder, texts)
    if speaker.comparison.is_dir():
        for name, utterances in find_comparison(speaker.comparison, texts).items():
            found[name] = [*found.get(name, []), *utterances]
    names = [name for name in found if name != REAL]
    if not names:
        return found
    first = base or ("base" if "base" in names else names[0])
    for name in names:
        if name != first and not pair(found.get(first, []), found[name]):
            log.warning("left out %s: it has no text in common with %s", name, first)
            del found[name]
    return found


def find_recordings(speaker: Speaker, texts: Path | None = None) -> list[Utterance]:
    """The speaker's clips, or recordings where none were cut, with their texts.

    Of a speaker that was prepared for training, those that were held out, if they are enough to
    know a manner by; what was trained on is told by heart more easily than spoken.
    """
    folder = speaker.clips_folder
    if texts is not None or not folder.is_dir():
        return find_utterances(folder, texts)
    known = clip_texts(speaker)
    paths = usable_clips(speaker)
    if not paths:
        why = read_exclusions(folder).remark()
        raise UserError(f"no recordings in the folder{why}", where=folder)
    held_out = _held_out(speaker)
    kept = [path for path in paths if path.resolve() in held_out]
    if len(kept) >= FEWEST_RECORDINGS:
        log.info("real: the %d of %d recordings that were held out", len(kept), len(paths))
        paths = kept
    elif held_out:
        log.warning(
            "real: all %d recordings, most of which were trained on, as only %d were held out",
            *(len(paths), len(kept)),
        )
    return [
        Utterance(path, known.get(path.relative_to(folder).as_posix()), None, path.stem)
        for path in paths
    ]


def _held_out(speaker: Speaker) -> set[Path]:
    """The recordings that no training has seen, as preparation chose them."""
    manifest = speaker.processed / VALIDATION_MANIFEST
    if not manifest.is_file():
        return set()
    lines = [line for line in read_kept(manifest) if "audio_path" in line]
    return {(manifest.parent / line["audio_path"]).resolve() for line in lines}


def find_comparison(folder: Path, texts: Path | None = None) -> dict[str, list[Utterance]]:
    """The conditions of numbered files such as `20260102_0304_2_lora_hello-there.wav`.

    The text is that of a table (`texts`, or a transcripts.csv in the folder), of an evaluation
    that lies there, or of the only "Text:" line in the run's summary; else only the file's name
    says what belongs together.
    """
    if not find_audio(folder):
        return {}
    conditions: dict[str, list[Utterance]] = {}
    known = _written_texts(folder)
    for one in sorted(find_utterances(folder, texts), key=lambda one: one.path):
        found = _NUMBERED.match(one.path.stem)
        if found is None:
            log.warning("left out %s: its name has no number and model", one.path)
            continue
        said = _SEED.sub("", found["said"])
        text = one.text or known.get(one.path.name)
        text = text or _text_of_summary(folder, found["when"])
        # Without a text the name decides what is compared; with it, the text does.
        utterance = replace(one, text=text, id=said if text else f"{found['when']} {said}")
        conditions.setdefault(found["name"], []).append(utterance)
    return conditions


def _written_texts(folder: Path) -> dict[str, str]:
    """{file name: text} of the evaluations that lie beside the sounds."""
    known: dict[str, str] = {}
    for path in sorted(folder.glob("*_evaluation.json")):
        try:
            results = read_evaluation(path).results
        except UserError as error:
            log.warning("%s", error)
            continue
        known |= {Path(one.path).name: one.text for one in results if one.text}
    return known


def _text_of_summary(folder: Path, when: str) -> str | None:
    summary = folder / f"{when}_comparison_summary.txt"
    if not summary.is_file():
        return None
    told = set(_TEXT_LINE.findall(summary.read_text(encoding="utf-8", errors="replace")))
    return told.pop() if len(told) == 1 else None


def _children(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones apart."""
    if not folder.is_dir():
        return []
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
