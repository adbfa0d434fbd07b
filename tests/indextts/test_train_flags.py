"""From flags to a job, and what is told when it is done."""

from __future__ import annotations

import argparse
import os
import shlex

import pytest

from indextts.train import TrainReport
from indextts.train_config import LoraTrainConfig
from indextts.train_flags import chosen, job, tell
from tests.indextts.gpt_training import prepared
from tools import train_gpt_lora
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


@pytest.fixture
def root(tmp_path, miniature):
    """Two speakers with clips."""
    for name in ("anna", "ozzy"):
        prepared(tmp_path / "training" / name / "dataset", miniature)
    return tmp_path / "training"


def parsed(miniature, *words: str) -> argparse.Namespace:
    return train_gpt_lora.build_parser().parse([*words, "--model-dir", str(miniature)])


def made(miniature, *words: str):
    return job(parsed(miniature, *words), "lora", words, default_output="trained_lora")


@pytest.mark.parametrize(
    ("n_processes", "device", "start"),
    [
        ("1", "cpu", "python tools/train_gpt_lora.py --speaker ozzy"),
        ("2", "auto", "accelerate launch --num_processes 2 tools/train_gpt_lora.py --speaker ozzy"),
        ("2", "cpu", "accelerate launch --cpu --num_processes 2 tools/train_gpt_lora.py --speaker"),
    ],
)
def test_what_was_launched_goes_on_with_as_many_processes(
    root, miniature, monkeypatch, n_processes, device, start
):
    monkeypatch.setitem(os.environ, "WORLD_SIZE", n_processes)
    words = ["--speaker", "ozzy", "--training-root", str(root), "--device", device, "--overwrite"]
    command = made(miniature, *words).resume_command
    assert command.startswith(start)
    assert "--overwrite" not in command


def test_a_model_of_two_speakers_needs_a_place_of_its_own(root, miniature, tmp_path):
    words = ["--speaker", "ozzy", "anna", "--training-root", str(root)]
    with pytest.raises(UserError, match="ozzy_and_anna"):
        made(miniature, *words)
    place = tmp_path / "both"
    assert made(miniature, *words, "--output-dir", str(place)).output.folder == place


@pytest.mark.parametrize("place", ["training/ozzy/lora_b", "elsewhere/ozzy/lora"])
def test_what_is_to_be_typed_next_speaks_with_the_model_that_was_trained(
    root, miniature, tmp_path, place
):
    words = ["--speaker", "ozzy", "--training-root", str(root)]
    for flags, expected in (
        ([], ["--speaker", "ozzy", "--training-root", str(root), "--model-type", "lora"]),
        (["--output-dir", str(tmp_path / place)], ["--lora-path", str(tmp_path / place / "best")]),
    ):
        work = made(miniature, *words, *flags)
        report = TrainReport(work.output.folder / "best", work.output.folder, None, 3, {"loss": 1})
        lines = tell(parsed(miniature, *words, *flags), work, report).splitlines()
        told = next(line for line in lines if line.startswith("Next: "))
        assert shlex.split(told)[3 : 3 + len(expected)] == expected


def test_a_preset_is_a_way_to_choose_settings_and_not_one_of_them(miniature, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("preset: heavy\nepochs: 3\n", encoding="utf-8")
    heavy = chosen(parsed(miniature, "--config", str(path)), LoraTrainConfig)
    assert (heavy.lora_rank, heavy.epochs) == (32, 3)
    light = chosen(parsed(miniature, "--config", str(path), "--preset", "light"), LoraTrainConfig)
    assert light == LoraTrainConfig(epochs=3, lora_rank=8, lora_alpha=16.0, lora_mlp=False,
                                    lora_heads=False)  # fmt: skip
    with pytest.raises(TypeError):
        LoraTrainConfig(preset="heavy")  # type: ignore[call-arg]


def test_the_root_of_a_speaker_is_where_it_was_looked_for(root, miniature):
    work = made(miniature, "--speaker", "ozzy", "--training-root", str(root))
    assert work.output.folder == Speaker("ozzy", root).lora.folder
