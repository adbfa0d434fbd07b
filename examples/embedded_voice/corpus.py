"""Let the voices speak the texts: 24 kHz FLAC and transcripts, one folder a voice.

Voices take turns, so whatever is there when you stop is a fair sample of the whole. Killed and
started again it goes on where it was; the same seed gives the same sounds. Several may run at once
on different voices.

Example: python examples/embedded_voice/corpus.py --clips 16000 --voices heart joe
"""

from __future__ import annotations

import csv
import functools
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice.texts import ROOT, read_texts
from examples.embedded_voice.voices import (
    CHUNK,
    HELD_OUT_VOICES,
    SAMPLE_RATE,
    VOICES,
    Voice,
    named,
    schedule,
)
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import atomic, require_free_disk
from ttscommon.manifest import Clip, read_manifest, read_records, write_manifest
from ttscommon.seeds import seed_for
from ttscommon.workspace import Speaker

log = logging.getLogger(__name__)
LANGUAGE = "en-us"  # espeak-ng's name of it
CLIP_BYTES = 150_000  # of a clip of 5 s, for the check of the disk
HELD_OUT = ("hard", "plain")
PACKAGES = Path("checkpoints/packages")
SpeakAll = Callable[[Voice, Sequence[str], int], Sequence[Any]]  # texts and a seed to sounds (S,)


@dataclass(frozen=True)
class Job:
    """Texts that one voice says in a row.

    Attributes:
        folder: gets `dataset/audio`, `dataset/transcripts.csv` and `spoken.jsonl`
    """

    voice: Voice
    name: str
    folder: Path
    texts: tuple[tuple[str, str], ...]  # (id, text)


def training_jobs(texts: Sequence[tuple[str, str]], root: Path) -> list[Job]:
    """All chunks in the order of the schedule."""
    chunks = [tuple(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
    return [
        Job(voice, f"chunk {i}", Speaker(voice.name, root).folder, chunk)
        for i, (voice, chunk) in enumerate(zip(schedule(len(chunks)), chunks, strict=True))
    ]


def held_out_jobs(root: Path) -> list[Job]:
    """The held-out texts by the voices that the trained one is compared with."""
    return [
        Job(voice, kind, root / "heldout" / kind / voice.name, tuple(chunk))
        for voice in named(HELD_OUT_VOICES)
        for kind in HELD_OUT
        for chunk in _chunks(read_texts(root / "texts" / f"{kind}.csv"))
    ]


def _chunks(texts: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    return (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))


class Spoken:
    """What a voice has said so far: the manifest and the transcripts of its folder."""

    def __init__(self, folder: Path, voice: Voice, seed: int):
        self.folder = folder
        how = {name: value for name, value in asdict(voice).items() if name != "chunks"}
        self.settings = {"voice": how, "seed": seed}
        self.manifest = folder / "spoken.jsonl"
        self.clips: dict[str, Clip] = {}
        if not self.manifest.is_file():
            return
        header = read_records(self.manifest)[0]
        if {name: header.get(name) for name in self.settings} != self.settings:
            what = f"{voice.name} spoke with other settings before"
            raise UserError(what, where=self.manifest, fix="remove the folder, or use its settings")
        self.clips = {clip.id: clip for clip in read_manifest(self.manifest)}

    def has(self, job: Job) -> bool:
        """Whether all of it was said.

        Raises:
            UserError: if another text was said instead
        """
        for name, text in job.texts:
            if name in self.clips and self.clips[name].text != text:
                fix = "the texts changed: remove the folder"
                raise UserError(f"clip {name} says something else", where=self.manifest, fix=fix)
        return all(name in self.clips for name, _ in job.texts)

    def add(self, clips: Sequence[Clip]) -> None:
        self.clips.update((clip.id, clip) for clip in clips)
        ordered = [self.clips[name] for name in sorted(self.clips)]
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("audio_path", "text"))
        writer.writerows((clip.audio.removeprefix("dataset/"), clip.text) for clip in ordered)
        with atomic(self.folder / "dataset/transcripts.csv") as draft:
            draft.write_text(table.getvalue(), encoding="utf-8")
        write_manifest(self.manifest, ordered, **self.settings)


def speak(jobs: Sequence[Job], speak_all: SpeakAll, seed: int) -> None:
    """Say what hasn't been said yet; a line of progress for every chunk."""
    said = {job.folder: Spoken(job.folder, job.voice, seed) for job in jobs}
    todo = [job for job in jobs if not said[job.folder].has(job)]
    for i, job in enumerate(todo, 1):
        began = time.process_time()
        # A chunk's name is its first text's id: the seed doesn't depend on what else was said.
        own_seed = seed_for(seed, job.voice.name, job.texts[0][0]) % 2**31
        sounds = speak_all(job.voice, [text for _, text in job.texts], own_seed)
        clips = []
        for (name, text), sound in zip(job.texts, sounds, strict=True):
            audio = f"dataset/audio/{name}.flac"
            _save_flac(job.folder / audio, sound)
            seconds = round(len(sound) / SAMPLE_RATE, 3)
            clips.append(Clip(name, audio, text, seconds, job.voice.name, LANGUAGE, name))
        said[job.folder].add(clips)
        seconds = sum(clip.duration for clip in clips)
        log.info(
            "%4d/%d  %-12s %-10s %5.1f s said  %.3f s of processor per second",
            *(i, len(todo), job.voice.name, job.name, seconds),
            (time.process_time() - began) / seconds,
        )


def _save_flac(path: Path, sound: Any) -> None:
    import soundfile  # --help needs no codec

    with atomic(path) as draft, draft.open("wb") as file:
        soundfile.write(file, sound, SAMPLE_RATE, subtype="PCM_16", format="FLAC")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--root", type=Path, default=ROOT, help="holds texts/, gets the voices")
    data.add_argument("--clips", type=int, default=16000, help="say the first so many texts")
    data.add_argument(
        "--voices",
        nargs="+",
        default=[],
        choices=[voice.name for voice in VOICES],
        metavar="NAME",
        help="only these (default: all)",
    )
    data.add_argument("--seed", type=int, default=0, help="names every noise")
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--packages",
        type=Path,
        default=PACKAGES,
        help="folder with the engines' packages, see README.md",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    texts = read_texts(args.root / "texts" / "training.csv")
    if args.clips > len(texts):
        fix = "texts.py --training, with a higher number"
        raise UserError(f"there are {len(texts)} texts, not {args.clips}", fix=fix)
    from examples.embedded_voice.engines import speak_all  # onnxruntime loads here

    require_free_disk(args.root, args.clips * CLIP_BYTES)
    wanted = {voice.name for voice in named(args.voices)}
    jobs = [*held_out_jobs(args.root), *training_jobs(texts[: args.clips], args.root)]
    mine = [job for job in jobs if job.voice.name in wanted]
    speak(mine, functools.partial(speak_all, packages=args.packages), args.seed)
    names = list(dict.fromkeys(job.voice.name for job in mine))
    print(f"Spoken: {args.root}")
    print(
        f"Next: python tools/lewm_preprocess.py --training-root {args.root} "
        f"--language {LANGUAGE} --speaker {' '.join(names)}"
    )


if __name__ == "__main__":
    run(main)
