"""Turn clips and their texts into what a manner of speaking is learned from.

Example: python tools/prepare_pattern_dataset_v3.py --speaker ozzy

Does what tools/prepare_lora_dataset.py does (and takes over what that has made), and finds how each
clip is spoken: pauses, fillers, stutters, drawn-out words and pace, as spans of codes. Which codes
are silence is learned from the recordings. A share of the texts is stripped of fillers, dots and
repeats, so that the text alone doesn't tell where to pause. A run that was stopped goes on where it
was. patterns.html shows what was found.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.pattern_prepare_config import PatternPrepareConfig
from indextts.prepare_config import PrepareConfig
from indextts.prepare_flags import add_preparation, require_input
from ttscommon.cli import Parser, add_config_flags, given, run
from ttscommon.config import from_dict
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.workspace import TRAIN_MANIFEST, VALIDATION_MANIFEST, Speaker, speaker_flags

if TYPE_CHECKING:
    from indextts.pattern_preparation import PatternReport
    from indextts.utterances import Source

PATTERNS = ("pause_threshold", "strip_share", "silence_share", "silence_count")
PAGE = "patterns.html"


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, output = add_preparation(parser)
    data.add_argument(
        "--pattern-conditioning",
        type=Path,
        help="file of tools/extract_pattern_conditioning.py (default: the speaker's, if there)",
    )
    add_config_flags(parser.add_argument_group("patterns"), PatternPrepareConfig, PATTERNS)
    output.add_argument("--max-clips", type=int, default=60, help="on the page; 0 writes none")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    require_input(parser, args)
    clip_config = from_dict(PrepareConfig, given(args, PrepareConfig))
    config = from_dict(PatternPrepareConfig, given(args, PatternPrepareConfig))
    output = args.output_dir or (speaker.processed_v3 if speaker else Path())
    import torch  # loads here

    from indextts.checkpoint import CheckpointFolder
    from indextts.clip_encoder import ClipEncoder
    from indextts.pattern_preparation import prepare_patterns, read_transcription
    from ttscommon.machine import processes

    source, told_in = _source(args, speaker, clip_config)
    folder = CheckpointFolder.open(args.model_dir, cfg_path=args.config)
    state = processes(args.device)
    encoder = ClipEncoder(folder, state.device or torch.device("cpu"), args.base_checkpoint)
    report = prepare_patterns(
        source,
        clip_config,
        config,
        encoder,
        output,
        transcription=read_transcription(told_in),
        processed=speaker.processed if speaker and not args.audio_dir else None,
        conditioning=_conditioning(args, speaker),
    )
    if not state.is_main_process:
        return
    _show(report)
    if args.json:
        write_json(args.json, _plain(report))
    if args.max_clips > 0:
        _write_page(report, output, source.speaker, args.max_clips)
    is_own = speaker is not None and output == speaker.processed_v3
    flags = speaker_flags([speaker]) if speaker and is_own else _manifest_flags(output)
    print(f"Next: python tools/train_pattern_embeddings.py {' '.join(flags)}")


def _source(args: Any, speaker: Speaker | None, config: PrepareConfig) -> tuple[Source, Path]:
    """The clips, and the folder in which tools/transcribe_dataset.py wrote about them."""
    from indextts.utterances import folder_source, speaker_source

    if args.audio_dir:
        place = args.transcripts if args.transcripts.is_dir() else args.transcripts.parent
        return folder_source(args.audio_dir, args.transcripts, config, args.speaker or ""), place
    assert speaker is not None
    return speaker_source(speaker, config, args.transcripts), speaker.dataset


def _conditioning(args: Any, speaker: Speaker | None) -> Path | None:
    if args.pattern_conditioning is not None:
        if not args.pattern_conditioning.is_file():
            raise UserError("no such file", where=args.pattern_conditioning)
        return args.pattern_conditioning
    if speaker is not None and speaker.pattern_conditioning.is_file():
        return speaker.pattern_conditioning
    return None


def _manifest_flags(output: Path) -> list[str]:
    train, validation = output / TRAIN_MANIFEST, output / VALIDATION_MANIFEST
    return ["--train-manifest", str(train), "--val-manifest", str(validation)]


def _show(report: PatternReport) -> None:
    clips, info = report.clips, report.info
    print(
        f"{clips.n_train + clips.n_val} clips, {clips.seconds / 60:.1f} minutes: {clips.n_train} "
        f"to train on, {clips.n_val} to validate with (parted by {clips.split}): {clips.folder}"
    )
    print(f"Computed {clips.n_made} of them now, took over the sound of {report.n_adopted}")
    rates = info["rates"]
    shown = {
        "pauses a minute": rates.get("pauses_per_minute"),
        "s long (median)": rates.get("pause_seconds"),
        "fillers a minute": rates.get("fillers_per_minute"),
        "stutters a minute": rates.get("stutters_per_minute"),
    }
    print(
        "  "
        + ", ".join(f"{value:.2f} {name}" for name, value in shown.items() if value is not None)
    )
    print(
        f"{len(info['silence_codes'])} silence codes cover {info['coverage']:.1%} of the silent "
        f"frames and {info['leakage']:.1%} of the spoken ones"
    )
    print(f"{info['text']['n_stripped']} texts were stripped of marks")
    for note in (*clips.notes, *info["notes"]):
        print(f"Note: {note}")
    for what, why in clips.skipped[:20]:
        print(f"Left out: {what}: {why}")
    if len(clips.skipped) > 20:
        print(f"Left out: {len(clips.skipped) - 20} more")


def _plain(report: PatternReport) -> dict[str, Any]:
    clips = report.clips
    return {
        "n_train": clips.n_train,
        "n_val": clips.n_val,
        "seconds": clips.seconds,
        "n_made": clips.n_made,
        "n_adopted": report.n_adopted,
        "skipped": [{"what": what, "why": why} for what, why in clips.skipped],
        "notes": clips.notes,
        "folder": str(clips.folder),
        "patterns": dict(report.info),
    }


def _write_page(report: PatternReport, output: Path, speaker: str, max_clips: int) -> None:
    from indextts.pattern_page import write_page

    path = output / PAGE
    title = f"How {speaker} speaks" if speaker else "How it is spoken"
    n_shown = write_page(output, report.info, path, title=title, max_clips=max_clips)
    print(f"Look: {path} ({n_shown} clips)")


if __name__ == "__main__":
    run(main)
