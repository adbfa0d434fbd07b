"""How fast, how clear and how good: the embedded voice beside other engines, in one run.

Each says the same held-out sentences one by one, from the text to a wave file, on one thread.
Processor time counts, its own and that of the commands it calls; loading doesn't. Whisper and
DNSMOS judge what came out.

Example: python examples/embedded_voice/benchmark.py --whisper-model checkpoints/whisper-base
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice.measure import FORMAT, MEASURED, READINGS, VERSION
from examples.embedded_voice.texts import ROOT, read_texts
from examples.embedded_voice.voices import SAMPLE_RATE, named
from lewm.embedded_voice import EMBEDDED_SPEAKER, EMBEDDED_VOICE
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import write_json

ESPEAK = ("espeak-ng", "-v", "en-us", "--stdin", "-w")
OTHERS = ("heart", "joe", "kumo", "slt")
TITLES = {
    "heart": "hibari, heart",
    "joe": "Piper's VITS, joe",
    "kumo": "Kokoro-82M int8, kumo",
    "slt": "flite, slt",
    "espeak": "espeak-ng, en-us",
}
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WARM_UP = "None of the sentences that are measured."
Say = Callable[[str, Path], None]  # a text into a wave file


@dataclass(frozen=True)
class Said:
    """What an engine said, and what it took.

    Attributes:
        sounds: (S,) each, at SAMPLE_RATE
        processor: seconds of processor time for all of them
    """

    sounds: list[Any]
    processor: float


def processor_seconds() -> float:
    """User and system time of this process and of the commands it has finished."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def say_all(say: Say, texts: Sequence[str]) -> Said:
    """Every text to a file, and another one before, so that everything is loaded."""
    from ttscommon import audio

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        paths = [Path(folder, f"{i}.wav") for i in range(len(texts))]
        say(WARM_UP, Path(folder, "warm-up.wav"))
        began = processor_seconds()
        for text, path in zip(texts, paths, strict=True):
            say(text, path)
        spent = processor_seconds() - began
        return Said([audio.load(path, SAMPLE_RATE) for path in paths], spent)


def embedded(checkpoint: Path, speaker: str, reading: Any, vocoder: str) -> Say:
    """The embedded voice, as tools/lewm_infer.py speaks with it."""
    from lewm.generation import Request
    from lewm.inference_engine import Engine
    from ttscommon import audio

    engine = Engine(checkpoint, device="cpu", vocoder=vocoder)

    def say(text: str, path: Path) -> None:
        (speech,) = engine.synthesize([Request(text=text, speaker=speaker, reading=reading)])
        audio.save(path, speech.audio, speech.sample_rate)

    return say


def other(name: str, packages: Path) -> Say:
    """A voice of the corpus by its own engine, at the engine's own pace."""
    from examples.embedded_voice.engines import ESPEAK_VOICE, engine
    from lewm.text import phonemes
    from ttscommon import audio

    (voice,) = named([name])
    speak = engine(voice, packages, 0)

    def say(text: str, path: Path) -> None:
        ipa = "" if voice.engine == "flite" else phonemes(text, ESPEAK_VOICE)
        audio.save(path, speak(text, ipa, 0), SAMPLE_RATE)

    return say


def espeak(text: str, path: Path) -> None:
    """espeak-ng's own voice.

    Raises:
        UserError: if the command can't be run
    """
    try:
        subprocess.run([*ESPEAK, str(path)], input=text.encode(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError("can't run espeak-ng", fix="apt-get install espeak-ng") from error


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--checkpoint", type=Path, default=EMBEDDED_VOICE, help="the embedded voice")
    data.add_argument("--speaker", default=EMBEDDED_SPEAKER, help="who of it speaks")
    data.add_argument(
        "--readings", nargs="*", default=READINGS, choices=READINGS, help="as what it reads"
    )
    data.add_argument("--root", type=Path, default=ROOT, help="holds texts/")
    data.add_argument("--texts", type=int, default=10, help="plain, and as many hard sentences")
    data.add_argument("--others", nargs="*", default=OTHERS, help="voices of the corpus")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--packages", type=Path, default=Path("checkpoints/packages"),
                         help="folder with the engines' packages, see README.md")  # fmt: skip
    machine.add_argument(
        "--whisper-model", "-w", default="base", help="name, .pt or CTranslate2 folder"
    )
    machine.add_argument("--vocoder", default="griffinlim", help="of the embedded voice")
    output = parser.add_argument_group("output")
    output.add_argument("--kept", type=Path, help="what was heard (default: in --root)")
    output.add_argument(
        "--json", type=Path, default=MEASURED / "benchmark.json", help="numbers go here"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    for name in ONE_THREAD:  # read when the libraries load
        os.environ[name] = "1"
    texts = {
        kind: [text for _, text in read_texts(args.root / "texts" / f"{kind}.csv")[: args.texts]]
        for kind in ("plain", "hard")
    }
    rows = compare(args, texts)
    found = {
        "format": FORMAT,
        "version": VERSION,
        "what": "benchmark",
        "n_texts": sum(map(len, texts.values())),
        "processor": platform.machine(),
        "rows": rows,
    }
    write_json(args.json, found)
    print(table(rows))
    print(f"Numbers: {args.json}")


def compare(args: Any, texts: dict[str, list[str]]) -> list[dict[str, Any]]:
    """A row for each engine, the embedded voice's readings first."""
    import torch

    from examples.embedded_voice.hearing import Ear

    torch.set_num_threads(1)
    ear = Ear(args.whisper_model, SAMPLE_RATE, args.kept or args.root / "heard.jsonl")
    voice, vocoder = f"this voice, {args.speaker}", args.vocoder
    others: list[str] = args.others
    engines: list[tuple[str, Callable[[], Say]]] = [
        (f"{voice}, {reading}", partial(embedded, args.checkpoint, args.speaker, reading, vocoder))
        for reading in args.readings
    ]
    engines += [(TITLES.get(name, name), partial(other, name, args.packages)) for name in others]
    engines.append((TITLES["espeak"], lambda: espeak))
    return [judged(title, load(), texts, ear) for title, load in engines]


def judged(title: str, say: Say, texts: dict[str, list[str]], ear: Any) -> dict[str, Any]:
    """Speed, words and quality of one engine."""
    import numpy as np

    from examples.embedded_voice.scoring import score_words

    everything = [text for some in texts.values() for text in some]
    said = say_all(say, everything)
    heard = dict(zip(everything, ear.words(said.sounds, title), strict=True))
    seconds = sum(len(sound) for sound in said.sounds) / SAMPLE_RATE
    return {
        "engine": title,
        "seconds": seconds,
        "processor_seconds": said.processor,
        "real_time_factor": said.processor / seconds,
        "dnsmos": float(np.mean(ear.quality(said.sounds, title))),
        **{
            f"wer_{kind}": score_words(some, [heard[text] for text in some])["wer"]
            for kind, some in texts.items()
        },
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    from examples.embedded_voice.measure import percent

    kinds = [name.removeprefix("wer_") for name in rows[0] if name.startswith("wer_")]
    heads = ["engine", "real-time factor", "DNSMOS", *(f"WER, {kind}" for kind in kinds)]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        errors = [percent(row[f"wer_{kind}"]) for kind in kinds]
        speed = f"{row['real_time_factor']:.3f}"
        lines.append([row["engine"], speed, f"{row['dnsmos']:.2f}", *errors])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    run(main)
