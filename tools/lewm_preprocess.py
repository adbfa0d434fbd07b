"""Turn one person's recordings into what LeWM-TTS trains on.

Example: python tools/lewm_preprocess.py --speaker ozzy
Example: python tools/lewm_preprocess.py --input /path/to/dataset --output /path/to/processed_data

Recordings go into training/<speaker>/dataset/audio, at any sample rate, as WAV, FLAC, OGG, Opus,
MP3 or AIFF. What is said in them comes from training/<speaker>/dataset/transcripts.csv
(audio_path,text), from metadata.csv in LJSpeech form, from .jsonl, or from .txt files beside them;
what has no transcript is transcribed by Whisper. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from lewm.config import PreprocessConfig
from ttscommon.cli import (
    Parser,
    add_config_flags,
    add_json,
    add_overwrite,
    add_training_root,
    given,
    run,
)
from ttscommon.config import load
from ttscommon.files import write_json
from ttscommon.outputs import require_new
from ttscommon.sound_progress import clock
from ttscommon.workspace import Speaker, speaker_flags

if TYPE_CHECKING:
    from lewm.preprocess import PrepareReport

CLIPS = ("min_seconds", "max_seconds", "trim_db", "loudness")
TEXT = ("language", "transcribe", "whisper_model")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", nargs="+", metavar="NAME", help="folders under training/")
    add_training_root(data)
    data.add_argument("--input", type=Path, help="recordings elsewhere (default: the speaker's)")
    data.add_argument("--config", type=Path, help="YAML or JSON file with these settings")
    add_config_flags(data, PreprocessConfig, CLIPS)
    add_config_flags(parser.add_argument_group("text"), PreprocessConfig, TEXT)
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, help="folder for features (default: the speaker's)")
    add_overwrite(output)
    add_json(output, "done")
    add_config_flags(output, PreprocessConfig, ("clips_per_shard",))
    add_config_flags(parser.add_argument_group("machine"), PreprocessConfig, ("workers",))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speakers = [Speaker(name, args.training_root) for name in args.speaker or ()]
    if not speakers and (args.input is None or args.output is None):
        parser.error("give --speaker NAME, or --input FOLDER and --output FOLDER")
    if len(speakers) > 1 and (args.input or args.output):
        parser.error("--input and --output go with one speaker at most")
    config = load(PreprocessConfig, args.config, given(args, PreprocessConfig))
    require_new([args.json] if args.json else [], overwrite=args.overwrite)
    from lewm.preprocess import prepare  # torch loads here
    from ttscommon.machine import processes

    elsewhere = {"source": args.input, "output": args.output, "overwrite": args.overwrite}
    reports = [prepare(speaker, config, **elsewhere) for speaker in speakers or [None]]
    if not processes().is_main_process:
        return
    for report in reports:
        _show(report)
    if args.json:
        write_json(args.json, [_plain(report) for report in reports])
    flags = speaker_flags(speakers) if speakers and not args.output else []
    flags = flags or ["--data-dir", str(args.output), "--output-dir", "output"]
    print(f"Next: {shlex.join(['python', 'tools/lewm_train.py', *flags])}")


def _show(report: PrepareReport) -> None:
    print(f"{report.n_clips} clips, {clock(report.seconds)} of speech: {report.folder}")
    if not report.skipped:
        return
    print(f"Left out: {len(report.skipped)}")
    reasons = Counter(why for _, why in report.skipped)
    for why, count in reasons.most_common():
        first = next(what for what, reason in report.skipped if reason == why)
        print(f"  {count} x {why} ({first})")


def _plain(report: PrepareReport) -> dict[str, object]:
    skipped = [{"what": what, "why": why} for what, why in report.skipped]
    folder = str(report.folder)
    return {"n_clips": report.n_clips, "seconds": report.seconds, "folder": folder,
            "skipped": skipped}  # fmt: skip


if __name__ == "__main__":
    run(main)
