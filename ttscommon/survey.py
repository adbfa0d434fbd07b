"""What exists for a speaker: recordings, trained things, their best scores, the last run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ttscommon.audio import duration, find_audio
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_manifest
from ttscommon.workspace import ADAPTER_FILE, Speaker, SystemFolder

EVALUATION = "voxtune.evaluation"
# Of what was measured, these say most; all of them are better when lower.
TELLING = ("wer", "cer", "mel_dtw", "mel_l1", "loss")


@dataclass(frozen=True)
class Trained:
    """One thing that was made for a speaker.

    Attributes:
        system: "lewm", "indextts2" ...
        what: "voice", "stored voice", "unfinished predictor" ...
        step: training steps behind it
        scores: what was measured when it was saved
        when: of its newest file, in seconds since 1970
        trouble: why it can't be read
    """

    system: str
    what: str
    folder: Path
    when: float
    step: int | None = None
    scores: Mapping[str, float] | None = None
    trouble: str | None = None

    @property
    def best_score(self) -> tuple[str, float] | None:
        """The name and value of the most telling score."""
        scores = self.scores or {}
        name = next((name for name in (*TELLING, *sorted(scores)) if name in scores), None)
        return (name, scores[name]) if name is not None else None


@dataclass(frozen=True)
class Evaluated:
    """How one condition did in an evaluation.

    Attributes:
        condition: "base", "tuned", "lora" ...
        guard_rails: "passed", "failed", "not shown", or empty for the base and real recordings
    """

    condition: str
    path: Path
    when: float
    scores: Mapping[str, float]
    guard_rails: str = ""


@dataclass(frozen=True)
class Survey:
    """All about one speaker.

    Attributes:
        minutes: of recordings that can be read
        unreadable: how many can't
        prepared: minutes of clips that each system has features of
        n_outputs: sound files that were generated
        last_run: when something was last prepared, trained, spoken or judged; None if never
        evaluated: the latest scores of each condition that was ever evaluated
        unreadable_evaluations: (path, why)
    """

    speaker: str
    n_recordings: int
    minutes: float
    unreadable: int
    prepared: Mapping[str, float]
    trained: tuple[Trained, ...]
    n_outputs: int
    last_run: float | None
    evaluated: tuple[Evaluated, ...] = ()
    unreadable_evaluations: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        trained = [
            {**asdict(thing), "folder": str(thing.folder), "when": moment(thing.when)}
            for thing in self.trained
        ]
        evaluated = [
            {**asdict(one), "path": str(one.path), "when": moment(one.when)}
            for one in self.evaluated
        ]
        known = {"trained": trained, "evaluated": evaluated, "last_run": moment(self.last_run)}
        return {**asdict(self), **known}


def survey(speaker: Speaker) -> Survey:
    """Look through a speaker's folder; headers and JSON files are read, no sound and no weights."""
    recordings = find_audio(speaker.audio) if speaker.audio.is_dir() else []
    lengths = [_seconds(path) for path in recordings]
    outputs = find_audio(speaker.outputs) if speaker.outputs.is_dir() else []
    prepared = {name: _minutes(system) for name, system in speaker.systems.items()}
    trained = tuple(_trained(speaker))
    homes = [*speaker.systems.values(), *_indextts2(speaker).values()]
    logs = [path for system in homes for path in _files(system.logs)]
    manifests = [system.manifest for system in speaker.systems.values()]
    evaluated, broken = _evaluated(speaker)
    times = [_time(path) for path in (*outputs, *logs, *manifests) if path.is_file()]
    return Survey(
        speaker.name,
        len(recordings),
        sum(seconds for seconds in lengths if seconds is not None) / 60,
        lengths.count(None),
        {name: minutes for name, minutes in prepared.items() if minutes is not None},
        trained,
        len(outputs),
        max([*times, *(one.when for one in (*trained, *evaluated))], default=None),
        evaluated,
        broken,
    )


def moment(when: float | None) -> str | None:
    """A time as people and sorting programs read it, on this machine's clock."""
    return None if when is None else f"{datetime.fromtimestamp(when):%Y-%m-%d %H:%M}"


def _trained(speaker: Speaker) -> Iterator[Trained]:
    stored = speaker.speaker_embeddings
    if stored.is_file():
        yield Trained("indextts2", "stored voice", stored, _time(stored))
    for what, system in (("LoRA", speaker.lora), ("pattern", speaker.pattern_training)):
        for which, folder in (
            ("", system.best_checkpoint),
            ("best by ear ", system.best_audio),
            ("last ", system.final_checkpoint),
        ):
            if files := _files(folder):
                yield _adapter("indextts2", which + what, folder, max(map(_time, files)))
    tuned = speaker.finetune
    for what, path in (
        ("fine-tuned", tuned.best_model),
        ("best by ear fine-tuned", tuned.best_audio.with_suffix(".pth")),
        ("last fine-tuned", tuned.latest),
    ):
        if path.is_file():
            yield _described("indextts2", what, path, path.with_suffix(".json"), _time(path))
    for what, system in _indextts2(speaker).items():
        for path in sorted(system.run("").glob("*/state/state.json")):
            run = _unfinished("indextts2", path)
            if run is not None:
                yield replace(run, what=f"unfinished {what}")
    for name, system in speaker.systems.items():
        for folder, what in ((system.best_checkpoint, "voice"), (system.final_checkpoint, "last")):
            if files := _files(folder):
                when = max(map(_time, files))
                if (folder / ADAPTER_FILE).is_file():
                    yield _adapter(name, "LoRA" if what == "voice" else "last LoRA", folder, when)
                else:
                    yield _checkpoint(name, what, folder, when)
        for path in sorted(system.run("").glob("*/state/state.json")):
            run = _unfinished(name, path)
            if run is not None:
                yield run


def _evaluated(speaker: Speaker) -> tuple[tuple[Evaluated, ...], tuple[tuple[str, str], ...]]:
    """The latest scores by condition, from the evaluation and the comparisons of models."""
    paths = [*speaker.evaluation.glob("*.json"), *speaker.comparison.glob("*_evaluation.json")]
    latest: dict[str, Evaluated] = {}
    broken = []
    for path in sorted(paths, key=_time):
        try:
            data = read_json(path, format=EVALUATION)
            rails = [(rail["condition"], rail["status"]) for rail in data["guard_rails"]]
            for name, scores in data["scores"].items():
                values = _numbers({key: score["value"] for key, score in scores.items()})
                kept = _kept([status for condition, status in rails if condition == name])
                latest[name] = Evaluated(name, path, _time(path), values, kept)
        except (UserError, LookupError, TypeError, AttributeError) as error:
            broken.append((str(path), str(error)))
    return tuple(latest.values()), tuple(broken)


def _kept(statuses: list[str]) -> str:
    if not statuses:
        return ""
    return next((word for word in ("failed", "passed") if word in statuses), "not shown")


def _checkpoint(system: str, what: str, folder: Path, when: float) -> Trained:
    path = folder / "config.json"
    if not path.is_file():
        return Trained(system, what, folder, when)
    try:
        info = read_json(path).get("info", {})
        return Trained(system, what, folder, when, info.get("step"), _numbers(info.get("metrics")))
    except (UserError, AttributeError) as error:  # AttributeError: another kind of JSON
        return Trained(system, what, folder, when, trouble=str(error))


def _indextts2(speaker: Speaker) -> dict[str, SystemFolder]:
    return {
        "LoRA": speaker.lora,
        "fine-tuning": speaker.finetune,
        "pattern": speaker.pattern_training,
    }


def _adapter(system: str, what: str, folder: Path, when: float) -> Trained:
    return _described(system, what, folder, folder / "training_metadata.json", when)


def _described(system: str, what: str, place: Path, metadata: Path, when: float) -> Trained:
    """Something with a file about it, which needn't be there."""
    if not metadata.is_file():
        return Trained(system, what, place, when)
    try:
        data = read_json(metadata)
        step = data.get("step")
        return Trained(system, what, place, when, step, _numbers(data.get("metrics")))
    except (UserError, AttributeError) as error:  # AttributeError: another kind of JSON
        return Trained(system, what, place, when, trouble=str(error))


def _unfinished(system: str, path: Path) -> Trained | None:
    """A stopped run that can be gone on with."""
    folder = path.parent
    what = f"unfinished {folder.parent.name}"
    try:
        state = read_json(path, format="ttscommon.state")
    except UserError as error:
        return Trained(system, what, folder, _time(path), trouble=str(error))
    if state.get("finished", True):
        return None
    scores = _numbers(state.get("metrics"))
    return Trained(system, what, folder, _time(path), state.get("step"), scores)


def _numbers(found: Any) -> dict[str, float]:
    """The numbers among what was measured."""
    if not isinstance(found, Mapping):
        return {}
    kinds = (int, float)
    items = ((str(k), v) for k, v in found.items() if isinstance(v, kinds))
    return {name: float(value) for name, value in items if math.isfinite(value)}


def _minutes(system: SystemFolder) -> float | None:
    if not system.manifest.is_file():
        return None
    try:
        return sum(clip.duration for clip in read_manifest(system.manifest)) / 60
    except UserError:
        return None


def _seconds(path: Path) -> float | None:
    try:
        return duration(path)
    except UserError:
        return None


def _files(folder: Path) -> Iterable[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _time(path: Path) -> float:
    return path.stat().st_mtime
