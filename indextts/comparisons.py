"""Two ways to do the same, measured in one run: what batches, half precision and chunks gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

import torch

from indextts.benchmark import Benchmark
from indextts.gpt.decoding import generate
from indextts.gpt.fixed import FixedVoice
from indextts.speaker_memory import MemoryCase, occupied
from indextts.vocoder.bigvgan import BigVGAN
from ttscommon.metering import Measured, Meter, Result

CHUNK_TOLERANCE = 1e-4
BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Comparison:
    """A ratio, what it should be, and what it is made of.

    Attributes:
        name: batch, flow, memory, vocoder or decode
        what: in words, what is divided by what
        value: the ratio, or another measure that `what` names
        target: what `value` should be at least; None where nothing is asked
        details: the numbers behind it
    """

    name: str
    what: str
    value: float
    target: float | None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        return None if self.target is None else self.value >= self.target

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "is_met": self.is_met}


def comparisons(
    benchmark: Benchmark,
    names: Sequence[str],
    *,
    compiler: str | None,
    vocoder_seconds: float,
    whole_seconds: float,
) -> Iterator[Comparison]:
    """Those of the names that need the networks."""
    if "batch" in names:
        yield batch_gain(benchmark)
    if "flow" in names:
        yield flow_gain(benchmark)
    if "decode" in names:
        yield decode_gain(benchmark, compiler=compiler)
    if "vocoder" in names:
        yield vocoder_memory(
            benchmark.networks.vocoder,
            benchmark.meter,
            seconds=vocoder_seconds,
            whole_seconds=whole_seconds,
            frame_rate=benchmark.networks.s2mel.config.mel.frame_rate,
        )


def batch_gain(benchmark: Benchmark) -> Comparison:
    """The flow of all segments in one call, beside one call for each."""
    noises, n = benchmark.noises(), benchmark.work.n_segments
    alone, together = _in_turns(
        benchmark,
        lambda: [benchmark.flow_of(range(i, i + 1), noises)[0] for i in range(n)],
        lambda: benchmark.flow_of(range(n), noises),
    )
    pairs = list(zip(alone.result, together.result, strict=True))
    return Comparison(
        "batch",
        "seconds of the flow one by one / in one batch",
        alone.seconds / together.seconds,
        1.0,
        {
            "frames": benchmark.n_frames,
            "prompt_frames": benchmark.inputs.voice.ref_mel.shape[2],
            "one_by_one": alone.seconds,
            "batched": together.seconds,
            "batched_per_second_of_audio": together.seconds / benchmark.duration,
            "max_difference": max((a - b).abs().max().item() for a, b in pairs),
            "scale": pairs[0][0].std().item(),
        },
    )


def flow_gain(benchmark: Benchmark) -> Comparison:
    """The flow's estimator in bf16, beside float32."""
    noises, everyone = benchmark.noises(), range(benchmark.work.n_segments)
    full, half = _in_turns(
        benchmark,
        lambda: benchmark.flow_of(everyone, noises, torch.float32),
        lambda: benchmark.flow_of(everyone, noises, torch.bfloat16),
    )
    pairs = list(zip(full.result, half.result, strict=True))
    return Comparison(
        "flow",
        "seconds of the flow with a float32 / a bf16 estimator",
        full.seconds / half.seconds,
        1.8,
        {
            "fp32": full.seconds,
            "bf16": half.seconds,
            "mean_difference": max((a - b).abs().mean().item() for a, b in pairs),
            "scale": pairs[0][0].std().item(),
            "bf16_units": bfloat16_units(benchmark.meter.device),
        },
    )


def vocoder_memory(
    vocoder: BigVGAN, meter: Meter, *, seconds: float, whole_seconds: float, frame_rate: float
) -> Comparison:
    """A long mel in chunks, beside the whole at once, or as much of it as is asked for.

    Args:
        seconds: of the long mel
        whole_seconds: of its beginning, which is vocoded at once and compared
    """
    weight = vocoder.conv_pre.weight
    n_frames, n_whole = (int(s * frame_rate) for s in (seconds, min(whole_seconds, seconds)))
    chance = torch.Generator().manual_seed(0)
    mel = torch.randn(1, vocoder.config.num_mels, n_frames, generator=chance) - 4
    mel = mel.to(weight.device, weight.dtype)
    held = meter.held()
    chunks = meter.measure(lambda: vocoder.vocode(mel))
    with torch.no_grad():
        whole = meter.measure(lambda: vocoder(mel[..., :n_whole]))
    # Where the whole was cut short, its last frames lack what follows them.
    n_equal = n_whole if n_whole == n_frames else max(0, n_whole - vocoder.context)
    n_samples = n_equal * vocoder.config.hop_length
    difference = (chunks.result[..., :n_samples] - whole.result[..., :n_samples]).abs().max()
    details: dict[str, Any] = {
        "seconds_of_sound": n_frames / frame_rate,
        "seconds_of_whole": n_whole / frame_rate,
        "chunks": chunks.seconds,
        "whole": whole.seconds,
        "max_difference": difference.item(),
        "is_equal": difference.item() <= CHUNK_TOLERANCE,
        "scale": whole.result.std().item(),
    }
    value = float("nan")
    if held is not None and chunks.peak is not None and whole.peak is not None:
        details |= {"peak_chunks": chunks.peak - held, "peak_whole": whole.peak - held}
        per_second = (whole.peak - held) / n_whole
        value = per_second * n_frames / max(1, chunks.peak - held)
    return Comparison(
        "vocoder", "memory for the whole at once / in chunks, over all of it", value, 1.0, details
    )


def decode_gain(benchmark: Benchmark, *, compiler: str | None) -> Comparison:
    """Decoding in fixed shapes, compiled if asked, beside the cache that grows."""
    gpt, work = benchmark.networks.gpt, benchmark.work
    config, seeds = benchmark.decoding(), range(work.n_segments)
    fixed = FixedVoice(gpt, compiler=compiler, max_new=work.n_codes)

    def codes(voice) -> torch.Tensor:
        written = generate(voice, benchmark.prefix(), config, seeds)
        return torch.stack([one.codes for one in written])

    repeats, warmups = work.repeats, max(work.warmups, 1 if compiler else 0)
    before = benchmark.meter.measure(lambda: codes(gpt), repeats=repeats, warmups=work.warmups)
    after = benchmark.meter.measure(lambda: codes(fixed), repeats=repeats, warmups=warmups)
    n_codes = before.result.numel()
    return Comparison(
        "decode",
        "tokens per second in fixed shapes / with the growing cache",
        before.seconds / after.seconds,
        None,
        {
            "compiled": compiler is not None,
            "dtype": str(gpt.mel_head.weight.dtype).removeprefix("torch."),
            "beams": config.num_beams,
            "tokens_per_second_before": n_codes / before.seconds,
            "tokens_per_second_after": n_codes / after.seconds,
            "equal_codes": (before.result == after.result).float().mean().item(),
        },
    )


def speaker_memory_gain(case: MemoryCase) -> Comparison:
    """A stored voice, beside one read from a recording, each in a process of its own."""
    found = {}
    for name, is_stored in {"reference": False, "stored": True}.items():
        # A new process: what another has loaded or imported must not count.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
            found[name] = processes.submit(occupied, case, is_stored=is_stored).result()
    saved = (found["reference"]["resident"] - found["stored"]["resident"]) / 1e9
    return Comparison("memory", "GB less with a stored voice", saved, 2.0, found)


def bfloat16_units(device: torch.device) -> list[str]:
    """What the hardware has for multiplying in bf16; empty: it is emulated, and slow."""
    if device.type == "cuda":
        return ["cuda"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    known = torch.cpu.get_capabilities()
    return [name for name in BFLOAT16_UNITS if known.get(name)]


def _in_turns(
    benchmark: Benchmark, one: Callable[[], Result], other: Callable[[], Result]
) -> tuple[Measured[Result], Measured[Result]]:
    """Measure two actions in turns, so that a busy moment of the machine meets both."""
    work, meter = benchmark.work, benchmark.meter
    rounds = [
        (meter.measure(one), meter.measure(other)) for _ in range(work.warmups + work.repeats)
    ]
    first, second = zip(*rounds[work.warmups :], strict=True)
    return _median(first), _median(second)


def _median(found: Sequence[Measured[Result]]) -> Measured[Result]:
    return sorted(found, key=lambda one: one.seconds)[len(found) // 2]
