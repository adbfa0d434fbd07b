"""The alignment report as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from higgs_trainer.miniature import write_miniature
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.sample_data import create_sample_data
from tools.higgs_verify import main
from ttscommon.errors import UserError


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    write_miniature(folder)
    create_sample_data(folder / "samples.json", n_samples=4)
    return folder


def words(place: Path, *more: str) -> list[str]:
    found = ["--train-data", str(place / "samples.json"), "--model-path", str(place / "model")]
    found += ["--audio-tokenizer-path", str(place / "codec"), "--device", "cpu"]
    return [*found, "--output-dir", str(place / "out"), *more]


def test_every_check_is_told_with_its_numbers(place, capsys):
    torch.set_num_threads(1)
    assert main(words(place, "--json", str(place / "found.json"))) == 0
    told = capsys.readouterr().out
    assert "10 of 10 checks passed, 1 can't tell" in told
    assert "checkpoint format: native" in told
    assert "codec: 24000 Hz, a frame each 960 samples (25 a second)" in told
    found = json.loads((place / "found.json").read_text())
    assert {check["name"] for check in found["checks"]} >= {"prompt", "step by step", "codec"}


def test_a_check_that_fails_is_an_exit_code(place, monkeypatch, capsys):
    prompt = PromptWriter.prompt
    monkeypatch.setattr(
        PromptWriter,
        "prompt",
        lambda self, asked, codes=(): prompt(self, asked, [(c + 1) % 64 for c in codes]),
    )
    assert main(words(place)) == 1
    assert "prompt: FAILED" in capsys.readouterr().out


def test_wishes_and_folders_that_cannot_be_are_refused(place, tmp_path):
    with pytest.raises(UserError, match="no audio tower"):
        main(words(place, "--force-whisper"))
    with pytest.raises(UserError, match="no such folder"):
        main([*words(place), "--model-path", str(tmp_path / "gone")])
    with pytest.raises(UserError, match="either a speaker or samples"):
        main(words(place, "--speaker", "anna"))
    with pytest.raises(UserError, match="either a speaker or samples"):
        main([])
