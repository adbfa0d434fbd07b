"""What an evaluation leaves: a table as a data set, as JSON and CSV, and a page to listen to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset

from kani.sources import save
from ttscommon.evaluation.evaluate import Evaluation
from ttscommon.evaluation.pages import write_report
from ttscommon.evaluation.ranking import OVERALL, OVERALL_MEANING, Rank, Ranking
from ttscommon.files import atomic_folder, read_json, write_json
from ttscommon.listening.page import Finding

RANKING, FORMAT = "ranking.json", "kani.ranking"
EVALUATION, PAGE, DATASET = "evaluation.json", "evaluation.html", "dataset"
TITLE = "Which experiment speaks best?"
# Of each clip in the data set, and of each model in the table.
METRICS = ("wer", "fluent_wer", "cer", "similarity", "similarity_wavlm", "dnsmos")
METRICS += ("duration_ratio", "length_ratio", "invalid_frames", "failures")


@dataclass(frozen=True)
class Ranked:
    """Models, the best first.

    Attributes:
        mark: changes with everything that was judged, and how
        settings: of each model, everything that it follows from
        troubles: {model: why it isn't judged}
        notes: {metric: why it wasn't measured}
    """

    mark: str
    ranking: Ranking
    evaluation: Evaluation
    settings: Mapping[str, Mapping[str, Any]]
    troubles: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def absent(self) -> dict[str, str]:
        return {**self.evaluation.absent, **self.notes}

    def rows(self) -> list[dict[str, object]]:
        """A line for each model: its place, and every number with its interval."""
        return [self._row(one) for one in self.ranking.ranks]

    def _row(self, one: Rank) -> dict[str, object]:
        row: dict[str, object] = {"rank": one.places, "model": one.condition}
        row[self.ranking.metric] = str(one.score)
        scores = self.evaluation.scores[one.condition]
        return row | {name: str(scores[name]) for name in METRICS if name in scores}

    def settings_rows(self) -> list[dict[str, object]]:
        """A line for each setting, with its value in each model; first those that differ."""
        flat = {
            one.condition: flattened(self.settings[one.condition]) for one in self.ranking.ranks
        }
        names = dict.fromkeys(name for values in flat.values() for name in values)
        trained = [values for values in flat.values() if len(values) > 1]
        alike = {n for n in names if len({repr(values.get(n)) for values in trained}) < 2}
        ordered = sorted(names, key=lambda name: name in alike)
        return [
            {"setting": name, **{model: values.get(name) for model, values in flat.items()}}
            for name in ordered
        ]


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """{"lora_args.r": 16} of {"lora_args": {"r": 16}}; lists as they are written in YAML."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        key = prefix + name.removeprefix("train_configuration")
        if isinstance(value, Mapping):
            found |= flattened(value, f"{key}." if key else "")
        else:
            found[key] = json.dumps(value) if isinstance(value, list | tuple) else value
    return found


def write_outputs(
    folder: Path,
    ranked: Ranked,
    sentences: Mapping[Path, str],
    *,
    language: str,
    most_clips: int,
) -> None:
    """Write everything; `ranking.json` last, so that it stands for the rest.

    Args:
        sentences: what was written in the file of sentences for each clip
        most_clips: on the page; 0 writes none
    """
    ranked.evaluation.write(folder / EVALUATION)
    with atomic_folder(folder / DATASET) as draft:
        save(_dataset(ranked, sentences), draft)
    if most_clips:
        _write_page(ranked, folder / PAGE, language, most_clips)
    told = {
        "format": FORMAT,
        "version": 1,
        "mark": ranked.mark,
        "ranking": ranked.ranking.to_dict(),
        "settings": ranked.settings,
        "not_judged": ranked.troubles,
        "not_measured": ranked.notes,
    }
    write_json(folder / RANKING, told)


def read_ranked(folder: Path) -> Mapping[str, Any] | None:
    """What `write_outputs` wrote last."""
    path = folder / RANKING
    return read_json(path, format=FORMAT) if path.is_file() else None


def _dataset(ranked: Ranked, sentences: Mapping[Path, str]) -> Dataset:
    """A row for each clip: the columns of the public pipeline, and what was measured."""
    rows = []
    for one in ranked.evaluation.results:
        path = Path(one.path)
        if path not in sentences:  # a recording
            continue
        settings, values = ranked.settings[one.condition], one.values
        base = settings["base_model"]
        trained = settings.get("train_configuration")
        rows.append(
            {
                "experiment_id": one.condition if trained else f"base_model: {base}",
                "train_configuration": json.dumps({"base_model": base, **(trained or {})}),
                "sentence_id": one.id,
                "sentence": sentences[path],
                "seed": one.seed,
                "audio": {"path": path.name, "bytes": path.read_bytes()},
                "heard": one.heard,
                "faults": "; ".join(one.faults),
                "seconds": one.seconds,
                **{name: values.get(name) for name in METRICS},
            }
        )
    return Dataset.from_list(rows).cast_column("audio", Audio())


def _write_page(ranked: Ranked, path: Path, language: str, most_clips: int) -> None:
    ranking = ranked.ranking
    meaning = f": {OVERALL_MEANING}" if ranking.metric == OVERALL else ""
    tables: dict[str, list[dict[str, object]]] = {
        f"Ranked by {ranking.metric}{meaning}. A rank like 1-3 can't be told from its "
        "neighbours by these sentences. Values with their 95 % intervals.": ranked.rows(),
        "Settings: first those in which experiments differ.": ranked.settings_rows(),
        "Not judged.": [{"model": n, "why": why} for n, why in ranked.troubles.items()],
        "Not measured, besides.": [{"metric": n, "why": why} for n, why in ranked.notes.items()],
    }
    write_report(
        ranked.evaluation,
        path,
        title=TITLE,
        language=language,
        most_clips=most_clips,
        first=[Finding("neither", sentence) for sentence in ranking.sentences()],
        tables={caption: rows for caption, rows in tables.items() if rows},
    )
