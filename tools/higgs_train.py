"""Train LoRA adapters on Higgs Audio v2, from ChatML samples or a speaker's clips.

What training sees is checked against what inference sees first, and a check that fails ends it.
Stop with Ctrl-C whenever you like; the same command goes on, and ends in the same bits.

Example: python tools/higgs_train.py --speaker ozzy --amp bf16
Example: python tools/higgs_train.py --train-data samples.json --val-data held_out.json
Example: python tools/higgs_train.py --create-sample-data samples.json
Example: python tools/higgs_train.py --train-data samples.json --validate-data-only
Example: python tools/higgs_train.py --train-data samples.json --quick-test
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from higgs_trainer.config import HiggsTrainConfig, PrepareConfig
from higgs_trainer.train_flags import (
    add_data,
    add_models,
    add_precision,
    models,
    output,
    preparation,
    sources,
)
from ttscommon.cli import Parser, add_config_flags, add_device, add_overwrite, given, run
from ttscommon.config import load
from ttscommon.errors import UserError
from ttscommon.launching import same_command
from ttscommon.train_settings import BATCHES, LENGTH, MACHINE, RATES, REPORTS, SAMPLES

LOSSES = ["text_loss_weight", "audio_loss_weight", "reference_share", "seed"]
LORA = ["lora_rank", "lora_alpha", "lora_dropout"]
LORA += ["lora_attention", "lora_audio_mlp", "lora_text_mlp", "lora_heads"]
# The guide's names for flags that have another name in all tools here.
GUIDE = {
    "num_epochs": "epochs",
    "gradient_accumulation_steps": "grad_accumulation",
    "max_grad_norm": "grad_clip",
    "logging_steps": "log_interval",
    "save_steps": "save_interval",
    "eval_steps": "val_interval",
    "dataloader_num_workers": "num_workers",
}


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, lora, training, out, machine, guide = map(
        parser.add_argument_group,
        ("data", "model", "lora", "training", "output", "machine", "the guide's names"),
    )
    add_data(data)
    data.add_argument(
        "--create-sample-data", type=Path, metavar="FILE", help="write samples to try, and end"
    )
    data.add_argument(
        "--validate-data-only", action="store_true", help="list every defect of samples, and end"
    )
    add_models(model)
    add_config_flags(lora, HiggsTrainConfig, LORA)
    lora.add_argument(
        "--lora-target-modules",
        nargs="+",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help='instead of these switches: names of layers, "model.layers.*.self_attn.q_proj"',
    )
    training.add_argument("--config", type=Path, help="YAML or JSON with any of these settings")
    add_config_flags(training, HiggsTrainConfig, [*LENGTH, *BATCHES, *RATES, *LOSSES])
    training.add_argument(
        "--quick-test", action="store_true", help="a few steps with a tiny random model and codec"
    )
    out.add_argument("--output-dir", type=Path, help="default: training/<speaker>/higgs")
    out.add_argument(
        "--resume-from", metavar="DIR", help='"latest" or the --output-dir; it goes on anyway'
    )
    add_overwrite(out)
    add_config_flags(out, HiggsTrainConfig, [*REPORTS, *SAMPLES])
    add_device(machine)
    add_precision(machine)
    add_config_flags(machine, HiggsTrainConfig, MACHINE)
    kinds = {"max_grad_norm": float}
    for name, ours in GUIDE.items():
        guide.add_argument(
            "--" + name.replace("_", "-"),
            dest=ours,
            type=kinds.get(name, int),
            default=argparse.SUPPRESS,
            help=f"--{ours.replace('_', '-')}",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    if args.create_sample_data:
        from higgs_trainer.sample_data import create_sample_data

        path = create_sample_data(args.create_sample_data)
        print(f"Wrote {path}\nNext: python tools/higgs_train.py --train-data {path} --quick-test")
        return 0
    wanted = sources(args)
    prepare = preparation(args)
    if args.validate_data_only:
        return validate(wanted, prepare)
    config, place = configs(args), output(args)
    if args.resume_from not in (None, "latest", str(args.output_dir)):
        raise UserError("a run goes on where it is", fix=f"--output-dir {args.resume_from}")
    if args.quick_test:
        from higgs_trainer.miniature import write_miniature

        folder = place.folder / "miniature"
        args.model_path, args.audio_tokenizer_path = write_miniature(folder)
    from higgs_trainer.jobs import prepared_job  # torch loads here, so --help stays instant
    from higgs_trainer.train import train

    again = {"device": args.device, "overwrite": args.overwrite}
    again["resume_command"] = same_command("higgs_train", argv, args.device)
    networks = models(args)
    job, _, _ = prepared_job(wanted, networks, place, prepare, **again)
    report = train(job, config)
    print(f"Best adapter: {report.best} (step {report.best_step})")
    print("  " + "  ".join(f"{name} {value:.3f}" for name, value in report.metrics.items()))
    if args.quick_test:
        from higgs_trainer.trial import try_out

        heard = place.folder / "quick_test.wav"
        spoken = try_out(networks, report.best, job.validation, heard, device=args.device)
        told = f"{spoken.seconds:.2f} s, {spoken.n_retries} tries more, {spoken.verdict}"
        print(f"Spoke {heard}: {told}; a model of random weights speaks noise")
    print(f"Listen: {listen(args, report.best)}")
    print(f"Next: {check(args, report.best)}")
    return 0


def configs(args: Any) -> HiggsTrainConfig:
    """Default < file < flags."""
    flags = given(args, HiggsTrainConfig)
    if "lora_target_modules" in flags:
        flags["lora_target_modules"] = tuple(flags["lora_target_modules"])
    quick = {"max_steps": 10, "lora_rank": 8, "lora_alpha": 16.0, "log_interval": 5}
    return load(HiggsTrainConfig, args.config, {**(quick if args.quick_test else {}), **flags})


def validate(wanted: Any, prepare: PrepareConfig) -> int:
    if wanted.train is None:
        raise UserError(
            "a speaker's clips have a tool of their own",
            fix=f"python tools/validate_dataset.py --speaker {wanted.speaker.name}",
        )
    from higgs_trainer.jobs import defects

    found = defects(wanted, prepare)
    for line in found:
        print(line)
    print(f"{len(found)} defects" if found else "No defects.")
    return 1 if found else 0


def listen(args: Any, adapter: Path) -> str:
    """What to type to hear it."""
    words = ["--speaker", args.speaker] if args.speaker else ["--lora-path", str(adapter)]
    words += ["--model-path", str(args.model_path)]
    words += ["--audio-tokenizer-path", str(args.audio_tokenizer_path), "--text", "Hello there."]
    return shlex.join(["python", "tools/higgs_infer.py", *words])


def check(args: Any, adapter: Path) -> str:
    """What to type to check what was trained."""
    words = ["--speaker", args.speaker] if args.speaker else ["--train-data", str(args.train_data)]
    words += ["--model-path", str(args.model_path)]
    words += ["--audio-tokenizer-path", str(args.audio_tokenizer_path), "--lora-path", str(adapter)]
    return shlex.join(["python", "tools/higgs_verify.py", *words])


if __name__ == "__main__":
    run(main)
