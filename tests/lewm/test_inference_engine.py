"""The engine: texts of any length to audio, the same in any company and after any reload."""

import json
import time

import numpy as np
import pytest
import torch

from lewm import weights
from lewm.benchmark import cache_gain, measure
from lewm.benchmark import random_voice as preset_voice
from lewm.generation import GenerationSettings, Request
from lewm.inference_engine import PAUSE, Engine
from tests.lewm.random_voice import INFO, random_voice
from tools import lewm_engine
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.machine import pick_device

SETTINGS = GenerationSettings(stop_threshold=1.0)
LONG = "One short sentence. " * 2 + "A second one, which goes on and on and on, until it ends! Bye."


def engine(model=None, **kwargs):
    return Engine(
        (model or random_voice(), INFO),
        device="cpu",
        vocoder="griffinlim",
        **{"settings": SETTINGS, **kwargs},
    )


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "voice"
    weights.save(folder, random_voice(), INFO)
    return folder


def test_a_batch_sounds_as_each_text_alone():
    requests = [Request(text=text) for text in ("hello there", "hm", LONG)]
    speaker = engine()
    for together, request in zip(speaker.synthesize(requests), requests, strict=True):
        (alone,) = speaker.synthesize([request])
        torch.testing.assert_close(together.log_mel, alone.log_mel, atol=1e-4, rtol=0)
        assert len(together.audio) == len(alone.audio)


def test_a_reloaded_checkpoint_says_the_same_bits(checkpoint):
    requests = [Request(text="hello there", seed=5)]
    first, second = (
        Engine(checkpoint, device="cpu", vocoder="griffinlim").synthesize(requests)[0]
        for _ in range(2)
    )
    assert np.array_equal(first.audio, second.audio)
    in_memory = Engine((random_voice(), INFO), device="cpu", vocoder="griffinlim")
    assert np.array_equal(first.audio, in_memory.synthesize(requests)[0].audio)


def test_long_text_is_split_and_joined_by_short_silences():
    (speech,) = engine().synthesize([Request(text=LONG)])
    assert len(speech.parts) >= 3
    pause = round(PAUSE * speech.sample_rate)
    frames = [4 * len(part.latents) for part in speech.parts]
    assert len(speech.audio) == sum(256 * (n - 1) for n in frames) + pause * (len(frames) - 1)
    end = 256 * (frames[0] - 1)
    assert not speech.audio[end : end + pause].any()
    assert speech.audio[end - 256 : end].any()
    assert speech.log_mel.shape == (100, sum(frames) + 11 * (len(frames) - 1))


def test_audio_is_finite_float32_at_the_rate_of_the_mel():
    (speech,) = engine().synthesize([Request(text="hello there")])
    assert speech.audio.dtype == np.float32
    assert np.isfinite(speech.audio).all()
    assert speech.sample_rate == 24_000
    assert speech.duration == pytest.approx(len(speech.audio) / 24_000)


def test_runaways_are_reported_for_the_whole_text():
    assert engine().synthesize([Request(text=LONG)])[0].ran_away
    stopping = engine(settings=GenerationSettings(stop_threshold=0.0))
    assert not stopping.synthesize([Request(text=LONG)])[0].ran_away


def test_stage_times_are_shared_out_by_length():
    ticks = iter(range(10_000))
    speaker = engine(clock=lambda: float(next(ticks)))
    short, long = speaker.synthesize([Request(text="hm"), Request(text="hello there again")])
    for stage in ("predictor", "decoder", "vocoder"):
        assert short.seconds[stage] + long.seconds[stage] == pytest.approx(1.0)
        assert short.seconds[stage] < long.seconds[stage]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_lower_precision_stays_near_full_precision(dtype):
    request = Request(text="hello there")
    (full,) = engine().synthesize([request])
    (low,) = engine(dtype=dtype).synthesize([request])
    assert low.log_mel.dtype == torch.float32
    assert low.log_mel.shape == full.log_mel.shape
    spread = full.log_mel.std()
    assert (low.log_mel - full.log_mel).abs().mean() < 0.1 * spread


def test_lower_precision_leaves_the_callers_model_alone():
    model = random_voice()
    engine(model, dtype="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a compiler runs
def test_a_compiled_step_says_the_same():
    request = Request(text="hello there")
    (plain,), (fused,) = (engine(compile=c).synthesize([request]) for c in (False, True))
    torch.testing.assert_close(plain.log_mel, fused.log_mel, atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("head", ["mse", "flow"])
def test_captured_graphs_on_a_gpu_say_what_the_cpu_says(head):
    model = random_voice(head=head)
    requests = [Request(text=text, seed=i) for i, text in enumerate(("hello there", "hm", LONG))]
    gpu = Engine((model, INFO), device="cuda", vocoder="griffinlim", settings=SETTINGS)
    for _ in range(2):  # captured, then replayed
        for found, expected in zip(
            gpu.synthesize(requests), engine(model).synthesize(requests), strict=True
        ):
            torch.testing.assert_close(found.log_mel, expected.log_mel, atol=5e-2, rtol=0)


def test_a_prompt_that_leaves_no_room_for_text_is_refused():
    request = Request(
        text="hello", prompt_text="far too much said in it", prompt_audio=np.zeros(24_000, "f")
    )
    short = weights.CheckpointInfo(frames_per_byte=1.5, max_text_bytes=30)
    with pytest.raises(UserError, match="voice prompt is too long"):
        Engine((random_voice(), short), device="cpu", vocoder="griffinlim").synthesize([request])


def test_missing_and_truncated_checkpoints_are_one_clear_line(tmp_path, checkpoint):
    with pytest.raises(UserError, match="no checkpoint here"):
        Engine(tmp_path / "nothing", device="cpu")
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="truncated") as error:
        Engine(checkpoint, device="cpu")
    assert "\n" not in str(error.value)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(UserError, match="no CUDA GPU here"):
        pick_device("cuda")
    with pytest.raises(UserError, match="unknown device 'gpuu'"):
        pick_device("gpuu")


def test_the_benchmark_generates_what_it_says_it_measures():
    (single, batch) = measure(engine(), [1, 3], seconds=0.4, repeats=1)
    assert (single.batch_size, batch.batch_size) == (1, 3)
    # 0.4 s are 9 latents of 4 frames; the wave ends at the centre of the last frame.
    assert single.audio == pytest.approx(256 * (9 * 4 - 1) / 24_000)
    assert batch.audio == pytest.approx(3 * single.audio)
    assert min(single.predictor, single.decoder, single.vocoder) > 0
    row = batch.to_dict()
    assert row["rtf"] == pytest.approx(1 / row["times_real_time"])


def test_the_benchmark_without_a_cache_does_the_same_work():
    found = cache_gain(engine(), seconds=0.5)
    assert found["ratio"] == pytest.approx(found["without_cache"] / found["with_cache"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_cache_saves_most_of_the_work_at_ten_seconds():
    voice = preset_voice("base")
    speaker = Engine(voice, device="cpu", vocoder="griffinlim", clock=time.process_time)
    assert cache_gain(speaker, seconds=10)["ratio"] >= 5


def test_a_file_of_texts_becomes_a_folder_of_waves(tmp_path, checkpoint, capsys):
    texts = tmp_path / "lines.txt"
    texts.write_text("Hello there.\n\nनमस्ते दुनिया\n", encoding="utf-8")
    words = ["--checkpoint", str(checkpoint), "--text-file", str(texts), "--vocoder", "griffinlim"]
    words += ["--output-dir", str(tmp_path / "out"), "--device", "cpu"]
    lewm_engine.main(words)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["lewm_1_hello-there.wav", "lewm_2_नमस्ते-दुनिया.wav"]
    assert audio.duration(tmp_path / "out" / names[0]) > 0.3
    assert "vocoder griffinlim" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"exists already \(and 1 more\)"):
        lewm_engine.main(words)
    lewm_engine.main([*words, "--overwrite"])


def test_a_speakers_lines_go_on_from_a_voice_prompt(tmp_path):
    weights.save(tmp_path / "ozzy" / "lewm" / "best_checkpoint", random_voice(), INFO)
    (tmp_path / "lines.txt").write_text("Hello there.\nBye.\n", encoding="utf-8")
    tone = 0.1 * np.sin(np.arange(24_000) / 20).astype(np.float32)
    audio.save(tmp_path / "clip.wav", tone, 24_000)
    words = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--device", "cpu"]
    words += ["--text-file", str(tmp_path / "lines.txt"), "--prompt-audio"]
    words += [str(tmp_path / "clip.wav"), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="both its audio and its text"):
        lewm_engine.main(words)
    assert not (tmp_path / "out").exists()
    lewm_engine.main([*words, "--prompt-text", "la la"])
    lewm_engine.main([*words[:-4], "--output-dir", str(tmp_path / "plain")])
    prompted, plain = (sorted((tmp_path / name).iterdir()) for name in ("out", "plain"))
    assert [path.name for path in prompted] == [path.name for path in plain]
    assert prompted[0].read_bytes() != plain[0].read_bytes()


def test_the_benchmark_tool_prints_a_table_and_writes_it(tmp_path, capsys):
    path = tmp_path / "speed.json"
    command = "--preset tiny --benchmark --batch-sizes 1 2 --seconds 0.3 --repeats 1 "
    command += "--cache-seconds 0.5 --device cpu --vocoder griffinlim --json"
    lewm_engine.main([*command.split(), str(path)])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [row["batch_size"] for row in report["timings"]] == [1, 2]
    assert report["machine"]["preset"] == "tiny"
    out = capsys.readouterr().out
    assert "predictor" in out
    assert "KV cache" in out


def test_an_unreadable_text_file_is_one_clear_line(tmp_path, checkpoint):
    bad = tmp_path / "latin.txt"
    bad.write_bytes("gr\xfcezi".encode("latin-1"))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    for path, word in [(bad, "UTF-8"), (empty, "no text"), (tmp_path / "no.txt", "no such text")]:
        with pytest.raises(UserError, match=word):
            lewm_engine.main(["--checkpoint", str(checkpoint), "--text-file", str(path)])


def test_a_voice_must_be_named(capsys):
    with pytest.raises(SystemExit) as stop:
        lewm_engine.main(["--benchmark"])
    assert stop.value.code == 2
    assert "say whose voice" in capsys.readouterr().err
