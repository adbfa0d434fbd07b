"""The example of the guide stores voices, speaks with them, and lets the difference be heard."""

import pytest
import torch

from examples import finetuned_inference_example as example
from indextts.miniature import write_miniature
from tests.indextts.speakers import Trained, write_recording
from ttscommon.errors import UserError


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    write_miniature(folder / "miniature")
    return Trained(folder / "miniature", folder / "store")


@pytest.fixture
def start(left, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_recording(tmp_path / f"clips/{number}.wav", seed=number)

    def run(*words: str) -> list[str]:
        """The files that are new."""
        before = {*tmp_path.glob("*.*")}
        example.main([*words, "--model-dir", str(left.checkpoint), "--device", "cpu"])
        return sorted(path.name for path in {*tmp_path.glob("*.*")} - before)

    return run


@pytest.mark.parametrize(
    "what",
    [["--extract", "--audio", "clips/0.wav"], ["--extract-dataset", "--training-dir", "clips"]],
)
def test_a_voice_is_stored(start, what):
    assert start(*what, "--output", "voice.pt") == ["voice.pt"]
    assert torch.load("voice.pt", weights_only=True)["style"].shape[0] == 1


def test_three_ways_to_speak_are_compared(start, left, tmp_path):
    voice = ["--embeddings", str(left.store / "voice.pt"), "--audio", "clips/1.wav"]
    lora = ["--lora", str(left.store / "adapter"), "--text", "The cat sat."]
    names = start("--compare", *voice, *lora, "--output", "compared.wav")
    assert names == [
        "compared_base_with_ref.wav",
        "compared_finetuned_with_embeddings_CORRECT.wav",
        "compared_finetuned_with_ref_WRONG.wav",
    ]
    assert len({(tmp_path / name).read_bytes() for name in names}) == 3
    assert start("--infer", *voice[:2], *lora, "--output", "one.wav") == ["one.wav"]
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / names[1]).read_bytes()
    with pytest.raises(UserError, match="exists already"):
        start("--infer", *voice[:2], *lora, "--output", "one.wav")


@pytest.mark.parametrize(
    "words",
    [
        ["--output", "x.pt"],
        ["--extract", "--output", "x.pt"],
        ["--infer", "--text", "Hi.", "--output", "x.wav"],
        ["--extract", "--infer", "--output", "x.pt"],
        ["--compare", "-e", "v.pt", "-a", "a.wav", "-t", "Hi.", "--output", "x.wav"],
    ],
)
def test_what_is_missing_or_too_much_is_wrong_usage(start, words):
    with pytest.raises(SystemExit, match="2"):
        start(*words)
