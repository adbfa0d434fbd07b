"""Write down what is said in every clip, word for word, with pauses and fillers.

For training/<speaker>/dataset/clips (or dataset/audio, where nothing was cut) it writes
dataset/transcripts_verbatim.csv, words.json with the time of each word, transcription_stats.json.
Texts in transcripts.csv, metadata.csv and .txt or .lab files beside recordings stand instead of
what Whisper hears, and so does what you correct in transcripts_verbatim.csv, as long as the clip's
sound is the same; a text that you empty leaves its clip out. A run that was stopped goes on where
it was. With --audio-dir alone, the files go beside the recordings.

Whisper leaves out many fillers; what is counted is what it writes.

Example: python tools/transcribe_dataset.py --speaker ozzy --whisper-model base --language en
Example: python tools/transcribe_dataset.py --audio-dir my/clips --output-dir my/dataset
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import (
    Parser,
    add_config_flags,
    add_device,
    add_overwrite,
    add_training_root,
    given,
    run,
)
from ttscommon.clip_config import VerbatimConfig
from ttscommon.config import from_dict
from ttscommon.workspace import Speaker, speaker_flags

if TYPE_CHECKING:
    from ttscommon.verbatim import VerbatimReport

MARKS = ("min_pause", "long_pause", "fillers", "marked_text")
N_SHOWN = 5


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, text, output, machine = map(
        parser.add_argument_group, ("data", "text", "output", "machine")
    )
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--audio-dir", type=Path, help="clips (default: the speaker's)")
    text.add_argument(
        "--whisper-model", "-m", "-w", default=VerbatimConfig().whisper_model,
        help="Whisper name, .pt file or CTranslate2 folder",
    )  # fmt: skip
    text.add_argument("--language", "-l", help="spoken in the clips (default: recognised)")
    add_config_flags(text, VerbatimConfig, MARKS)
    output.add_argument(
        "--output-dir", type=Path, help="folder for the files (default: the speaker's)"
    )
    output.add_argument(
        "--skip-existing", action="store_true", help="leave clips alone that have a row already"
    )
    add_overwrite(output)
    add_device(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if speaker is None and args.audio_dir is None:
        parser.error("give --speaker NAME or --audio-dir FOLDER")
    config = from_dict(VerbatimConfig, given(args, VerbatimConfig))
    from ttscommon.hearing import Ear  # torch loads here
    from ttscommon.transcribe import identity, load_transcriber
    from ttscommon.verbatim import Desk, transcribe_clips

    model = config.whisper_model
    ear = Ear(identity(model), lambda: load_transcriber(model, args.device))
    desk = Desk.of(speaker, args.audio_dir, args.output_dir)
    report = transcribe_clips(
        desk, config, ear, skip_existing=args.skip_existing, overwrite=args.overwrite
    )
    show(report)
    print(f"Saved {desk.table}, {desk.words.name} and {desk.stats.name}")
    flags = speaker_flags([speaker]) if speaker and not args.audio_dir else []
    flags = flags or ["--audio-dir", str(desk.clips), "--transcripts", str(desk.table)]
    print(f"Next: {shlex.join(['python', 'tools/validate_dataset.py', *flags])}")


def show(report: VerbatimReport) -> None:
    """How much was heard, and whose texts count."""
    stats = report.stats
    print(
        f"{stats['clips']} clips, {stats['seconds'] / 60:.2f} minutes, {stats['words']} words in "
        f"{stats['language']}, {stats['num_pauses']} pauses ({stats['num_long_pauses']} long), "
        f"{stats['num_fillers']} fillers"
    )
    written, corrected = (report.sources.get(name, 0) for name in ("written", "corrected"))
    if written or corrected:
        rate = stats["word_error_rate_by_hand"]
        differs = "" if rate is None else f"; Whisper hears {rate:.1%} of their words otherwise"
        print(
            f"{written} texts written by hand and {corrected} corrected by hand stay as they "
            f"are{differs}"
        )
    for name, why in list(report.dropped.items())[:N_SHOWN]:
        print(f"  what you wrote about {name} isn't in the table: {why}")
    if len(report.dropped) > N_SHOWN:
        print(f"  and about {len(report.dropped) - N_SHOWN} more")
    for why, count in Counter(why for _, why in report.left_out).most_common():
        first = next(name for name, reason in report.left_out if reason == why)
        print(f"  left out {count} x {why} ({first})")


if __name__ == "__main__":
    run(main)
