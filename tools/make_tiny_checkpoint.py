"""Write a miniature checkpoint, to try every program out without the real one.

Example: python tools/make_tiny_checkpoint.py --output checkpoints/tiny
Example: python tools/make_tiny_checkpoint.py --family kani --output checkpoints/tiny_kani

It has the layout of the official checkpoint and random weights: 6 MB for IndexTTS2, whose noise is
of about the length of the text, 23 MB for KaniTTS and its codec.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run
from ttscommon.outputs import require_new


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "--family", choices=("indextts2", "kani"), default="indextts2", help="which system's"
    )
    parser.add_argument("--output", type=Path, default=Path("checkpoints/tiny"), help="new folder")
    parser.add_argument("--seed", type=int, default=0, help="names the weights")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    if args.family == "kani":
        from kani.miniature import CODEC, MODEL, write_miniature  # torch loads here

        require_new([args.output / MODEL, args.output / CODEC], overwrite=args.overwrite)
        write_miniature(args.output, seed=args.seed)
    else:
        from indextts.miniature import write_miniature

        write_miniature(args.output, args.seed, overwrite=args.overwrite)
    files = [path for path in args.output.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"{args.output}  {len(files)} files, {megabytes:.1f} MB, seed {args.seed}")
    print("Its weights are random: whatever it speaks is noise.")


if __name__ == "__main__":
    run(main)
