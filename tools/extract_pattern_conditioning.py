"""Store what IndexTTS2's language model makes of several clips of a speaker together.

Example: python tools/extract_pattern_conditioning.py --speaker ozzy
Example: python tools/extract_pattern_conditioning.py --audio-dir my/clips --output ozzy.pt

The 32 vectors that say who speaks, and the mood: averaged over clips, or of one clip, the longest
or the medoid (the one that is most like all others). tools/prepare_pattern_dataset_v3.py puts them
beside the clips, for speaking without a prompt.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_device, add_overwrite, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions, usable_sounds
from ttscommon.outputs import require_new, require_writable
from ttscommon.workspace import Speaker, speaker_flags

METHODS = ("average", "longest", "medoid")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--audio-dir", type=Path, help="folder of clips (default: the speaker's)")
    data.add_argument(
        "--max-files", "-m", type=int, default=20, help="evenly chosen, if there are more"
    )
    data.add_argument(
        "--method", default="average", choices=METHODS, help="all clips together, or one of them"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    model.add_argument(
        "--base-checkpoint", type=Path, help="language model to train (default: that folder's)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output", "-o", type=Path, help=".pt file (default: the speaker's)")
    output.add_argument(
        "--export-npy", action="store_true", help="write each tensor as an .npy file as well"
    )
    output.add_argument(
        "--export-dir", type=Path, help="folder for these (default: beside the .pt file)"
    )
    add_overwrite(output)
    add_device(parser.add_argument_group("machine"))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if speaker is None and (args.audio_dir is None or args.output is None):
        parser.error("give --speaker NAME, or --audio-dir FOLDER and --output FILE")
    if args.max_files < 1:
        parser.error("--max-files must be 1 or more")
    output = args.output or (speaker.pattern_conditioning if speaker else Path())
    if output.suffix != ".pt":
        parser.error(f"--output {output} must end in .pt")
    require_new([output], overwrite=args.overwrite)
    require_writable(output)
    folder = args.audio_dir or (speaker.clips_folder if speaker else Path())
    paths = usable_sounds(folder)
    if not paths:
        why, fix = read_exclusions(folder).remark(), "put .wav, .flac or .mp3 there"
        raise UserError(f"no recordings here{why}", where=folder, fix=fix)
    n = min(args.max_files, len(paths))
    held = _extract([paths[i * len(paths) // n] for i in range(n)], args)
    from indextts.pattern_conditioning import METADATA, save_conditioning

    save_conditioning(held, output)
    about = held[METADATA]
    what = f"the average of {about['num_clips']}" if args.method == "average" else about["source"]
    print(f"Saved {output}: {what}, {about['num_clips']} clips read")
    if args.export_npy:
        _export(held, args.export_dir or output.parent, output.stem)
    is_own = speaker is not None and output == speaker.pattern_conditioning
    if speaker is not None:
        flags = speaker_flags([speaker])
        flags += [] if is_own else ["--pattern-conditioning", str(output)]
        print(f"Next: python tools/prepare_pattern_dataset_v3.py {' '.join(flags)}")


def _extract(paths: Sequence[Path], args: Any) -> dict[str, Any]:
    import torch  # loads here

    from indextts.checkpoint import CheckpointFolder
    from indextts.clip_encoder import ClipEncoder
    from indextts.pattern_conditioning import extract_conditioning
    from ttscommon.machine import pick_device

    folder = CheckpointFolder.open(args.model_dir, cfg_path=args.config)
    device = torch.device(pick_device(args.device))
    encoder = ClipEncoder(folder, device, args.base_checkpoint)
    return extract_conditioning(paths, encoder, args.method)


def _export(held: dict[str, Any], folder: Path, stem: str) -> None:
    import numpy as np

    from indextts.pattern_conditioning import TENSORS
    from ttscommon.files import atomic

    for name in TENSORS:
        path = folder / f"{stem}_{name}.npy"
        with atomic(path) as draft, draft.open("wb") as file:
            np.save(file, held[name].numpy(), allow_pickle=False)
        print(f"Saved {path}")


if __name__ == "__main__":
    run(main)
