"""Store a speaker's voice, so that speaking needs neither recording nor speech encoders.

Example: python tools/extract_embeddings.py --speaker ozzy
Example: python tools/extract_embeddings.py --audio one.wav two.wav --output ozzy.pt

Of several clips the most typical one is kept, by likeness of the speaker vector, together with the
average of all speaker vectors.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_device, add_overwrite, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions, usable_clips, usable_sounds
from ttscommon.outputs import require_new, require_writable
from ttscommon.workspace import Speaker, find_speakers, speaker_flags

if TYPE_CHECKING:
    from indextts.speaker_embeddings import SpeakerEmbeddingStore


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--list-speakers", action="store_true", help="say who there is, and stop")
    data.add_argument(
        "--audio", "-a", type=Path, nargs="+",
        help="recordings, or folders of them (default: the speaker's clips)",
    )  # fmt: skip
    data.add_argument(
        "--max-files", "-m", type=int, default=10, help="evenly chosen, if there are more"
    )
    data.add_argument(
        "--prompt-seconds",
        type=float,
        help="keep so much of the chosen clip, which must have it (default: all, up to 15)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    output = parser.add_argument_group("output")
    output.add_argument("--output", "-o", type=Path, help=".pt file (default: the speaker's)")
    add_overwrite(output)
    add_device(parser.add_argument_group("machine"))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    if args.list_speakers:
        _list(args.training_root)
        return
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if speaker is None and (args.audio is None or args.output is None):
        parser.error("give --speaker NAME, or --audio FILE and --output FILE")
    if args.max_files < 1:
        parser.error("--max-files must be 1 or more")
    output = args.output or (speaker.speaker_embeddings if speaker else Path())
    if output.suffix != ".pt":
        parser.error(f"--output {output} must end in .pt")
    require_new([output], overwrite=args.overwrite)
    require_writable(output)
    paths = _recordings(args.audio) if args.audio else usable_clips(speaker) if speaker else []
    if not paths:
        where = args.audio[0] if args.audio else cast("Speaker", speaker).clips_folder
        why = read_exclusions(where).remark()
        fix = "put .wav, .flac or .mp3 files there"
        raise UserError(f"no recordings here{why}", where=where, fix=fix)
    chosen = [paths[i * len(paths) // args.max_files] for i in range(args.max_files)]
    chosen = paths if len(paths) <= args.max_files else chosen
    store = _store(args)
    voice = store.voice(chosen, prompt_seconds=args.prompt_seconds, verbose=True)
    store.save_embeddings(voice, output)
    shapes = {name: list(tensor.shape) for name, tensor in voice.tensors().items()}
    n_clips = voice.origin["n_recordings"]
    print(f"Saved {output}: the voice of {voice.origin['source']}, style of {n_clips} clips")
    for name, why in voice.origin["left_out"].items():
        print(f"  left out {name}: {why}")
    print("  " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    is_own = speaker is not None and output == speaker.speaker_embeddings
    flags = speaker_flags([speaker]) if speaker and is_own else ["--speaker-embeddings", output]
    print(f"Next: python tools/infer.py {' '.join(map(str, flags))} --text 'Hello'")


def _recordings(places: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for place in places:
        paths += usable_sounds(place) if place.is_dir() else [place]
    return paths


def _store(args: argparse.Namespace) -> SpeakerEmbeddingStore:
    """With what reads recordings; the language model isn't needed."""
    from indextts import weights  # torch loads here
    from indextts.checkpoint import CheckpointFolder
    from indextts.references import ReferenceReader
    from indextts.speaker_embeddings import SpeakerEmbeddingStore
    from ttscommon.machine import pick_device

    device = pick_device(args.device)
    folder = CheckpointFolder.open(args.model_dir, cfg_path=args.config)
    s2mel = weights.load_s2mel(folder.s2mel, folder.config.s2mel, device=device)
    return SpeakerEmbeddingStore(ReferenceReader(folder, s2mel, device))


def _list(root: Path) -> None:
    speakers = find_speakers(root)
    if not speakers:
        place = root / "NAME" / "dataset" / "audio"
        raise UserError("no speakers yet", where=root, fix=f"put recordings into {place}")
    for speaker in speakers:
        n_clips = len(usable_clips(speaker))
        has_voice = "voice stored" if speaker.speaker_embeddings.is_file() else "no voice stored"
        print(f"{speaker.name}  {n_clips} clips, {has_voice}")


if __name__ == "__main__":
    run(main)
