"""Look for what a training would suffer from: in every clip, in its text, and in both together.

Per clip: length, loudness, clipping, noise, silence or speech at its very ends, copies, letters a
second, and on request words that a recogniser hears otherwise or a tokenizer doesn't know. Writes
dataset/validation.json and validation.html, where one listens to the clips with faults.
Exit code 2 with --strict, if anything was found.

Example: python tools/validate_dataset.py --speaker ozzy --whisper-model base
Example: python tools/validate_dataset.py --audio-dir my/clips --transcripts my/metadata.csv
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_device, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.workspace import DatasetFolder, Speaker, speaker_flags

if TYPE_CHECKING:
    from ttscommon.second_opinion import SecondOpinion
    from ttscommon.validation import Validation

EXIT_STRICT = 2
N_SHOWN = 10


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, checks, output, machine = map(
        parser.add_argument_group, ("data", "checks", "output", "machine")
    )
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--audio-dir", type=Path, help="clips (default: the speaker's)")
    data.add_argument(
        "--transcripts", type=Path, help="table of their texts (default: what lies beside them)"
    )
    checks.add_argument(
        "--whisper-model", "-m", help="compare texts with what this Whisper hears: name or file"
    )
    checks.add_argument("--language", "-l", help="spoken in the clips (default: recognised)")
    checks.add_argument(
        "--tokenizer", type=Path, help="SentencePiece model that has to know every character"
    )
    checks.add_argument("--strict", action="store_true", help="exit with 2 if anything was found")
    output.add_argument(
        "--output-dir", type=Path, help="folder for the files (default: the speaker's)"
    )
    add_device(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if speaker is None and args.audio_dir is None:
        parser.error("give --speaker NAME or --audio-dir FOLDER")
    from tqdm import tqdm

    from ttscommon.audio import find_audio  # torch loads here
    from ttscommon.exclusions import read_exclusions
    from ttscommon.validation import validate
    from ttscommon.validation_page import write_page

    folder = args.audio_dir or (speaker.clips_folder if speaker else Path())
    excluded = read_exclusions(folder)
    clips = {path.relative_to(folder).as_posix(): path for path in find_audio(folder)}
    clips = {name: path for name, path in clips.items() if name not in excluded.clips}
    if not clips:
        what = f"no clips to validate{excluded.remark()}"
        raise UserError(what, where=folder, fix="put recordings there")
    texts, orphans = _texts(args, speaker, folder)
    unknown = _unknown(args.tokenizer) if args.tokenizer else None
    output = args.output_dir or (speaker.dataset if speaker and not args.audio_dir else folder)
    opinion = _opinion(args, clips, texts, speaker, output)
    with closing(tqdm(total=len(clips), unit="clip", disable=None, leave=False)) as bar:
        found = validate(
            clips,
            texts,
            orphans=orphans,
            heard=opinion.heard,
            unknown=unknown,
            notes=[*excluded.notes(), *_on_texts(args, speaker), *opinion.notes],
            on_clip=lambda: bar.update(),
        )
    found.write(DatasetFolder(output).validation)
    title = f"The recordings of {speaker.name}" if speaker else f"The clips in {folder.name}"
    write_page(found, clips, DatasetFolder(output).validation_page, title)
    show(found)
    print(f"Saved {DatasetFolder(output).validation_page} and validation.json")
    if speaker and not args.audio_dir:
        flags = shlex.join(speaker_flags([speaker]))
        print(f"Next: python tools/prepare_lora_dataset.py {flags}   # or lewm_preprocess.py")
    return EXIT_STRICT if args.strict and not found.is_clean else 0


def show(found: Validation) -> None:
    """What was found, the worst clips first."""
    seconds = sum(clip.sound.seconds for clip in found.clips)
    print(f"{len(found.clips)} clips, {seconds / 60:.2f} minutes, {len(found.faulty)} with faults")
    for note in found.notes:
        print(f"Note: {note}")
    for name, count in found.counts.items():
        print(f"  {count} x {name}")
    if len(found.sample_rates) > 1:
        print(
            "  sample rates: " + ", ".join(f"{n} x {r:,} Hz" for r, n in found.sample_rates.items())
        )
    if found.orphans:
        print(f"  {len(found.orphans)} texts without a clip, for example {found.orphans[0]}")
    for clip in found.faulty[:N_SHOWN]:
        print(f"{clip.name}: " + "; ".join(f"{fault.name}: {fault.what}" for fault in clip.faults))


def _texts(
    args: argparse.Namespace, speaker: Speaker | None, folder: Path
) -> tuple[dict[str, str], list[str]]:
    """{clip: text}, and the rows that fit no clip."""
    from ttscommon.transcripts import clip_texts, texts_in, unmatched_texts

    if speaker is not None and args.audio_dir is None and args.transcripts is None:
        return clip_texts(speaker), unmatched_texts(speaker)
    return texts_in(folder, args.transcripts)


def _on_texts(args: argparse.Namespace, speaker: Speaker | None) -> list[str]:
    """What to know about texts by hand that can't be used."""
    from ttscommon.transcripts import note_on_pieces

    if speaker is None or args.audio_dir is not None or args.transcripts is not None:
        return []
    note = note_on_pieces(speaker)
    return [note] if note else []


def _unknown(tokenizer: Path) -> Callable[[str], list[str]]:
    """What a tokenizer doesn't know of a text as IndexTTS2 reads it."""
    from indextts.frontend.text import PAUSE
    from indextts.frontend.tokenizer import TextTokenizer

    known = TextTokenizer(tokenizer)

    def unknown(text: str) -> list[str]:
        pieces = known.pieces(PAUSE.sub(" ", text))
        ids = known.ids(pieces)
        return [p.strip("▁") for p, i in zip(pieces, ids, strict=True) if i == known.unknown_id]

    return unknown


def _opinion(
    args: argparse.Namespace,
    clips: dict[str, Path],
    texts: dict[str, str],
    speaker: Speaker | None,
    output: Path,
) -> SecondOpinion:
    """What Whisper hears, if it was asked for."""
    from ttscommon.second_opinion import SecondOpinion, ask

    if args.whisper_model is None:
        return SecondOpinion(language=args.language or "en")
    from ttscommon.hearing import Ear
    from ttscommon.transcribe import identity, load_transcriber

    model = args.whisper_model
    ear = Ear(identity(model), lambda: load_transcriber(model, args.device))
    told_in = args.transcripts.parent if args.transcripts else output
    if speaker is not None and not args.audio_dir and not args.transcripts:
        told_in = speaker.dataset
    return ask(ear, clips, texts, args.language, told_in=told_in, output=output)


if __name__ == "__main__":
    run(main)
