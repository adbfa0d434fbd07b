"""The three modes of the guide, through the functions and through the tool."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lewm import weights
from lewm.generation import GenerationSettings, Request
from lewm.inference import load_mel, predict, reconstruct, synthesize
from lewm.inference_engine import Engine
from tests.lewm.random_voice import INFO, random_voice
from tools import lewm_infer
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.mel import MelRecipe, log_mel

RECIPE = MelRecipe()
ROOT = Path(__file__).resolve().parents[2]


def recording(seconds=0.8):
    t = np.arange(round(24_000 * seconds)) / 24_000
    return (0.2 * np.sin(2 * np.pi * (150 + 80 * t) * t)).astype(np.float32)


@pytest.fixture(scope="module")
def engine():
    settings = GenerationSettings(stop_threshold=1.0)
    return Engine((random_voice(), INFO), device="cpu", vocoder="griffinlim", settings=settings)


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "lewm" / "best_checkpoint"
    weights.save(folder, random_voice(), INFO)
    return folder


def test_synthesize_needs_nothing_but_text(engine):
    assert synthesize(engine, Request(text="hello there")).duration > 0.3


def test_reconstruct_keeps_the_length_and_is_the_autoencoders_copy(engine):
    mel = log_mel(torch.from_numpy(recording()), RECIPE)
    speech = reconstruct(engine, mel)
    assert speech.log_mel.shape == mel.shape
    assert len(speech.audio) == (mel.shape[1] - 1) * 256
    model = engine.model
    with torch.inference_mode():
        mask = torch.ones(1, mel.shape[1], dtype=torch.bool)
        copy = model.decode(model.encode(mel[None], mask))[0, :, : mel.shape[1]]
    torch.testing.assert_close(speech.log_mel, copy, atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", ["mse", "flow"])
def test_predict_says_each_latent_from_the_true_past(head):
    speaker = Engine((random_voice(head=head), INFO), device="cpu", vocoder="griffinlim")
    mel = log_mel(torch.from_numpy(recording()), RECIPE)
    a = predict(speaker, mel, Request(text="hello"))
    assert a.log_mel.shape == mel.shape
    changed = mel.clone()
    changed[:, 60:] += 2  # the future of the first latents; the encoder looks 12 latents ahead
    b = predict(speaker, changed, Request(text="hello"))
    assert not torch.allclose(a.log_mel[:, 64:], b.log_mel[:, 64:], atol=1e-3)
    other_words = predict(speaker, mel, Request(text="something else"))
    assert not torch.allclose(a.log_mel, other_words.log_mel, atol=1e-3)


def test_a_mel_is_read_alike_from_every_form(tmp_path):
    samples = recording()
    audio.save(tmp_path / "a.wav", samples, 24_000)
    mel = load_mel(tmp_path / "a.wav", RECIPE)
    torch.save(mel, tmp_path / "a.pt")
    torch.save({"mel": mel, "step": 3}, tmp_path / "b.pt")
    np.save(tmp_path / "a.npy", mel.numpy())
    save_file({"mel": mel[None].clone()}, tmp_path / "a.safetensors")
    for name in ("a.pt", "b.pt", "a.npy", "a.safetensors"):
        assert torch.equal(load_mel(tmp_path / name, RECIPE), mel)


class Touch:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_mel_file_that_could_run_code_is_refused_and_runs_none(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"mel": Touch(trap)}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Touch(trap)))
    np.save(tmp_path / "evil.npy", np.array([Touch(trap)], dtype=object), allow_pickle=True)
    for name in ("evil.pt", "raw.pt", "evil.npy"):
        with pytest.raises(UserError) as error:
            load_mel(tmp_path / name, RECIPE)
        assert "\n" not in str(error.value)
    assert not trap.exists()


def test_mels_that_cannot_be_used_are_refused_with_the_reason(tmp_path):
    def saved(name, tensor):
        torch.save(tensor, tmp_path / name)
        return tmp_path / name

    (tmp_path / "cut.pt").write_bytes(saved("whole.pt", torch.zeros(100, 50)).read_bytes()[:900])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8")
    audio.save(tmp_path / "click.wav", np.zeros(300, dtype=np.float32), 24_000)
    for path, word in [
        (saved("bands.pt", torch.zeros(80, 50)), "mel of 100 x T, found 80 x 50"),
        (saved("nan.pt", torch.full((100, 50), torch.nan)), "NaN"),
        (saved("two.pt", {"a": torch.zeros(2), "b": torch.zeros(2)}), "found 2"),
        (tmp_path / "cut.pt", "cannot read the mel"),
        (tmp_path / "empty.pt", "cannot read the mel"),
        (tmp_path / "a.txt", "don't know how to read '.txt'"),
        (tmp_path / "none.pt", "no such mel file"),
        (tmp_path / "click.wav", "too short"),
    ]:
        with pytest.raises(UserError, match=word):
            load_mel(path, RECIPE)


def words(checkpoint, *more):
    return ["--checkpoint", str(checkpoint), "--vocoder", "griffinlim", "--device", "cpu", *more]


def test_the_tool_says_where_the_speech_is_and_never_replaces_it(
    tmp_path, checkpoint, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    command = words(checkpoint, "--text", "Hello, you there!", "--json", "run.json")
    lewm_infer.main(command)
    out = capsys.readouterr().out
    path = tmp_path / "lewm_hello-you-there.wav"
    assert f"{path.name}  " in out
    assert "RTF" in out
    assert "vocoder: griffinlim" in out
    report = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    assert result["duration"] == pytest.approx(audio.duration(path))
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        lewm_infer.main(command)
    assert path.read_bytes() == before
    lewm_infer.main([*command, "--overwrite"])
    assert path.read_bytes() == before  # the same seed, the same bytes


def test_a_speakers_folder_gives_checkpoint_and_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save(Path("training/ozzy/lewm/best_checkpoint"), random_voice(), INFO)
    lewm_infer.main(["--speaker", "ozzy", "--text", "Hi", "--device", "cpu"])
    assert Path("training/ozzy/outputs/lewm_hi.wav").is_file()


def test_speakers_may_live_under_another_root(tmp_path, capsys):
    weights.save(tmp_path / "ozzy" / "lewm" / "best_checkpoint", random_voice(), INFO)
    root = ["--speaker", "ozzy", "--training-root", str(tmp_path)]
    lewm_infer.main([*root, "--text", "Hi", "--device", "cpu"])
    assert (tmp_path / "ozzy" / "outputs" / "lewm_hi.wav").is_file()
    assert f"lewm_infer.py --speaker ozzy --training-root {tmp_path}" in capsys.readouterr().out


def test_recordings_go_through_the_other_two_modes(tmp_path, checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio.save(Path("clip.wav"), recording(), 24_000)
    lewm_infer.main(words(checkpoint, "--mode", "reconstruct", "--mel", "clip.wav"))
    lewm_infer.main(
        words(
            checkpoint,
            "--mode",
            "predict",
            "--mel",
            "clip.wav",
            "--text",
            "la",
            "--output",
            "p.wav",
        )
    )
    assert audio.duration(Path("lewm_reconstruct-clip.wav")) == pytest.approx(0.8, abs=0.02)
    assert audio.duration(Path("p.wav")) == pytest.approx(0.8, abs=0.02)


def test_a_voice_prompt_goes_through_the_tool(tmp_path, checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio.save(Path("clip.wav"), recording(), 24_000)
    prompt = ["--prompt-audio", "clip.wav", "--prompt-text", "la la"]
    lewm_infer.main(words(checkpoint, "--text", "hello", "--output", "a.wav", *prompt))
    assert audio.duration(Path("a.wav")) > 0.3
    with pytest.raises(UserError, match="both its audio and its text"):
        lewm_infer.main(words(checkpoint, "--text", "hello", "--output", "b.wav", *prompt[:2]))
    assert not Path("b.wav").exists()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([], "say what"),
        (["--checkpoint", "x"], "say what"),
        (["--checkpoint", "x", "--text", "a", "--text-file", "b"], "say what"),
        (["--checkpoint", "x", "--mode", "reconstruct"], "needs --mel"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_loaded(given, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        lewm_infer.main(given)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_guides_command_works_from_a_clone(tmp_path, checkpoint):
    best = checkpoint.parent / "checkpoints" / "best.pt"  # as the guide writes it
    command = [sys.executable, str(ROOT / "lewm" / "inference.py"), "--checkpoint", str(best)]
    done = subprocess.run(
        [*command, "--text", "your text", "--mode", "synthesize"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lewm_your-text.wav").is_file()


def test_a_missing_checkpoint_is_one_line_and_exit_1(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools" / "lewm_infer.py"),
            "--speaker",
            "nobody",
            "--text",
            "x",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no checkpoint here")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_predict_takes_the_words_from_a_text_file_beside(checkpoint, tmp_path):
    torch.save(log_mel(torch.from_numpy(recording()), RECIPE), tmp_path / "mel.pt")
    words = ["--checkpoint", str(checkpoint), "--mel", str(tmp_path / "mel.pt")]
    words += ["--mode", "predict", "--output-dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"mel\.txt beside it"):
        lewm_infer.main(words)
    (tmp_path / "mel.txt").write_text("hello there", encoding="utf-8")
    lewm_infer.main(words)
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".wav"]
