"""Measure how fast a system speaks here, and how much memory it takes.

Example: python tools/benchmark.py indextts2 --threads 1 --diffusion-steps 4
Example: python tools/benchmark.py indextts2 --device cuda --amp bf16 --flow-dtype bf16 --compile
Example: python tools/benchmark.py indextts2-training --batch-sizes 1 4
Example: python tools/benchmark.py higgs-training --layers 1 2
Example: python tools/benchmark.py kani --threads 1 --clock cpu
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_device, add_json, add_overwrite, run
from ttscommon.errors import UserError
from ttscommon.files import write_json

ROOT = Path(__file__).resolve().parents[1]
COMPARISONS = ("memory", "batch", "flow", "vocoder", "decode")
INDEXTTS2 = """IndexTTS2, stage by stage, then in comparisons of two ways to do the same.

Weights are random and of full size unless --model-dir names a checkpoint; that changes no time.

Example: python tools/benchmark.py indextts2 --threads 1 --seconds 3 --diffusion-steps 2
Example: python tools/benchmark.py indextts2 --model-dir checkpoints/indextts2 --json speed.json
"""
TRAINING = """Training steps of IndexTTS2's adapters: clips per second and peak memory.

Weights are random; each case runs in a process of its own. The peak is beside the estimate that the
trainer prints before its first step.

Example: python tools/benchmark.py indextts2-training --threads 1 --seconds 5 --batch-sizes 1 4
Example: python tools/benchmark.py indextts2-training --device cuda --amp bf16
"""
HIGGS = """Training steps of Higgs Audio's adapters: clips per second and peak memory.

Weights are random; the network has its full width and as many layers as are asked for. Two depths
tell what all 28 layers take. Each case runs in a process of its own.

Example: python tools/benchmark.py higgs-training --threads 1 --clock cpu --layers 1 2
Example: python tools/benchmark.py higgs-training --device cuda --amp bf16 --layers 28
"""
KANI = """KaniTTS: clips prepared, the codec, and training steps in three ways.

Weights are random and in the released sizes. The language model has its full width and the last of
its layers. What is compared is done in turns; the last of each task is the public programs' way, or
as near to it as there is without NeMo. --amp is of training; the codec computes in float32.

Example: python tools/benchmark.py kani --threads 1 --clock cpu --layers 3 --repeats 3
"""
KANI_TASKS = ("codec", "prepare", "train")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    systems = parser.add_subparsers(dest="system", required=True, metavar="SYSTEM")
    _add_indextts2(systems.add_parser("indextts2", doc=INDEXTTS2, help="the IndexTTS2 base model"))
    training = systems.add_parser("indextts2-training", doc=TRAINING, help="training of adapters")
    _add_training(training)
    _add_higgs(systems.add_parser("higgs-training", doc=HIGGS, help="the same of Higgs Audio"))
    _add_kani(systems.add_parser("kani", doc=KANI, help="KaniTTS: data, codec and training"))
    return parser


def _add_indextts2(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--model-dir", type=Path, help="checkpoint folder (default: random weights)")
    data.add_argument("--preset", default="full", help="size of random weights: full or tiny")
    data.add_argument("--seed", type=int, default=0, help="names the weights and the noise")
    work = parser.add_argument_group("work")
    work.add_argument("--seconds", type=float, default=3.0, help="of audio in each segment")
    work.add_argument("--segments", type=int, default=2, help="spoken together")
    work.add_argument("--reference-seconds", type=float, default=5.0, help="of the recording")
    work.add_argument("--diffusion-steps", type=int, default=25, help="steps of the flow")
    work.add_argument("--num-beams", type=int, default=3, help="beams; 1 follows a single one")
    work.add_argument("--skip-stages", action="store_true", help="only compare")
    work.add_argument("--compare", nargs="*", choices=COMPARISONS, default=list(COMPARISONS),
                      metavar="NAME", help=f"some of {', '.join(COMPARISONS)}")  # fmt: skip
    work.add_argument("--vocoder-seconds", type=float, default=60.0, help="to vocode in chunks")
    work.add_argument("--whole-seconds", type=float, default=60.0, help="of it vocoded at once")
    machine = _add_common(parser)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no",
                         help="precision of the language model")  # fmt: skip
    machine.add_argument("--flow-dtype", choices=("fp32", "bf16"), default="fp32",
                         help="precision of the flow's estimator")  # fmt: skip
    machine.add_argument("--compile", action="store_true", help="compile the decoding step too")


def _add_training(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--preset", default="full", help="size of random weights: full or tiny")
    _add_steps(parser, data, [1, 4])


def _add_higgs(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--layers", type=int, nargs="+", default=[1, 2], metavar="N",
                      help="of the network, one case each; 0: a miniature")  # fmt: skip
    work = _add_steps(parser, data, [1])
    work.add_argument("--reference-seconds", type=float, default=5.0,
                      help="of another clip in the prompt; 0: none")  # fmt: skip


def _add_kani(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--input", type=Path, default=ROOT / "examples/sample_speaker",
                      help="recordings to use")  # fmt: skip
    data.add_argument("--clips", type=int, default=0, help="of them at most; 0: all")
    data.add_argument("--layers", type=int, default=3, help="of the 16; 0: a miniature")
    data.add_argument("--seed", type=int, default=0, help="names the weights and the clips")
    work = parser.add_argument_group("work")
    work.add_argument("--tasks", nargs="+", choices=KANI_TASKS, default=KANI_TASKS, help="which")
    work.add_argument("--seconds", type=float, default=10.0, help="of sound for the codec")
    work.add_argument("--batch-size", type=int, default=8, help="clips in a training step")
    work.add_argument("--lora-rank", "--lora-r", type=int, default=16, help="size of the adapters")
    _add_amp(_add_common(parser))


def _add_steps(parser: argparse.ArgumentParser, data: Any, batch_sizes: Sequence[int]) -> Any:
    """What all systems' training steps are measured with; returns the group of the work."""
    data.add_argument("--seed", type=int, default=0, help="names the weights and the clips")
    work = parser.add_argument_group("work")
    work.add_argument("--seconds", type=float, default=5.0, help="of audio in each clip")
    work.add_argument("--batch-sizes", type=int, nargs="+", default=batch_sizes, metavar="N",
                      help="clips in a batch, one case each")  # fmt: skip
    work.add_argument("--lora-rank", "--lora-r", type=int, default=16, help="size of the adapters")
    work.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction,
                      help="with it, or without it, alone (default: both)")  # fmt: skip
    _add_amp(_add_common(parser))
    return work


def _add_amp(machine: Any) -> None:
    machine.add_argument("--amp", choices=("no", "bf16"), default="no",
                         help="precision of the computations")  # fmt: skip


def _add_common(parser: argparse.ArgumentParser) -> Any:
    """How to measure and where to write; returns the group of the machine."""
    measure = parser.add_argument_group("measuring")
    measure.add_argument("--repeats", type=int, default=1, help="the median of them counts")
    measure.add_argument("--warmups", type=int, default=1, help="rounds before, not counted")
    measure.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                         help="cpu: processor time, for a machine with other work")  # fmt: skip
    output = parser.add_argument_group("output")
    add_overwrite(output)
    add_json(output, "measured")
    machine = parser.add_argument_group("machine")
    add_device(machine)
    machine.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    return machine


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    if args.json and args.json.exists() and not args.overwrite:
        raise UserError("exists already", where=args.json, fix="--overwrite, or another name")
    measure = {
        "indextts2": indextts2,
        "indextts2-training": indextts2_training,
        "higgs-training": higgs_training,
        "kani": kani,
    }[args.system]
    report = {"command": _command(argv), "system": args.system, **measure(args)}
    if args.json:
        write_json(args.json, report)
        print(f"Saved {args.json}")


def indextts2(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was measured, as plain data."""
    from indextts.benchmark import Benchmark, Work
    from indextts.comparisons import comparisons
    from indextts.loading import DTYPES, flow_dtype
    from indextts.random_networks import Networks

    device = _device(args)
    work = Work(
        seconds=args.seconds,
        n_segments=args.segments,
        reference_seconds=args.reference_seconds,
        n_steps=args.diffusion_steps,
        num_beams=args.num_beams,
        flow_dtype=flow_dtype(args.flow_dtype),
        repeats=args.repeats,
        warmups=args.warmups,
        seed=args.seed,
    )
    report: dict[str, Any] = {"machine": _machine(args, device)}
    compared = []
    if "memory" in args.compare:  # first, while this process holds nothing itself
        compared.append(_tell(_memory(args)))
    preset = {"seed": args.seed, "device": device, "gpt_dtype": DTYPES[args.amp]}
    networks = Networks.chosen(args.model_dir, args.preset, **preset)
    benchmark = Benchmark(networks, work, _clock(args))
    report["parameters"] = benchmark.networks.n_parameters()
    if not args.skip_stages:
        report["stages"] = _stages(benchmark)
    vocoder = {name: getattr(args, name) for name in ("vocoder_seconds", "whole_seconds")}
    compiler = "inductor" if args.compile else None
    compared += map(_tell, comparisons(benchmark, args.compare, compiler=compiler, **vocoder))
    return report | {"comparisons": [one.to_dict() for one in compared]}


def indextts2_training(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was measured, as plain data."""
    from indextts.training_benchmark import TrainingCase, measured

    report, same = _step_settings(args)
    cases = [TrainingCase(batch_size=n, checkpointing=is_on, preset=args.preset, **same)
             for n in args.batch_sizes for is_on in _checkpointing(args)]  # fmt: skip
    return report | _told_steps(list(_step_rows(cases, measured)))


def higgs_training(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was measured, as plain data."""
    from higgs_trainer.training_benchmark import N_LAYERS, HiggsCase, at_full_depth, measured

    report, same = _step_settings(args)
    rows, full = [], []
    for n in args.batch_sizes:
        for is_on in _checkpointing(args):
            cases = [HiggsCase(batch_size=n, checkpointing=is_on, layers=layers,
                               reference_seconds=args.reference_seconds, **same)
                     for layers in sorted(set(args.layers))]  # fmt: skip
            found = list(_step_rows(cases, measured, label="layers"))
            rows += found
            depths = [one for one in found if one.case.layers]
            if len(depths) > 1:
                memory, seconds = at_full_depth(depths[0], depths[-1])
                print(f"{N_LAYERS:6} layers would take {seconds:.1f} s a step and {memory}")
                told = {"batch_size": n, "checkpointing": is_on, "seconds": seconds}
                full.append({**told, "bytes": memory.total})
    return report | _told_steps(rows) | {"full_depth": full}


def kani(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was measured, as plain data."""
    from kani.benchmark import KaniWork, speeds
    from ttscommon.metering import Meter

    device = _device(args)
    names = ("input", "clips", "layers", "seed", "seconds", "batch_size", "lora_rank", "amp")
    work = KaniWork(**{name: getattr(args, name) for name in (*names, "repeats", "warmups")})
    report, rows = {"machine": _machine(args, device)}, []
    for row in speeds(work, args.tasks, Meter(device, _clock(args))):
        gain = "" if row.gain is None else f"  {row.gain:.2f} times as fast as the last way"
        print(f"{row.task:8} {row.way:20} {row.seconds:8.2f} s {row.rate:9.3f} {row.unit}{gain}",
              flush=True)  # fmt: skip
        rows.append(row.to_dict())
    return {**report, "rows": rows}


def _step_settings(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report's beginning, and what all cases share."""
    device = _device(args)
    names = ("seconds", "lora_rank", "amp", "seed", "threads", "clock", "repeats", "warmups")
    same = {name: getattr(args, name) for name in names}
    return {"machine": _machine(args, device)}, {**same, "device": str(device)}


def _checkpointing(args: argparse.Namespace) -> tuple[bool, ...]:
    is_on = args.gradient_checkpointing
    return (True, False) if is_on is None else (is_on,)


def _step_rows(cases: Sequence[Any], measured: Any, label: str = "") -> Iterator[Any]:
    """Measure and print a line for each."""
    extra = f"{label:>6} " if label else ""
    print(f"{extra}{'clips':>5} {'tokens':>6} {'checkpointing':>13} {'s/step':>8} {'clips/s':>8} "
          f"{'peak GB':>8} {'estimate':>8} {'/ peak':>6}")  # fmt: skip
    for case in cases:
        found = measured(case)
        share = "-" if found.estimate_share is None else f"{found.estimate_share:.2f}"
        extra = f"{getattr(case, label):6} " if label else ""
        is_on = "on" if case.checkpointing else "off"
        print(f"{extra}{case.batch_size:5} {found.n_tokens:6} {is_on:>13} "
              f"{found.seconds:8.2f} {found.clips_per_second:8.4f} {_gigabytes(found.peak):>8} "
              f"{_gigabytes(found.estimate):>8} {share:>6}", flush=True)  # fmt: skip
        yield found


def _told_steps(rows: Sequence[Any]) -> dict[str, Any]:
    trained = rows[0].n_trained if rows else 0
    return {"trained_parameters": trained, "rows": [row.to_dict() for row in rows]}


def _stages(benchmark) -> dict[str, Any]:
    from indextts.benchmark import OF_THE_VOICE

    held = benchmark.meter.held()
    print(f"{benchmark.work.n_segments} segments, together {benchmark.duration:.2f} s of sound; "
          f"{_gigabytes(held)} GB of networks in memory")  # fmt: skip
    print(f"{'stage':18} {'seconds':>9} {'x audio':>9} {'peak GB':>8}")
    rows = []
    for timing in benchmark.stages():
        is_once = timing.stage in OF_THE_VOICE
        factor = "once" if is_once else f"{timing.seconds / benchmark.duration:.3f}"
        peak = _gigabytes(timing.peak)
        print(f"{timing.stage:18} {timing.seconds:9.3f} {factor:>9} {peak:>8}")
        rows.append({"stage": timing.stage, "seconds": timing.seconds, "peak_bytes": timing.peak})
    times = {row["stage"]: row["seconds"] for row in rows}
    total = sum(seconds for stage, seconds in times.items() if stage not in OF_THE_VOICE)
    decode = max(times["gpt_decode"], 1e-9)
    summary = {
        "audio_seconds": benchmark.duration,
        "codes": benchmark.n_codes,
        "tokens_per_second": benchmark.n_codes / decode,
        "seconds": total,
        "rtf": total / benchmark.duration,
        "seconds_of_the_voice": sum(times.values()) - total,
        "held_bytes": held,
        "peak_bytes": max((row["peak_bytes"] or 0 for row in rows), default=0) or None,
    }
    print(f"RTF {summary['rtf']:.3f}, {summary['tokens_per_second']:.1f} tokens/s, peak "
          f"{_gigabytes(summary['peak_bytes'])} GB; the voice takes "
          f"{summary['seconds_of_the_voice']:.2f} s once")  # fmt: skip
    return {**summary, "rows": rows}


def _memory(args: argparse.Namespace) -> Any:
    from indextts.comparisons import speaker_memory_gain
    from indextts.speaker_memory import MemoryCase

    names = ("model_dir", "preset", "device", "amp", "reference_seconds")
    return speaker_memory_gain(MemoryCase(**{name: getattr(args, name) for name in names}))


def _tell(found) -> Any:
    verdict = {None: "", True: "  met", False: "  MISSED"}[found.is_met]
    aim = "" if found.target is None else f" (aim: {found.target:g} or more)"
    print(f"{found.name}: {found.value:.3f} {found.what}{aim}{verdict}")
    for name, value in found.details.items():
        print(f"    {name}: {_shown(value)}")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    if isinstance(value, int) and not isinstance(value, bool) and value > 1e6:
        return f"{value / 1e6:.0f} MB"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _gigabytes(n_bytes: int | None) -> str:
    return "-" if n_bytes is None else f"{n_bytes / 1e9:.2f}"


def _machine(args: argparse.Namespace, device) -> dict[str, Any]:
    import torch

    from indextts.comparisons import bfloat16_units
    from ttscommon.metering import processor

    is_gpu, preset = device.type == "cuda", getattr(args, "preset", "full")
    machine = {
        "device": torch.cuda.get_device_name(device) if is_gpu else processor(),
        "bf16_units": bfloat16_units(device),
        "threads": torch.get_num_threads(),
        "amp": getattr(args, "amp", "no"),
        "clock": args.clock,
        "torch": torch.__version__,
        "weights": str(getattr(args, "model_dir", None) or f"random, {preset}"),
    }
    if "flow_dtype" in args:
        machine["flow_dtype"] = args.flow_dtype
    print("  ".join(f"{name}: {value}" for name, value in machine.items()))
    if not machine["bf16_units"]:
        print("no units for bf16 here (AMX, AVX512_BF16): it is emulated, and slower than fp32")
    return machine


def _device(args: argparse.Namespace) -> Any:
    import torch

    from ttscommon.machine import pick_device

    if args.threads:
        torch.set_num_threads(args.threads)
    return pick_device(args.device)


def _clock(args: argparse.Namespace):
    return time.process_time if args.clock == "cpu" else time.perf_counter


def _command(argv: Sequence[str] | None) -> str:
    return " ".join(["python tools/benchmark.py", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    run(main)
