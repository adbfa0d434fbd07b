"""Merge a LoRA adapter into Higgs Audio v2, and prove that nothing else changed.

The result is a checkpoint in transformers' format, whatever the base's is: a --model-path for the
tools here, and HiggsAudioV2ForConditionalGeneration.from_pretrained loads it. The whole model is
in memory in float32 meanwhile: 23 GB for the released one.

Example: python tools/higgs_merge.py --speaker ozzy --output-dir checkpoints/higgs/ozzy
Example: python tools/higgs_merge.py --lora-path out/best_checkpoint --output-dir merged
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from higgs_trainer.train_flags import FETCH, MODEL
from ttscommon.cli import Parser, add_device, add_overwrite, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, output, machine = map(
        parser.add_argument_group, ("data", "model", "output", "machine")
    )
    data.add_argument("--speaker", metavar="NAME", help="whose best adapter is merged")
    add_training_root(data)
    data.add_argument("--lora-path", type=Path, help="an adapter's folder, instead of --speaker")
    data.add_argument(
        "--lora-scale", type=float, default=1.0, help="how strong the adapter is, 1 as trained"
    )
    model.add_argument("--model-path", type=Path, default=MODEL, help="checkpoint, in any format")
    output.add_argument("--output-dir", type=Path, required=True, help="folder of the new model")
    output.add_argument(
        "--precision",
        choices=("base", "float32", "bf16"),
        default="base",
        help="of the files; base: as its own are",
    )
    output.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare logits and greedy frames of adapter, merged model and files",
    )
    add_overwrite(output)
    add_device(machine)
    return parser


def adapter_folder(args: argparse.Namespace) -> Path:
    if args.lora_path:
        return args.lora_path
    if not args.speaker:
        raise UserError("which adapter?", fix="--speaker NAME or --lora-path DIR")
    return Speaker(args.speaker, args.training_root).higgs.best_checkpoint


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    adapter_path = adapter_folder(args)
    if not args.model_path.is_dir():
        raise UserError("no such folder", where=args.model_path, fix=FETCH)
    from higgs_trainer.merging import merge_checkpoint  # torch loads here
    from ttscommon.machine import pick_device

    merged = merge_checkpoint(
        args.model_path,
        adapter_path,
        args.output_dir,
        scale=args.lora_scale,
        precision=args.precision,
        verify=args.verify,
        overwrite=args.overwrite,
        device=pick_device(args.device),
    )
    adapter = merged.adapter
    print(f"Merged {adapter.folder}: rank {adapter.rank}, {adapter.n_layers} matrices, "
          f"logits move by up to {merged.effect:.3g}")  # fmt: skip
    if merged.difference is not None and merged.rounding is not None:
        print(f"Proven: logits of adapter and merged model differ by {merged.difference:.1e} at "
              f"most, and {merged.n_frames} greedy frames are the same")  # fmt: skip
        kind = str(merged.dtype).removeprefix("torch.")
        print(f"Read again: {kind} files, whose logits differ by {merged.rounding:.1e} at most")
    print(f"Saved {merged.folder} (fingerprint {merged.fingerprint[:12]})")
    words = ["--model-path", str(merged.folder), "--text", "Hello."]
    print(f"Next: {shlex.join(['python', 'tools/higgs_infer.py', *words])}")


if __name__ == "__main__":
    run(main)
