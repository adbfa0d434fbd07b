"""Train every experiment of configs/kani/experiments.yaml, one after the other.

The data are prepared once. Each experiment is a process of its own; one that fails doesn't stop the
others, and the run ends with exit code 1 then. Stop with Ctrl-C whenever you like; the same command
goes on where it was, and what is finished is skipped. Several GPUs train one experiment with:
  accelerate launch tools/kani_train.py --only balanced

Example: python tools/kani_train.py
Example: python tools/kani_train.py --config-dir configs/kani --only balanced
Example: python tools/kani_train.py --sweep
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from kani.config_files import CONFIG_DIR
from ttscommon.cli import Parser, add_device, add_overwrite, run
from ttscommon.errors import UserError
from ttscommon.launching import same_command


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, training, out, machine = map(
        parser.add_argument_group, ("data", "training", "output", "machine")
    )
    data.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIR, help="folder of the six YAML files"
    )
    training.add_argument("--only", metavar="MODEL_ID", help="train this experiment alone")
    training.add_argument(
        "--sweep", action="store_true", help="search the ranges of experiments.yaml by Optuna"
    )
    out.add_argument(
        "--output-dir", type=Path, help="default: paths.checkpoints_dir of eval_config.yaml"
    )
    add_overwrite(out)
    add_device(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    from kani.experiments import open_workshop, run_all, train_one  # brings torch

    workshop = open_workshop(
        args.config_dir,
        models=args.output_dir,
        device=args.device,
        overwrite=args.overwrite,
        resume_command=same_command("kani_train", argv, args.device),
    )
    if args.sweep:
        return search(workshop)
    if args.only:
        report = train_one(workshop.job(workshop.named(args.only)))
        print(f"{args.only}: {'finished before' if report.was_finished else 'trained'}")
        print("  " + "  ".join(f"{name} {value:.3f}" for name, value in report.metrics.items()))
        print(f"Saved {report.model}")
        return 0
    from ttscommon.processes import run_script

    outcomes = run_all(workshop, lambda one: run_script(words(args, one.base.model_id)))
    for outcome in outcomes:
        print(f"{outcome.model_id}: {outcome.state}" + (f": {outcome.why}" * bool(outcome.why)))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} are in {workshop.models}")
    if outcomes and not failed:
        model = workshop.models / outcomes[-1].model_id
        print(f"Next: python tools/kani_infer.py --model-dir {model} --codec FILE.nemo \\")
        print("      --speaker-id NAME --text 'Good morning.'")
    return 1 if failed else 0


def words(args: Any, model_id: str) -> list[str]:
    """What trains one experiment."""
    found = ["tools/kani_train.py", "--config-dir", str(args.config_dir), "--only", model_id]
    found += ["--output-dir", str(args.output_dir)] if args.output_dir else []
    found += ["--overwrite"] if args.overwrite else []
    return [*found, "--device", args.device]


def search(workshop: Any) -> int:
    config = workshop.experiments.sweep
    if config is None:
        raise UserError("experiments.yaml has no sweep", fix="sweep: {trainer_args: ...}")
    from kani.config import Experiment, ExperimentName
    from kani.sweep import sweep

    known = workshop.experiments.experiments
    template = known[0] if known else Experiment(base=ExperimentName(model_id=config.model_id))
    report = sweep(config, template, workshop.job)
    print(f"{report.n_trials} trials, {report.n_pruned} of them ended early")
    for name, value in report.settings.items():
        print(f"  {name} {value}")
    print(f"Best: validation loss {report.loss:.4f}\nSaved {report.best.model}")
    return 0


if __name__ == "__main__":
    run(main)
