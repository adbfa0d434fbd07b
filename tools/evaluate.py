"""Did it help? Compare folders of speech: words, voice, quality, pauses, faults; with intervals.

Each condition is NAME=FOLDER; "base" is what others are compared with, "real" are recordings of the
speaker. Utterances are paired by text and seed ("seed3" in a file's name or folder). Texts come
from a transcripts.csv in each folder, or from --texts for all. --speaker takes the recordings, each
folder in outputs/ and the numbered files of compare_models. A run that was stopped goes on where it
was. Exit code 3: a condition is significantly worse than the base in a guard rail.

Example: python tools/evaluate.py base=out/base tuned=out/tuned real=out/real --texts texts.csv
Example: python tools/evaluate.py --speaker ozzy --whisper-model tiny.en
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import (
    Parser,
    add_device,
    add_measuring,
    add_overwrite,
    add_training_root,
    named_folders,
    run,
)
from ttscommon.errors import UserError
from ttscommon.evaluation import EXIT_WORSE, KEPT
from ttscommon.outputs import require_new, require_writable
from ttscommon.workspace import Speaker


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, measuring, output, machine = map(
        parser.add_argument_group, ("data", "measuring", "output", "machine")
    )
    data.add_argument("conditions", nargs="*", metavar="NAME=FOLDER", help="what to compare")
    data.add_argument("--texts", type=Path, help="table of audio_path,text for every condition")
    data.add_argument(
        "--speaker", help="folder name under training/: its recordings and all its outputs"
    )
    add_training_root(data)
    data.add_argument("--base", metavar="NAME", help="the condition others are compared with")
    data.add_argument("--real", metavar="NAME", help="the condition of real recordings")
    add_measuring(measuring)
    output.add_argument(
        "--output-dir", type=Path, help="for evaluation.json, .csv and .html (default: evaluation)"
    )
    output.add_argument(
        "--max-clips", type=int, default=60, help="on the page; 0 writes none (numbers: all clips)"
    )
    add_overwrite(output)
    add_device(machine)
    machine.add_argument("--n-processes", type=int, default=1, help="files measured at a time")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse(argv)
    if bool(args.conditions) == bool(args.speaker):
        parser.error("give conditions (base=FOLDER tuned=FOLDER) or --speaker")
    folders = {} if args.speaker else named_folders(parser, args.conditions)
    if not args.speaker:
        _require_two(folders)
    folder = _output_folder(args)
    path = folder / "evaluation.json"
    page = path.with_suffix(".html")
    require_new([path, path.with_suffix(".csv"), page], overwrite=args.overwrite)
    require_writable(path)
    evaluation = _evaluate(args, _conditions(args, folders), folder / KEPT)
    evaluation.write(path)
    _report(evaluation)
    if args.max_clips > 0:
        _write_page(evaluation, page, args)
        print(f"Listen: {page}")
    print(f"Saved {path} and {path.with_suffix('.csv').name}")
    return EXIT_WORSE if evaluation.failures else 0


def _report(evaluation: Any) -> None:
    from ttscommon.evaluation.pages import findings

    for line in table(evaluation):
        print(line)
    for metric, why in evaluation.absent.items():
        print(f"not measured: {metric}: {why}")
    for rail in evaluation.guard_rails:
        change = evaluation.differences[rail.condition][rail.metric]
        if rail.status != "passed":
            print(f"guard rail {rail.status}: {rail.condition} {rail.metric} {change}")
    for finding in findings(evaluation):
        print(finding.text)


def _write_page(evaluation: Any, path: Path, args: argparse.Namespace) -> None:
    from ttscommon.evaluation.pages import TITLE, write_report

    title = f"{TITLE} {args.speaker}" if args.speaker else TITLE
    language = args.language or "en"
    write_report(evaluation, path, title=title, language=language, most_clips=args.max_clips)


def table(evaluation: Any) -> list[str]:
    """A line for each metric: every condition's value, and its change from the base."""
    names = list(evaluation.scores)
    metrics = sorted({metric for scores in evaluation.scores.values() for metric in scores})
    rows = [["metric", *names, *(f"{name} - {evaluation.base}" for name in evaluation.differences)]]
    for metric in metrics:
        cells = [evaluation.scores[name].get(metric) for name in names]
        cells += [found.get(metric) for found in evaluation.differences.values()]
        rows.append([metric, *("-" if cell is None else str(cell) for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _conditions(args: argparse.Namespace, folders: Mapping[str, Path]) -> Mapping[str, Any]:
    """The utterances of each condition."""
    from ttscommon.evaluation.conditions import find_utterances
    from ttscommon.evaluation.speaker_conditions import find_conditions

    if not args.speaker:
        return {name: find_utterances(where, args.texts) for name, where in folders.items()}
    speaker = Speaker(args.speaker, args.training_root)
    if not speaker.folder.is_dir():
        raise UserError(
            "no such speaker", where=speaker.folder, fix="python tools/list_speakers.py"
        )
    found = find_conditions(speaker, texts=args.texts, base=args.base)
    _require_two(found)
    return found


def _require_two(conditions: Mapping[str, Any]) -> None:
    if len(conditions) < 2:
        raise UserError(
            f"one condition alone ({', '.join(conditions) or 'none'}) compares with nothing",
            fix="give two or more: base=FOLDER tuned=FOLDER",
        )


def _evaluate(args: argparse.Namespace, conditions: Mapping[str, Any], cache: Path) -> Any:
    from ttscommon.evaluation.evaluate import choose_roles, evaluate
    from ttscommon.evaluation.measuring import load_instruments

    choose_roles(conditions, args.base, args.real)  # before a model is loaded for nothing
    instruments = load_instruments(
        args.whisper_model,
        language=args.language or "en",
        device=args.device,
        speaker_encoder=args.speaker_encoder,
    )
    try:
        return evaluate(
            conditions,
            instruments,
            base=args.base,
            real=args.real,
            cache=cache,
            n_processes=args.n_processes,
        )
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop


def _output_folder(args: argparse.Namespace) -> Path:
    if args.output_dir or not args.speaker:
        return args.output_dir or Path("evaluation")
    return Speaker(args.speaker, args.training_root).evaluation


if __name__ == "__main__":
    run(main)
