"""Does a pattern carry a person's habits to new text and new prompts? In a language of codes.

Two people are learned whose habits the base has never met, each by the same training that
recordings go through. Then base, patterns and real people say the same held-out texts, prompted in
a timbre that isn't theirs. What is said is counted exactly, so nothing stands between the claim and
its test. Beside our training stand plain cross-entropy, and the public trainer's loss and joint
training. Stopped, it goes on where it was.

Example: python examples/pattern_experiment/experiment.py --seeds 3
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import write_json

OUTPUT = Path("training/pattern_experiment")
RESULTS, FORMAT, VERSION = "results.json", "voxtune.pattern_experiment", 1
SHOWN = ("pause_rate", "pause_duration", "pause_placement", "filler_rate", "mean")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--base", type=Path, help="file that base.py wrote; default: the stored")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder")
    parser.add_argument("--steps", type=int, default=120, help="of each training")
    parser.add_argument("--texts", type=int, default=200, help="new texts to say")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each kind")
    parser.add_argument("--ways", nargs="+", metavar="NAME", help="of training; default: all")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    from examples.pattern_experiment.base import SEED
    from examples.pattern_experiment.trials import (
        OTHER,
        STORED_BASE,
        TARGETS,
        WAYS,
        Trials,
        unpacked,
    )
    from examples.pattern_experiment.world import World

    ways = args.ways or list(WAYS)
    if unknown := [way for way in ways if way not in WAYS]:
        raise UserError(f"there is no way '{unknown[0]}'", fix=f"one of {', '.join(WAYS)}")
    world = World.made(SEED)
    base = args.base or unpacked(world, STORED_BASE, args.output / "base.pth")
    trials = Trials(world, base, args.output, args.steps, args.texts)
    for target in TARGETS:
        scores, errors = trials.prompted(target)
        cells = [f"{name} {scores[name]}" for name in SHOWN if name in scores]
        print(f"Base, prompted by '{target}': {', '.join(cells)}, WER {errors:.1%}", flush=True)
    found = _known(args.output / RESULTS, setting := trials.setting())
    for seed in range(args.seeds):
        for way in ways:
            if all((way, target, seed) in found for target in TARGETS):
                continue
            trained = {target: trials.learn(way, target, seed) for target in TARGETS}
            for target in TARGETS:
                other = trained[OTHER[target]]
                outcome = trials.compare(way, target, trained[target], other, seed)
                found[way, target, seed] = outcome.to_dict()
                print("\n".join(lines(found[way, target, seed])), flush=True)
            told = {"format": FORMAT, "version": VERSION, "setting": setting}
            write_json(args.output / RESULTS, {**told, "outcomes": list(found.values())})
    print("\n".join(table(list(found.values()))))


def lines(outcome: Mapping[str, Any]) -> Iterator[str]:
    """What one training did: transfer scores, 0 as the base and 1 as the person, in 95 %."""
    result, errors = outcome["result"], outcome["word_errors"]
    yield f"{outcome['way']}, target '{outcome['target']}', seed {outcome['seed']}"
    yield "  ".join([f"{'':6}", *(f"{name:>19}" for name in SHOWN), "   WER"])
    for condition, scores in result["transfer"].items():
        cells = [_interval(scores[name]) if name in scores else "-" for name in SHOWN]
        row = [f"{condition:6}", *(f"{cell:>19}" for cell in cells), f"{errors[condition]:6.1%}"]
        yield "  ".join(row)
    yield f"WER of B0 {errors['B0']:.1%}"
    for claim in result["claims"]:
        yield f"{claim['name']}: {claim['status']} ({claim['reason']})"
    for name in SHOWN:
        if name in result["refused"]:
            yield f"{name}: no score, {result['refused'][name]}"


def table(outcomes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """All ways beside each other, in Markdown: the mean over trainings, and lowest to highest."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for outcome in outcomes:
        for condition, scores in outcome["result"]["transfer"].items():
            key = outcome["way"], outcome["target"], condition
            row = values.setdefault(key, defaultdict(list))
            for name in SHOWN:
                if name in scores:
                    row[name].append(scores[name]["value"])
            row["WER"].append(outcome["word_errors"][condition])
    columns = ("trained with", "person", "condition", *SHOWN, "WER")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for key, row in values.items():
        cells = [_range(row[name]) for name in SHOWN]
        errors = f"{statistics.mean(row['WER']):.1%}"
        yield f"| {' | '.join([*key, *cells, errors])} |"


def _known(path: Path, setting: Mapping[str, Any]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """What an earlier run found in the same setting."""
    if not path.is_file():
        return {}
    told = json.loads(path.read_text(encoding="utf-8"))
    if (told.get("format"), told.get("version")) != (FORMAT, VERSION) or told["setting"] != setting:
        raise UserError(
            "results of another setting are there", where=path, fix="--output ELSEWHERE"
        )
    return {(one["way"], one["target"], one["seed"]): one for one in told["outcomes"]}


def _interval(score: Mapping[str, float]) -> str:
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    run(main)
