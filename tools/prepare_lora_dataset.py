"""Turn clips and their texts into what IndexTTS2's language model trains on.

Example: python tools/prepare_lora_dataset.py --speaker ozzy

Takes the clips that tools/segment_recordings.py cut (or the recordings, if none were cut) and the
texts of transcripts.csv or of tools/transcribe_dataset.py. Each clip gets its text tokens, semantic
codes, speaker and emotion, and the features these come from. A run that was stopped goes on where
it was, and later ones compute new and changed clips only.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.prepare_config import PrepareConfig
from indextts.prepare_flags import add_preparation, require_input
from ttscommon.cli import Parser, given, run
from ttscommon.config import from_dict
from ttscommon.files import write_json
from ttscommon.workspace import TRAIN_MANIFEST, VALIDATION_MANIFEST, Speaker, speaker_flags

if TYPE_CHECKING:
    from indextts.preprocess import PrepareReport


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add_preparation(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    require_input(parser, args)
    config = from_dict(PrepareConfig, given(args, PrepareConfig))
    output = args.output_dir or (speaker.processed if speaker else Path())
    import torch

    from indextts.checkpoint import CheckpointFolder
    from indextts.clip_encoder import ClipEncoder  # torch loads here
    from indextts.preprocess import prepare
    from indextts.utterances import folder_source, speaker_source
    from ttscommon.machine import processes

    if args.audio_dir:
        source = folder_source(args.audio_dir, args.transcripts, config, args.speaker or "")
    else:
        assert speaker is not None
        source = speaker_source(speaker, config, args.transcripts)
    folder = CheckpointFolder.open(args.model_dir, cfg_path=args.config)
    state = processes(args.device)
    encoder = ClipEncoder(folder, state.device or torch.device("cpu"), args.base_checkpoint)
    report = prepare(source, config, encoder, output)
    if not state.is_main_process:
        return
    _show(report)
    if args.json:
        write_json(args.json, _plain(report))
    is_own = speaker is not None and output == speaker.processed
    flags = speaker_flags([speaker]) if speaker and is_own else _manifest_flags(output)
    print(f"Next: python tools/train_gpt_lora.py {' '.join(flags)}")


def _manifest_flags(output: Path) -> list[str]:
    train, validation = output / TRAIN_MANIFEST, output / VALIDATION_MANIFEST
    return ["--train-manifest", str(train), "--val-manifest", str(validation)]


def _show(report: PrepareReport) -> None:
    n_clips = report.n_train + report.n_val
    print(
        f"{n_clips} clips, {report.seconds / 60:.1f} minutes: {report.n_train} to train on, "
        f"{report.n_val} to validate with (parted by {report.split}): {report.folder}"
    )
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.spent.items())
    print(f"Computed {report.n_made} of them now ({stages})")
    for note in report.notes:
        print(f"Note: {note}")
    if report.unknown:
        shown = " ".join(f"{piece} ({n})" for piece, n in list(report.unknown.items())[:20])
        print(f"The tokenizer knows {sum(report.unknown.values())} pieces not: {shown}")
    if report.skipped:
        print(f"Left out: {len(report.skipped)}")
    reasons = Counter(why for _, why in report.skipped)
    for why, count in reasons.most_common():
        first = next(what for what, reason in report.skipped if reason == why)
        print(f"  {count} x {why} ({first})")


def _plain(report: PrepareReport) -> dict[str, Any]:
    skipped = [{"what": what, "why": why} for what, why in report.skipped]
    return {**asdict(report), "folder": str(report.folder), "skipped": skipped}


if __name__ == "__main__":
    run(main)
