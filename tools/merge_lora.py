"""Merge a LoRA adapter into IndexTTS2's language model, and prove that nothing else changed.

The result is a checkpoint in the official layout, which the original program loads too.

Examples:
  python tools/merge_lora.py --speaker ozzy --output checkpoints/ozzy_merged.pth
  python tools/merge_lora.py --lora-path voices/ozzy --output ozzy.safetensors --lora-scale 0.8
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.tuned import adapters, is_adapter
from ttscommon.cli import Parser, add_overwrite, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, output = map(parser.add_argument_group, ("data", "model", "output"))
    data.add_argument("--speaker", metavar="NAME", help="whose adapter, the one that speaks")
    add_training_root(data)
    data.add_argument("--lora-path", type=Path, help="an adapter's folder, instead of --speaker")
    data.add_argument(
        "--lora-scale", type=float, default=1.0, help="how strong the adapter is, 1 as trained"
    )
    model.add_argument("--model-dir", type=Path, help="checkpoint folder (default: checkpoints)")
    model.add_argument(
        "--base-checkpoint", type=Path, help="the language model it was trained on, if another"
    )
    output.add_argument("--output", "-o", type=Path, required=True, help=".pth or .safetensors")
    output.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare logits and greedy codes of adapter and merged model before writing",
    )
    add_overwrite(output)
    return parser


def adapter_folder(args: argparse.Namespace) -> Path:
    if args.lora_path:
        return args.lora_path
    if not args.speaker:
        raise UserError("which adapter?", fix="--speaker NAME or --lora-path DIR")
    known = adapters(Speaker(args.speaker, args.training_root))
    return next((folder for folder in known if is_adapter(folder)), known[1])


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    if args.output.suffix not in (".pth", ".pt", ".safetensors"):
        fix = f"--output {args.output.with_suffix('.pth')}"
        raise UserError("a checkpoint is named .pth or .safetensors", where=args.output, fix=fix)
    adapter_path = adapter_folder(args)
    from indextts.checkpoint import CheckpointFolder
    from indextts.merging import merge_checkpoint

    folder = CheckpointFolder.open(args.model_dir)
    merged = merge_checkpoint(
        args.base_checkpoint or folder.gpt,
        folder.config.gpt,
        adapter_path,
        args.output,
        scale=args.lora_scale,
        verify=args.verify,
        overwrite=args.overwrite,
    )
    adapter = merged.adapter
    print(f"Merged {adapter.folder}: rank {adapter.rank}, {adapter.n_layers} matrices, "
          f"logits move by up to {merged.effect:.3g}")  # fmt: skip
    if merged.difference is not None:
        print(f"Proven: logits of adapter and merged model differ by {merged.difference:.1e} at "
              f"most, and {merged.n_codes} greedy codes are the same")  # fmt: skip
    print(f"Saved {merged.path} (fingerprint {merged.fingerprint[:12]})")
    say = ["--text", "Hello", "--reference-audio", "VOICE.wav"]
    words = ["python", "tools/infer.py", "--gpt-checkpoint", str(merged.path), *say]
    print(f"Next: {shlex.join(words)}")


if __name__ == "__main__":
    run(main)
