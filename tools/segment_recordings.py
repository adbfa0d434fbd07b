"""Cut long recordings into clips of 2 to 15 seconds, in silences only.

Recordings go into training/<speaker>/dataset/audio; the clips go to dataset/clips beside it, with
dataset/clips.jsonl (which clip comes from where) and dataset/segmentation.json (what was left out,
and why). A recording that is short enough becomes one clip. A run that was stopped goes on where it
was; a new recording costs only itself.

Example: python tools/segment_recordings.py --speaker ozzy
Example: python tools/segment_recordings.py --audio-dir my/recordings --output-dir my/dataset
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_config_flags, add_overwrite, add_training_root, given, run
from ttscommon.clip_config import ClipConfig
from ttscommon.config import load
from ttscommon.workspace import Speaker, speaker_flags

if TYPE_CHECKING:
    from ttscommon.segmentation import SegmentReport

CLIPS = ("min_seconds", "max_seconds", "sample_rate", "loudness", "trim_db", "pad")
N_SHOWN = 5


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, clips, output, machine = map(
        parser.add_argument_group, ("data", "clips", "output", "machine")
    )
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--audio-dir", type=Path, help="recordings (default: the speaker's)")
    data.add_argument("--config", type=Path, help="YAML or JSON file with these settings")
    add_config_flags(clips, ClipConfig, CLIPS)
    output.add_argument(
        "--output-dir", type=Path, help="folder for the data set (default: the speaker's)"
    )
    add_overwrite(output)
    add_config_flags(machine, ClipConfig, ("workers",))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if speaker is None and (args.audio_dir is None or args.output_dir is None):
        parser.error("give --speaker NAME, or --audio-dir FOLDER and --output-dir FOLDER")
    config = load(ClipConfig, args.config, given(args, ClipConfig))
    from ttscommon.segmentation import Place, segment_recordings  # torch loads here

    place = Place.of(speaker, args.audio_dir, args.output_dir)
    report = segment_recordings(place, config, overwrite=args.overwrite)
    show(report)
    print(f"Saved {report.folder}, {place.manifest.name} and {place.report.name}")
    flags = speaker_flags([speaker]) if speaker and not args.output_dir else []
    flags = flags or ["--audio-dir", str(place.clips), "--output-dir", str(args.output_dir)]
    print(f"Next: {shlex.join(['python', 'tools/transcribe_dataset.py', *flags])}")


def show(report: SegmentReport) -> None:
    """Minutes that were recorded, kept and left out, with the reasons."""
    print(
        f"{report.n_clips} clips, {report.kept / 60:.2f} minutes, out of "
        f"{len(report.recordings)} recordings of {report.recorded / 60:.2f} minutes "
        f"with {report.speech / 60:.2f} minutes of speech"
    )
    for why, seconds in report.lost.items():
        first = next(r for r in report.recordings if why in r["lost"])
        at = next((at[0] for at in first["lost_at"] if at[2] == why), None)
        where = first["recording"] + ("" if at is None else f" at {at:.1f} s")
        print(f"  left out {seconds / 60:.2f} minutes of speech: {why} (first {where})")
    for name, why in report.skipped[:N_SHOWN]:
        print(f"  left out {name}: {why}")
    if len(report.skipped) > N_SHOWN:
        print(f"  and {len(report.skipped) - N_SHOWN} more files, see segmentation.json")


if __name__ == "__main__":
    run(main)
