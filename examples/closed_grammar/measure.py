"""Measure a LeWM voice on sentences it never saw: words, lengths, alignment, sound.

Every held-out text is said from the text alone, then transcribed by Whisper. The recordings and
their copies through the autoencoder are transcribed too: they are the ceiling. Texts three times
as long are said in one piece.

Example: python examples/closed_grammar/measure.py --whisper checkpoints/whisper-base
"""

from __future__ import annotations

import logging
import platform
import sys
import time
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run
from ttscommon.files import write_json
from ttscommon.workspace import TRAINING_ROOT, Speaker

log = logging.getLogger(__name__)
FORMAT, VERSION = "voxtune.closed_grammar", 1
ROWS = (
    ("n", "texts", "{:.0f}"),
    ("wer", "word error rate", "{:.1%}"),
    ("length_ratio", "length ratio, mean", "{:.3f}"),
    ("length_ratio_min", "length ratio, shortest", "{:.3f}"),
    ("length_ratio_max", "length ratio, longest", "{:.3f}"),
    ("early_stops", "early stops (< 0.8)", "{:.0f}"),
    ("runaways", "runaways", "{:.0f}"),
    ("mel_dtw", "mel-DTW, nats", "{:.3f}"),
    ("diagonality", "alignment diagonality", "{:.3f}"),
    ("monotonicity", "alignment monotonicity", "{:.3f}"),
    ("coverage", "alignment coverage", "{:.3f}"),
)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", default="grammar", help="folder name under training/")
    data.add_argument(
        "--training-root", type=Path, default=TRAINING_ROOT, help="where the speakers' folders are"
    )
    data.add_argument("--checkpoint", type=Path, help="instead of the speaker's best one")
    data.add_argument("--held-out", type=Path, help="instead of training/<speaker>/heldout")
    data.add_argument("--limit", type=int, help="measure only the first so many of each kind")
    data.add_argument("--long", action=BooleanOptionalAction, default=True, help="long texts too")
    data.add_argument(
        "--ceiling", action=BooleanOptionalAction, default=True, help="recordings and copies too"
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--whisper-model", "--whisper", default="base", help="name, .pt file or CTranslate2 folder"
    )
    machine.add_argument("--vocoder", default="auto", help="auto, griffinlim or vocos:FOLDER")
    machine.add_argument("--device", default="auto", help="auto, cpu or cuda")
    machine.add_argument("--seed", type=int, default=0, help="names the noise of the flow head")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, help="also write all numbers and texts to this file")
    output.add_argument("--output-dir", type=Path, help="also write what was said into this folder")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    speaker = Speaker(args.speaker, args.training_root)
    args.checkpoint = args.checkpoint or speaker.lewm.folder
    args.held_out = args.held_out or speaker.folder / "heldout"
    result = measure(args)
    if args.json is not None:
        write_json(args.json, result)
    print(table(result))


def measure(args: Any) -> dict[str, Any]:
    """All numbers of one checkpoint, as JSON."""
    from examples.closed_grammar import evaluation  # torch loads here, so --help stays instant
    from lewm.inference_engine import Engine
    from ttscommon import audio
    from ttscommon.transcribe import load_transcriber

    engine = Engine(args.checkpoint, device=args.device, vocoder=args.vocoder)
    transcriber = load_transcriber(args.whisper_model, args.device)
    rate = engine.recipe.sample_rate
    result = describe(args, engine)

    def judge(name: str, said: list, recordings: list) -> None:
        heard = evaluation.listen(said, transcriber, rate, name)
        result["scores"][name] = evaluation.score(said, recordings, heard)
        result["texts"][name] = evaluation.details(said, recordings, heard)
        if args.output_dir is not None:
            for i, utterance in enumerate(said, 1):
                audio.save(args.output_dir / name / f"{i:03d}.wav", utterance.audio, rate)

    recordings = evaluation.read_held_out(args.held_out, engine, args.limit)
    if args.ceiling:
        judge("recordings", recordings, recordings)
        judge("copies", evaluation.copy(engine, recordings), recordings)
    started = time.perf_counter()
    said = evaluation.speak(engine, recordings, args.seed)
    seconds = sum(len(utterance.audio) for utterance in said) / rate
    result["real_time_factor"] = (time.perf_counter() - started) / seconds
    judge("spoken", said, recordings)
    if args.long:
        recordings = evaluation.read_long(args.held_out, engine, args.limit)
        if args.ceiling:
            judge("long recordings", recordings, recordings)
        judge("long spoken", evaluation.speak(engine, recordings, args.seed), recordings)
    return result


def describe(args: Any, engine: Any) -> dict[str, Any]:
    """What was measured, with what, and where."""
    import torch

    model = engine.model
    return {
        "format": FORMAT,
        "version": VERSION,
        "checkpoint": str(args.checkpoint),
        "preset": model.config.preset,
        "head": model.config.head,
        "text_form": model.config.text_form,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "step": engine.info.step,
        "training": engine.info.training,
        "vocoder": engine.vocoder.name,
        "whisper": str(args.whisper_model),
        "seed": args.seed,
        "machine": {
            "device": str(engine.device),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "scores": {},
        "texts": {},
    }


def table(result: dict[str, Any]) -> str:
    """The scores as Markdown, one column for each kind of speech."""
    scores = result["scores"]
    lines = [["", *scores]]
    for key, label, shape in ROWS:
        cells = [shape.format(column[key]) if key in column else "-" for column in scores.values()]
        lines.append([label, *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    rows = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in lines
    ]
    title = f"{result['preset']}, step {result['step']}, vocoder {result['vocoder']}"
    return "\n".join([title, "", *rows])


if __name__ == "__main__":
    run(main)
