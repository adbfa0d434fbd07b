"""Make a corpus without a network: Piper speaks the closed grammar.

Piper runs as a command of its own (it is GPL; nothing of it is imported here), so give its
command and a voice. Killed and started again, it goes on where it was.

Example: python examples/closed_grammar/corpus.py --piper piper --voice en_US-joe-medium.onnx
"""

from __future__ import annotations

import csv
import logging
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.closed_grammar import grammar
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.workspace import TRAINING_ROOT, Speaker

log = logging.getLogger(__name__)
SAMPLE_RATE = 24000
LONG_TEXTS = "long.csv"
BATCH = 50  # sentences for one start of Piper


@dataclass(frozen=True)
class Piper:
    """How to run Piper, and how it speaks. Low noise gives a clean, even voice."""

    command: str
    voice: Path
    noise: float
    timing_noise: float
    length_scale: float

    def speak(self, texts: Sequence[str], folder: Path) -> list[Path]:
        """Speak every text into `folder`; returns one wave file a text, in order.

        Raises:
            UserError: if Piper can't be started or gives up
        """
        lines = folder / "texts.txt"
        lines.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = [*shlex.split(self.command), "--model", str(self.voice)]
        command += ["--input-file", str(lines), "--output-dir", str(folder)]
        command += ["--noise-scale", str(self.noise), "--noise-w-scale", str(self.timing_noise)]
        command += ["--length-scale", str(self.length_scale)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            fix = "install piper-tts in an environment of its own; name it with --piper"
            raise UserError("can't start Piper", where=self.command, fix=fix) from error
        spoken = sorted(folder.glob("*.wav"), key=lambda path: int(path.stem))  # named by the clock
        if result.returncode or len(spoken) != len(texts):
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                f"Piper spoke {len(spoken)} of {len(texts)} texts: {last}", where=self.voice
            )
        return spoken


@dataclass(frozen=True)
class Recording:
    """A sentence and the file it is spoken in."""

    path: Path
    text: str


def record(recordings: Sequence[Recording], piper: Piper) -> None:
    """Speak what isn't on disk yet; a line of progress for every start of Piper."""
    missing = [recording for recording in recordings if not recording.path.is_file()]
    started, n_done = time.monotonic(), 0
    for batch in _batches(missing):
        with tempfile.TemporaryDirectory(prefix="piper-") as folder:
            spoken = piper.speak([recording.text for recording in batch], Path(folder))
            for recording, raw in zip(batch, spoken, strict=True):
                _resample(raw, recording.path)
        n_done += len(batch)
        left = (time.monotonic() - started) / n_done * (len(missing) - n_done)
        n_ready = len(recordings) - len(missing) + n_done
        log.info("spoken %4d/%d clips  eta %.0f s", n_ready, len(recordings), left)


def write_transcripts(path: Path, recordings: Sequence[Recording]) -> None:
    """`audio_path,text`, paths relative to the file."""
    rows = [(r.path.relative_to(path.parent).as_posix(), r.text) for r in recordings]
    _write_csv(path, ("audio_path", "text"), rows)


def write_long_texts(path: Path, recordings: Sequence[Recording]) -> None:
    """Three held-out sentences a line: `audio_paths` (with spaces between), `text`."""
    rows = []
    for group in grammar.groups(recordings):
        names = [r.path.relative_to(path.parent).as_posix() for r in group]
        rows.append((" ".join(names), " ".join(r.text for r in group)))
    _write_csv(path, ("audio_paths", "text"), rows)


def plan(sentences: Sequence[str], folder: Path) -> list[Recording]:
    """Where every sentence goes."""
    return [Recording(folder / f"{i:05d}.wav", text) for i, text in enumerate(sentences, 1)]


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", default="grammar", help="folder name under training/")
    data.add_argument(
        "--training-root", type=Path, default=TRAINING_ROOT, help="where the speakers' folders are"
    )
    data.add_argument("--training", type=int, default=1100, help="sentences to train on")
    data.add_argument("--held-out", type=int, default=60, help="sentences for the test")
    data.add_argument("--seed", type=int, default=0, help="which sentences are drawn")
    data.add_argument("--overwrite", action="store_true", help="speak everything again")
    voice = parser.add_argument_group("voice")
    voice.add_argument("--piper", default="piper", help="command that runs Piper")
    voice.add_argument("--voice", type=Path, required=True, help="a Piper voice (.onnx)")
    voice.add_argument("--noise", type=float, default=0.4, help="variation of the sound")
    voice.add_argument("--timing-noise", type=float, default=0.3, help="variation of lengths")
    voice.add_argument("--length-scale", type=float, default=0.95, help="below 1 is faster")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    if not args.voice.is_file():
        raise UserError(
            "no such voice", where=args.voice, fix="see examples/closed_grammar/README.md"
        )
    speaker = Speaker(args.speaker, args.training_root)
    held_out_folder = speaker.folder / "heldout"
    refuse_other_recordings(speaker, held_out_folder / LONG_TEXTS)
    if args.overwrite:
        for folder in (speaker.dataset, held_out_folder):
            shutil.rmtree(folder, ignore_errors=True)
    sentences = grammar.split(args.training, args.held_out, args.seed)
    held_out = plan(sentences.held_out, held_out_folder / "audio")
    training = plan(sentences.training, speaker.audio)
    refuse_other_texts(speaker.transcripts, training)
    write_transcripts(held_out_folder / "transcripts.csv", held_out)
    write_long_texts(held_out_folder / LONG_TEXTS, held_out)
    write_transcripts(speaker.transcripts, training)
    piper = Piper(args.piper, args.voice, args.noise, args.timing_noise, args.length_scale)
    record([*held_out, *training], piper)
    print(f"Training clips: {speaker.dataset}\nHeld-out clips: {held_out_folder}")
    print(f"Next: python tools/lewm_preprocess.py --speaker {args.speaker}")


def refuse_other_recordings(speaker: Speaker, ours: Path) -> None:
    """A person's recordings are neither added to nor, with --overwrite, deleted.

    Args:
        ours: a file that this script writes before any clip

    Raises:
        UserError: if the speaker has a data set but not that file
    """
    if speaker.dataset.exists() and not ours.is_file():
        what = f"'{speaker.name}' has recordings that weren't made here"
        raise UserError(what, where=speaker.dataset, fix="another --speaker")


def refuse_other_texts(path: Path, recordings: Sequence[Recording]) -> None:
    """Clips of another run would get the wrong text.

    Raises:
        UserError: if `path` lists other texts than `recordings`
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    if texts != [recording.text for recording in recordings]:
        raise UserError(
            "this corpus was made with other settings",
            where=path,
            fix="--overwrite, or another --speaker",
        )


def _batches(recordings: Sequence[Recording]) -> Iterator[Sequence[Recording]]:
    for start in range(0, len(recordings), BATCH):
        yield recordings[start : start + BATCH]


def _resample(raw: Path, path: Path) -> None:
    from ttscommon import audio  # soundfile loads here, so --help stays instant

    audio.save(path, audio.load(raw, SAMPLE_RATE), SAMPLE_RATE)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with atomic(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    run(main)
