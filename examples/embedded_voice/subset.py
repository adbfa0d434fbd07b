"""Balanced material for the autoencoder: the first clips of each voice, so that none rules.

One voice says half of the corpus; copying needs many voices more than many words. Kokoro's are left
out, so that there are voices left which the autoencoder never heard. Clips are hard links where
the disk can.

Example: python examples/embedded_voice/subset.py --clips 320
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice.corpus import LANGUAGE
from examples.embedded_voice.texts import ROOT
from examples.embedded_voice.voices import VOICES
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.workspace import Speaker

HEARD = tuple(voice.name for voice in VOICES if voice.engine != "kokoro")
UNHEARD = tuple(voice.name for voice in VOICES if voice.engine == "kokoro")


def take(source: Speaker, target: Speaker, n_clips: int) -> None:
    """The first clips of a voice, with their texts, as a speaker of its own.

    Raises:
        UserError: if the voice said less
    """
    if not source.transcripts.is_file():
        fix = "python examples/embedded_voice/corpus.py --help"
        raise UserError("this voice hasn't spoken", where=source.transcripts, fix=fix)
    with source.transcripts.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:n_clips]
    if len(rows) < n_clips:
        what = f"{source.name} said {len(rows)} texts, not {n_clips}"
        raise UserError(what, where=source.transcripts, fix=f"--clips {len(rows)}")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("audio_path", "text"))
    for row in rows:
        _link(source.dataset / row["audio_path"], target.dataset / row["audio_path"])
        writer.writerow((row["audio_path"], row["text"]))
    with atomic(target.transcripts) as draft:
        draft.write_text(table.getvalue(), encoding="utf-8")


def _link(path: Path, place: Path) -> None:
    with atomic(place) as draft:
        try:
            os.link(path, draft)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, draft)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--root", type=Path, default=ROOT, help="holds the voices, gets ae/")
    data.add_argument("--clips", type=int, default=320, help="of each voice")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    root = args.root / "ae"
    for name in HEARD:
        take(Speaker(name, args.root), Speaker(name, root), args.clips)
    print(f"{len(HEARD)} voices of {args.clips} clips: {root}")
    print(
        f"Next: python tools/lewm_preprocess.py --training-root {root} --language {LANGUAGE} "
        f"--transcribe never --speaker {' '.join(HEARD)}"
    )


if __name__ == "__main__":
    run(main)
