"""Store a voice, speak with it, and hear why a tuned model needs it.

Of the two stages, training changes the first only: which semantic codes are written, so how
somebody speaks. How the voice sounds is decided by the second, from the recording or the stored
voice that it is given. `--compare` lets you hear that: the third file is the one to keep.

Example: python examples/finetuned_inference_example.py --extract --audio me.wav --output me.pt
Example: python examples/finetuned_inference_example.py --extract-dataset --training-dir training/ozzy/dataset/clips --output ozzy.pt
Example: python examples/finetuned_inference_example.py --infer --embeddings ozzy.pt --lora training/ozzy/lora/final_checkpoint --text "Hello." --output hello.wav
Example: python examples/finetuned_inference_example.py --compare --embeddings ozzy.pt --audio me.wav --lora training/ozzy/lora/final_checkpoint --text "Hello." --output compared.wav
"""  # noqa: E501 - commands to copy

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_device, add_overwrite, run
from ttscommon.outputs import require_new

if TYPE_CHECKING:
    from indextts.infer_v2 import IndexTTS2

NEEDS = {
    "extract": ("audio",),
    "extract_dataset": ("training_dir",),
    "infer": ("embeddings", "text"),
    "compare": ("embeddings", "audio", "text"),
}


def build_parser() -> Parser:
    parser = Parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--extract", action="store_true", help="store the voice of --audio")
    what.add_argument(
        "--extract-dataset", action="store_true", help="store the voice of --training-dir"
    )
    what.add_argument("--infer", action="store_true", help="speak with a stored voice")
    what.add_argument("--compare", action="store_true", help="three ways to speak a text")
    data, model, output, machine = map(
        parser.add_argument_group, ("data", "model", "output", "machine")
    )
    data.add_argument("--audio", "-a", type=Path, help="a recording of the voice")
    data.add_argument("--training-dir", type=Path, help="a folder of recordings of the voice")
    data.add_argument("--max-files", type=int, default=50, help="most of them to look at")
    data.add_argument("--embeddings", "-e", type=Path, help="a stored voice")
    data.add_argument("--text", "-t", help="what to say")
    data.add_argument("--seed", type=int, default=0, help="the same gives the same sound")
    model.add_argument("--lora", type=Path, help="folder of an adapter")
    model.add_argument("--gpt-checkpoint", type=Path, help="fully fine-tuned language model")
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    output.add_argument("--output", "-o", type=Path, required=True, help=".pt or .wav file")
    add_overwrite(output)
    add_device(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    mode = next(name for name in NEEDS if getattr(args, name))
    lacking = [name for name in NEEDS[mode] if getattr(args, name) is None]
    if lacking:
        flags = " and ".join("--" + name.replace("_", "-") for name in lacking)
        parser.error(f"--{mode.replace('_', '-')} needs {flags}")
    if mode == "compare" and not (args.lora or args.gpt_checkpoint):
        parser.error("--compare needs --lora or --gpt-checkpoint, to compare with the base")
    require_new(outputs(args, mode), overwrite=args.overwrite)
    {"extract": extract, "extract_dataset": extract, "infer": infer, "compare": compare}[mode](args)


def outputs(args: argparse.Namespace, mode: str) -> list[Path]:
    """What will be written."""
    if mode != "compare":
        return [args.output]
    kinds = ("base_with_ref", "finetuned_with_ref_WRONG", "finetuned_with_embeddings_CORRECT")
    return [args.output.with_name(f"{args.output.stem}_{kind}.wav") for kind in kinds]


def load(args: argparse.Namespace, *, tuned: bool) -> IndexTTS2:
    """The model, with what was trained or without."""
    from indextts.infer_v2 import IndexTTS2  # torch loads here

    trained: dict[str, Any] = {"lora_path": args.lora, "gpt_checkpoint": args.gpt_checkpoint}
    return IndexTTS2(args.config, args.model_dir, device=args.device, **(trained if tuned else {}))


def extract(args: argparse.Namespace) -> None:
    """Store the voice of one recording, or the most typical one of a folder."""
    from indextts.speaker_embeddings import SpeakerEmbeddingStore
    from ttscommon.audio import find_audio

    store = SpeakerEmbeddingStore(load(args, tuned=False))
    if args.extract:
        voice = store.extract_embeddings(args.audio)
    else:
        recordings = find_audio(args.training_dir)[: args.max_files]
        voice = store.extract_averaged_embeddings(recordings)
    store.save_embeddings(voice, args.output)
    print(f"Saved {args.output}")


def infer(args: argparse.Namespace) -> None:
    """Speak with the stored voice; no recording is needed."""
    tts = load(args, tuned=True)
    tts.infer(None, args.text, args.output, speaker_embeddings=args.embeddings, seed=args.seed)
    print(f"Saved {args.output}")


def compare(args: argparse.Namespace) -> None:
    """The same text by the base, by the tuned model with a recording, and with the stored voice."""
    base_path, wrong, right = outputs(args, "compare")
    load(args, tuned=False).infer(args.audio, args.text, base_path, seed=args.seed)
    tts = load(args, tuned=True)
    tts.infer(args.audio, args.text, wrong, seed=args.seed)
    tts.infer(None, args.text, right, speaker_embeddings=args.embeddings, seed=args.seed)
    for path, what in (
        (base_path, "base model, voice of the recording"),
        (wrong, "tuned model, but still the voice of the recording"),
        (right, "tuned model, stored voice: the one to keep"),
    ):
        print(f"{path}  {what}")


if __name__ == "__main__":
    run(main)
