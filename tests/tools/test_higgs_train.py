"""From samples to an adapter by command, and what is refused on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tools.higgs_train import build_parser, configs, main
from ttscommon import audio
from ttscommon.catalogue import HIGGS
from ttscommon.errors import UserError


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("train") / "samples.json"
    assert main(["--create-sample-data", str(path)]) == 0
    return path


def test_a_quick_test_goes_from_recordings_to_speech(samples, tmp_path, capsys):
    torch.set_num_threads(1)
    words = ["--train_data", str(samples), "--quick_test", "--output_dir", str(tmp_path / "out")]
    words += ["--device", "cpu", "--max-steps", "2", "--gradient_accumulation_steps", "1"]
    assert main(words) == 0
    told = capsys.readouterr().out
    best = tmp_path / "out" / "best_checkpoint"
    assert f"Best adapter: {best}" in told
    assert "tools/higgs_verify.py" in told
    assert f"Spoke {tmp_path / 'out' / 'quick_test.wav'}" in told
    assert audio.duration(tmp_path / "out" / "quick_test.wav") > 0.03
    metadata = json.loads((best / "training_metadata.json").read_text())
    assert metadata["config"]["lora_rank"] == 8
    assert metadata["config"]["grad_accumulation"] == 1
    assert main([*words, "--resume_from", "latest"]) == 0  # finished; nothing is trained again


def test_good_samples_have_no_defects(samples, capsys):
    assert main(["--train-data", str(samples), "--validate-data-only"]) == 0
    assert capsys.readouterr().out == "No defects.\n"


def test_every_defect_of_every_sample_is_told(samples, tmp_path, capsys):
    records = json.loads(samples.read_text())
    records[1]["messages"].pop()
    records[2]["messages"][2]["content"]["audio_url"] = "gone.wav"
    records[3]["messages"].insert(2, {"role": "system", "content": "again"})
    records[5]["messages"][4] = records[4]["messages"][4]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(records))
    words = ["--train-data", str(path), "--audio-base-path", str(samples.parent)]
    assert main([*words, "--validate-data-only", "--max-duration", "1.2"]) == 1
    told = capsys.readouterr().out
    for said in ("no target", "no such file: gone.wav", "only be the first", "2 different texts"):
        assert said in told
    assert "longer than --max-duration 1.2" in told


def test_the_guides_flags_are_understood():
    words = ["--train_data", "x.json", "--val_data", "y.json", "--batch_size", "2"]
    words += ["--learning_rate", "1e-4", "--lora_r", "32", "--num_epochs", "5", "--quick_test"]
    words += ["--gradient_accumulation_steps", "4", "--max_grad_norm", "0.5", "--eval_steps", "7"]
    words += ["--logging_steps", "3", "--save_steps", "9", "--dataloader_num_workers", "1"]
    words += ["--lora_target_modules", "audio_lm_head", "--lora_alpha", "64"]
    found = configs(build_parser().parse(words))
    assert (found.lora_rank, found.epochs, found.grad_accumulation, found.batch_size) == (
        32,
        5,
        4,
        2,
    )
    assert (found.grad_clip, found.val_interval, found.log_interval) == (0.5, 7, 3)
    assert (found.save_interval, found.num_workers, found.max_steps) == (9, 1, 10)
    assert found.targets == ("audio_lm_head",)


def test_the_checkpoint_is_looked_for_where_it_is_downloaded_to():
    found = build_parser().parse(["--speaker", "ozzy"])
    places = {f"checkpoints/{HIGGS.name}/{source.folder}" for source in HIGGS.sources}
    assert {found.model_path.as_posix(), found.audio_tokenizer_path.as_posix()} == places


def test_what_cannot_be_is_refused(samples, tmp_path):
    with pytest.raises(UserError, match="a run goes on where it is"):
        main(["--train-data", str(samples), "--resume-from", "elsewhere"])
    with pytest.raises(UserError, match="tool of their own"):
        main(["--speaker", "anna", "--validate-data-only"])
    with pytest.raises(UserError, match="no such folder"):
        main(["--train-data", str(samples), "--model-path", str(tmp_path / "gone")])
