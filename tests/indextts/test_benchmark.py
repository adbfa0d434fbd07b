"""The benchmark must do the work it says, stage by stage, and compare like with like."""

import dataclasses
import math

import pytest
import torch

from indextts.benchmark import OF_THE_VOICE, STAGES, Benchmark, Work
from indextts.comparisons import (
    Comparison,
    batch_gain,
    decode_gain,
    flow_gain,
    speaker_memory_gain,
    vocoder_memory,
)
from indextts.gpt.model import UnifiedVoice
from indextts.random_networks import Networks, Sizes
from indextts.speaker_memory import MemoryCase, occupied
from ttscommon.errors import UserError
from ttscommon.metering import Meter

WORK = Work(seconds=0.6, n_segments=3, reference_seconds=1.0, n_steps=2, num_beams=2, warmups=0)


@pytest.fixture(scope="module")
def networks():
    return Networks.random(Sizes.named("tiny"))


@pytest.fixture
def benchmark(networks):
    return Benchmark(networks, WORK)


class Ticks:
    """A clock that says how often it was asked."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_every_stage_is_timed_in_order_and_hands_on_what_it_made(benchmark):
    made_up = benchmark.inputs
    before = dataclasses.replace(made_up)
    timings = list(benchmark.stages())
    assert tuple(timing.stage for timing in timings) == STAGES
    assert all(timing.seconds >= 0 for timing in timings)
    for name in ("voice", "told", "codes", "latents", "conditions"):
        assert getattr(made_up, name) is not getattr(before, name), f"{name} was left as made up"
    assert made_up.codes.shape == (3, 30)
    assert benchmark.n_frames == [51, 49, 47]
    assert benchmark.duration == pytest.approx(147 / (22_050 / 256))


def test_what_is_made_up_has_the_shapes_of_what_is_made(benchmark):
    shapes = [[c.shape for c in benchmark.inputs.conditions], benchmark.inputs.codes.shape]
    voice = benchmark.inputs.voice.prompt_condition.shape
    list(benchmark.stages())
    inputs = benchmark.inputs
    assert [[c.shape for c in inputs.conditions], inputs.codes.shape] == shapes
    assert inputs.voice.prompt_condition.shape == voice


def test_with_a_stored_voice_no_recording_is_read(networks):
    stored = Networks.random(Sizes.named("tiny"), reads_recordings=False)
    stages = [timing.stage for timing in Benchmark(stored, WORK).stages()]
    assert stages == [stage for stage in STAGES if stage not in OF_THE_VOICE[:2]]
    assert stored.n_parameters().keys() == {"gpt", "s2mel", "codec", "vocoder"}
    assert stored.n_parameters()["codec"] < networks.n_parameters()["codec"]


def test_the_median_of_the_repeats_counts_and_no_warmup():
    times = iter([0, 5, 10, 11, 20, 22])
    calls = []
    meter = Meter(torch.device("cpu"), lambda: float(next(times)))
    found = meter.measure(lambda: calls.append(1) or "done", repeats=3, warmups=2)
    assert (found.seconds, found.result, len(calls)) == (2.0, "done", 5)


def test_random_networks_are_the_same_for_the_same_seed_and_stay_finite():
    one, same, other = (
        Networks.random(Sizes.named("tiny"), seed=seed, reads_recordings=False)
        for seed in (0, 0, 1)
    )
    for part in ("gpt", "s2mel", "vocoder"):
        first, again, changed = (
            torch.cat([p.flatten() for p in getattr(n, part).parameters()])
            for n in (one, same, other)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, changed)
        assert first.isfinite().all()
        buffers = [b for b in getattr(one, part).buffers() if b.is_floating_point()]
        assert all(b.isfinite().all() for b in buffers)
    mel = torch.randn(1, 12, 60) - 4
    loudness = one.vocoder.vocode(mel).std()
    assert 0.02 < loudness < 0.5  # not clipped


def test_random_networks_draw_nothing_from_torchs_own_randomness():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Networks.random(Sizes.named("tiny"), reads_recordings=False)
    assert torch.equal(torch.rand(2), expected)


def test_batched_and_single_segments_are_compared_at_equal_output(benchmark):
    found = batch_gain(benchmark)
    assert found.details["max_difference"] < 1e-4 < found.details["scale"]
    assert found.value == pytest.approx(found.details["one_by_one"] / found.details["batched"])


def test_half_precision_is_compared_with_full(networks):
    found = flow_gain(Benchmark(networks, WORK, Ticks()))
    assert 0 < found.details["mean_difference"] < 0.05 * found.details["scale"]
    assert (found.value, found.is_met) == (1.0, False)  # every action takes one tick


def test_decoding_in_fixed_shapes_is_compared_on_the_same_codes(benchmark):
    found = decode_gain(benchmark, compiler=None)
    assert found.details["equal_codes"] == 1.0
    assert found.is_met is None
    assert not found.details["compiled"]


def test_chunks_are_compared_with_the_whole(networks):
    meter = Meter(torch.device("cpu"))
    sizes = {"seconds": 30.0, "frame_rate": 86.0}
    whole = vocoder_memory(networks.vocoder, meter, whole_seconds=30.0, **sizes)
    part = vocoder_memory(networks.vocoder, meter, whole_seconds=4.0, **sizes)
    assert whole.details["is_equal"]
    assert part.details["is_equal"]
    assert part.details["seconds_of_whole"] == 4.0
    assert part.details["seconds_of_sound"] == 30.0


@pytest.mark.slow  # two processes, each of which imports everything
@pytest.mark.parametrize("of_checkpoint", [False, True])
def test_the_memory_of_a_stored_voice_is_measured_in_processes_of_their_own(of_checkpoint, request):
    folder = request.getfixturevalue("miniature") if of_checkpoint else None
    case = MemoryCase(model_dir=folder, preset="tiny", reference_seconds=1.0)
    found = speaker_memory_gain(case)
    assert found.details["reference"]["has_transformers"]
    assert not found.details["stored"]["has_transformers"]
    if not math.isnan(found.value):
        assert found.value > 0


@pytest.mark.parametrize("is_stored", [True, False])
def test_what_is_measured_for_a_checkpoint_has_spoken(miniature, is_stored):
    case = MemoryCase(model_dir=miniature, reference_seconds=1.0)
    found = occupied(case, is_stored=is_stored)
    assert found.keys() == {"resident", "peak", "has_transformers"}


def test_a_mistake_in_the_process_that_measures_memory_arrives_here(tmp_path):
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        occupied(MemoryCase(model_dir=tmp_path), is_stored=True)


def test_a_comparison_knows_whether_it_met_its_aim():
    values = [Comparison("x", "", value, 1.8).is_met for value in (1.7, 1.8)]
    assert values == [False, True]
    assert Comparison("x", "", 3.0, None).to_dict()["is_met"] is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"seconds": 0.0}, "segments need"), ({"n_segments": 0}, "1 or more")],
)
def test_work_that_is_none_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Work(**wrong)


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match="no preset 'huge'"):
        Sizes.named("huge")


def test_the_full_sizes_are_those_of_the_official_checkpoint():
    with torch.device("meta"):
        gpt = UnifiedVoice(Sizes.named("full").gpt)
    assert sum(parameter.numel() for parameter in gpt.parameters()) == 865_980_639
