"""Speak a file of texts in large batches, or measure how fast that goes.

Example: python tools/lewm_engine.py --speaker ozzy --text-file lines.txt
Example: python tools/lewm_engine.py --preset base --benchmark --threads 1
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_device, add_json, add_overwrite, add_training_root, run
from ttscommon.files import write_json
from ttscommon.outputs import read_texts, require_new, speech_paths
from ttscommon.workspace import Speaker, resolve_checkpoint

STAGES = ("predictor", "decoder", "vocoder")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--checkpoint", type=Path, help="checkpoint (default: the speaker's best)")
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    voice = parser.add_argument_group("voice")
    voice.add_argument("--voice", help="voice of a checkpoint with several (default: --speaker)")
    voice.add_argument("--language", help="row of its language table")
    voice.add_argument("--prompt-audio", type=Path, help="clip that every text goes on from")
    voice.add_argument("--prompt-text", help="what is said in it")
    voice.add_argument("--seed", type=int, default=0, help="names the noise, head flow only")
    measure = parser.add_argument_group("benchmark")
    measure.add_argument("--benchmark", action="store_true", help="measure instead of speaking")
    measure.add_argument("--preset", help="random weights of a preset: tiny, small or base")
    measure.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 64], help="to try")
    measure.add_argument("--seconds", type=float, default=5.0, help="of audio in each row")
    measure.add_argument("--repeats", type=int, default=3, help="the median of them counts")
    measure.add_argument("--cache-seconds", type=float, default=10.0, help="for the cache's gain")
    measure.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                         help="cpu: processor time, for a machine with other work")  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", type=Path, help="folder for speech (default: speaker's)")
    add_overwrite(output)
    add_json(output, "measured")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--batch-size", type=int, default=64, help="sentences at once")
    machine.add_argument("--vocoder", default="auto", help="auto, griffinlim or vocos:FOLDER")
    add_device(machine)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no", help="precision")
    machine.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    machine.add_argument("--compile", action="store_true", help="fuse the step; minutes to start")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if not any((speaker, args.checkpoint, args.preset)):
        parser.error("say whose voice: --speaker NAME, --checkpoint FOLDER or --preset NAME")
    if not args.benchmark and (args.text_file is None or args.preset is not None):
        parser.error("to speak give --text-file FILE and a voice; to measure, --benchmark")
    voice = args.checkpoint or (speaker.lewm.best_checkpoint if speaker else None)
    args.checkpoint = resolve_checkpoint(voice) if voice else None
    require_new([args.json] if args.json else [], overwrite=args.overwrite)
    if args.benchmark:
        report = _benchmark(_engine(args), args)
    else:
        texts = read_texts(args.text_file)
        folder = args.output_dir or (speaker.outputs if speaker else Path())
        paths = speech_paths(texts, folder, "lewm")
        require_new(paths, overwrite=args.overwrite)
        report = _speak(_engine(args), args, texts, paths)
    if args.json:
        write_json(args.json, report)
        print(f"Saved {args.json}")


def _engine(args: argparse.Namespace):
    import torch

    from lewm.benchmark import random_voice
    from lewm.inference_engine import PRECISIONS, Engine, GenerationSettings

    if args.threads:
        torch.set_num_threads(args.threads)
    return Engine(
        args.checkpoint or random_voice(args.preset),
        device=args.device,
        dtype=PRECISIONS[args.amp],
        vocoder=args.vocoder,
        compile=args.compile,
        settings=GenerationSettings(batch_size=args.batch_size),
        clock=time.process_time if args.clock == "cpu" else time.perf_counter,
    )


def _speak(engine, args: argparse.Namespace, texts: list[str], paths: list[Path]) -> dict:
    from lewm.generation import Request
    from lewm.outputs import speak_to_files
    from ttscommon import audio

    prompt = audio.load(args.prompt_audio, engine.recipe.sample_rate) if args.prompt_audio else None
    requests = [
        Request(
            text=text,
            speaker=engine.voice(args.voice, args.speaker),
            language=args.language,
            prompt_audio=prompt,
            prompt_text=args.prompt_text,
            seed=args.seed,
        )
        for text in texts
    ]
    start, seconds, n_runaways = time.perf_counter(), 0.0, 0
    for path, speech in speak_to_files(engine, requests, paths):
        print(f"{path}  {speech.duration:.2f} s{'  RAN AWAY' if speech.ran_away else ''}")
        seconds += speech.duration
        n_runaways += speech.ran_away
    spent = time.perf_counter() - start
    print(f"{seconds:.1f} s of speech in {spent:.1f} s: RTF {spent / seconds:.4f}, "
          f"{n_runaways} runaways, vocoder {engine.vocoder.name}")  # fmt: skip
    return {"audio_seconds": seconds, "seconds": spent, "runaways": n_runaways,
            "vocoder": engine.vocoder.name, "paths": [str(path) for path in paths]}  # fmt: skip


def _benchmark(engine, args: argparse.Namespace) -> dict:
    import torch

    from lewm.benchmark import cache_gain, measure

    machine = {
        "device": str(engine.device),
        "device_name": torch.cuda.get_device_name() if engine.device.type == "cuda" else "cpu",
        "dtype": args.amp,
        "threads": torch.get_num_threads(),
        "clock": args.clock,
        "compile": args.compile,
        "preset": engine.model.config.preset,
        "vocoder": engine.vocoder.name,
        "torch": torch.__version__,
    }
    print("  ".join(f"{name} {value}" for name, value in machine.items()))
    print("real-time factors: seconds of work per second of audio, all rows together")
    print(f"{'batch':>6} {'audio s':>8} {'predictor':>10} {'decoder':>10} {'vocoder':>10} "
          f"{'all':>10} {'x real time':>12}")  # fmt: skip
    rows = []
    for timing in measure(engine, args.batch_sizes, seconds=args.seconds, repeats=args.repeats):
        row = timing.to_dict()
        stages = " ".join(f"{row[f'rtf_{stage}']:10.5f}" for stage in STAGES)
        print(f"{timing.batch_size:6d} {timing.audio:8.1f} {stages} {row['rtf']:10.5f} "
              f"{row['times_real_time']:12.1f}")  # fmt: skip
        rows.append(row)
    cache = cache_gain(engine, seconds=args.cache_seconds)
    print(f"KV cache: {cache['ratio']:.1f} times faster than full passes over "
          f"{args.cache_seconds:g} s of speech "
          f"({cache['with_cache']:.2f} s, {cache['without_cache']:.2f} s)")  # fmt: skip
    return {"machine": machine, "timings": rows, "cache": cache}


if __name__ == "__main__":
    run(main)
