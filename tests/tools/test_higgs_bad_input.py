"""What is wrong with samples, codes, adapters and resumed runs ends a tool with one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from higgs_trainer.miniature import write_miniature
from higgs_trainer.sample_data import create_sample_data
from tools import higgs_infer, higgs_train
from ttscommon import audio
from ttscommon.cli import run

Samples = list[dict[str, Any]]
Main = Callable[[Sequence[str]], int | None]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model, a codec, samples, and a run of one step."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bad")
    write_miniature(folder)
    create_sample_data(folder / "samples.json", n_samples=3)
    assert higgs_train.main(training(folder, "samples.json")) == 0
    return folder


def models(place: Path) -> list[str]:
    words = ["--model-path", str(place / "model"), "--device", "cpu"]
    return [*words, "--audio-tokenizer-path", str(place / "codec")]


def training(place: Path, samples: str, output: str = "out") -> list[str]:
    words = ["--train-data", str(place / samples), "--output-dir", str(place / output)]
    return [*models(place), *words, "--max-steps", "1", "--grad-accumulation", "1"]


def refusal(main: Main, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which a tool ends."""
    with pytest.raises(SystemExit) as ended:
        run(lambda: main(words))
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if line.startswith("error:")]
    assert lines == told.splitlines()[-1:]
    return lines[0]


def spoiled(place: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """A file of the samples, each of them changed."""
    samples: Samples = json.loads((place / "samples.json").read_text(encoding="utf-8"))
    for sample in samples:
        change(sample)
    (place / "spoiled.json").write_text(json.dumps(samples), encoding="utf-8")
    return "spoiled.json"


def no_target(sample: dict[str, Any]) -> None:
    sample["messages"].pop()


def no_file(sample: dict[str, Any]) -> None:
    sample["messages"][4]["content"]["audio_url"] = "gone.wav"


def assistant_first(sample: dict[str, Any]) -> None:
    del sample["messages"][1]
    sample["start_index"] = 3


def system_late(sample: dict[str, Any]) -> None:
    sample["messages"].insert(3, {"role": "system", "content": "Speak."})
    sample["start_index"] = 5


def nothing_learned(sample: dict[str, Any]) -> None:
    sample["start_index"] = 5


def a_click(sample: dict[str, Any]) -> None:
    sample["messages"][4]["content"]["audio_url"] = "click.wav"


@pytest.mark.parametrize(
    ("change", "more", "what"),
    [
        (no_target, [], "no target: the last message must be the assistant's"),
        (no_file, [], "no such file: gone.wav"),
        (assistant_first, [], "the assistant speaks before the user"),
        (system_late, [], "the system's, which can only be the first"),
        (nothing_learned, [], "start_index is 5, of 5 messages"),
        (lambda _: None, ["--max-duration", "0.7"], "longer than --max-duration 0.7"),
        (a_click, ["--min-duration", "0"], "no sound: 0 frames"),
    ],
)
def test_samples_of_no_use_are_refused(place, capsys, change, more, what):
    audio.save(place / "click.wav", np.full(300, 0.1, np.float32), 24000)
    words = training(place, spoiled(place, change), "spoiled")
    assert what in refusal(higgs_train.main, [*words, *more], capsys)
    assert not (place / "spoiled" / "best_checkpoint").exists()


def test_a_reference_that_is_too_long_is_refused(place, tmp_path, capsys):
    hum = 0.3 * np.sin(np.arange(16000 * 31) / 20).astype(np.float32)
    audio.save(tmp_path / "long.wav", hum, 16000)
    words = ["--text", "Hi.", "--reference-audio", str(tmp_path / "long.wav")]
    words += ["--reference-text", "Hm.", "--output", str(tmp_path / "x.wav")]
    line = refusal(higgs_infer.main, [*models(place), *words], capsys)
    assert "a reference of 31.0 s, at most 30 s are learned" in line
    assert not (tmp_path / "x.wav").exists()


def test_an_adapter_of_another_base_is_refused(place, tmp_path, capsys):
    write_miniature(tmp_path, seed=1)
    words = ["--lora-path", str(place / "out" / "best_checkpoint"), "--text", "Hi."]
    words += ["--output", str(tmp_path / "x.wav")]
    line = refusal(higgs_infer.main, [*models(tmp_path), *words], capsys)
    assert "this adapter was trained on another base" in line


def test_a_run_does_not_go_on_with_other_data(place, capsys):
    def other_text(sample: dict[str, Any]) -> None:
        sample["messages"][3]["content"] += " And more."

    line = refusal(higgs_train.main, training(place, spoiled(place, other_text)), capsys)
    assert "can't resume, these changed since the run began" in line
    assert "the data set" in line


def test_codes_that_the_model_has_not_are_refused(place, capsys):
    words = training(place, "samples.json", "codes")
    higgs_train.main(words)
    for path in (place / "codes" / "processed" / "codes").rglob("*.safetensors"):
        save_file({"codes": load_file(path)["codes"] + 40}, path)
    line = refusal(higgs_train.main, [*words, "--overwrite", "--seed", "2"], capsys)
    assert "the model's are below 64" in line
