"""Check that training Higgs Audio sees what inference sees, with numbers.

Samples or a speaker's clips are prepared as for training, and compared with what the model is given
when it speaks: tokens, labels, losses, logits step by step. Exit code 1 if a check fails.

Example: python tools/higgs_verify.py --speaker ozzy
Example: python tools/higgs_verify.py --train-data samples.json --lora-path out/best_checkpoint
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from higgs_trainer.config import HiggsTrainConfig
from higgs_trainer.train_flags import (
    add_data,
    add_models,
    add_precision,
    models,
    output,
    preparation,
    sources,
)
from ttscommon.cli import Parser, add_device, add_json, run


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, out, machine = map(
        parser.add_argument_group, ("data", "model", "output", "machine")
    )
    add_data(data)
    add_models(model)
    model.add_argument("--lora-path", type=Path, help="folder of an adapter to check it with")
    out.add_argument("--output-dir", type=Path, help="keeps codes (default: the training's)")
    add_json(out, "checked")
    add_device(machine)
    add_precision(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    wanted, place = sources(args), output(args)
    from higgs_trainer.jobs import prepared_job  # torch loads here, so --help stays instant
    from higgs_trainer.train import verified
    from ttscommon.files import write_json

    prepare = preparation(args, args.lora_path)
    job, codec, _ = prepared_job(wanted, models(args), place, prepare, device=args.device)
    config = HiggsTrainConfig(amp=getattr(args, "amp", "no"))
    report = verified(job, config, codec, adapter=args.lora_path)
    for line in (*job.checkpoint.report(), codec.report(), *map(str, report.checks)):
        print(line)
    print(report.score)
    if args.json:
        write_json(args.json, report.to_dict())
    return 0 if report.is_aligned else 1


if __name__ == "__main__":
    run(main)
