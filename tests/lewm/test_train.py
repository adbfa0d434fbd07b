"""Training through the tool people use, on tiny networks and made-up speech."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.multiprocessing.spawn import start_processes

from lewm import weights
from lewm.generation import Request
from lewm.inference_engine import Engine
from tests.fresh import FRESH, METHOD
from tests.lewm.killed import run_until_killed
from tests.lewm.prepared import prepare_tones
from tools.lewm_train import build_parser, configs, main
from ttscommon.errors import UserError
from ttscommon.progress import read_kept

STEPS = ["--autoencoder-steps", "6", "--predictor-steps", "6", "--evaluate-every", "3"]
# Fine-tuning without what keeps a base's words; test_fine_tuning.py has that.
PLAIN = ["--speaker-steps", "0", "--replay-share", "0", "--text-encoder", "train"]
SMALL = ["--preset", "tiny", "--batch-size", "4", "--save-every", "2", "--device", "cpu"]


def arguments(folder: Path, output: Path, *more: str) -> list[str]:
    paths = ["--data_dir", str(folder), "--output_dir", str(output)]
    return [*paths, *SMALL, *STEPS, "--eval-texts", "2", *more]


def run_as_one_of_two(rank: int, port: int, words: list[str]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main(words)


def check_same_voice(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_two_stages_write_a_voice_that_loads(tmp_path: Path, capsys) -> None:
    data = prepare_tones(tmp_path / "data")
    main(arguments(data, tmp_path / "out"))
    printed = capsys.readouterr().out
    assert f"Best voice: {tmp_path / 'out/best_checkpoint'}" in printed
    model, info = weights.load(tmp_path / "out/best_checkpoint")
    assert info.step in (3, 6)
    assert 0.5 < info.frames_per_byte < 6
    assert info.metrics["mel_dtw"] > 0
    assert float(model.latent_std.min()) >= 0.05
    assert not torch.equal(model.latent_std, torch.ones(32))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"best_checkpoint", "final_checkpoint", "logs", "runs"}


@pytest.mark.parametrize("died_in", ["runs/autoencoder/best", "best_checkpoint"])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, died_in: str) -> None:
    data = prepare_tones(tmp_path / "data")
    words = arguments(data, tmp_path / "killed")
    doomed = FRESH.Process(
        target=run_until_killed, args=(words, str(tmp_path / "killed" / died_in))
    )
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    main([*words, "--resume"])
    main(arguments(data, tmp_path / "straight"))
    for name in ("best_checkpoint", "final_checkpoint"):
        check_same_voice(tmp_path / "straight" / name, tmp_path / "killed" / name)


def test_two_processes_train_the_same_voice_as_one(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = arguments(data, tmp_path / "two")
    start_processes(run_as_one_of_two, (port, words), nprocs=2, start_method=METHOD)
    main(arguments(data, tmp_path / "one", "--grad-accumulation", "2"))
    one, two = (
        load_file(tmp_path / n / "final_checkpoint/model.safetensors") for n in ("one", "two")
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize(
    "more",
    [
        ("--joint",),
        ("--head", "flow"),
        ("--joint", "--regularizer", "sigreg"),
        ("--amp", "bf16", "--downsample", "2"),
    ],
)
def test_other_forms_train_every_tensor(tmp_path: Path, more: tuple[str, ...]) -> None:
    main(arguments(prepare_tones(tmp_path / "data"), tmp_path / "out", *more))
    _, info = weights.load(tmp_path / "out/final_checkpoint")
    assert info.step == 6


def test_two_speakers_get_a_table_and_both_rows_learn(tmp_path: Path) -> None:
    for name, pitch in (("low", 1.0), ("high", 2.0)):
        prepare_tones(tmp_path / name / "lewm/processed", speaker=name, pitch=pitch)
    main(["--speaker", "low", "high", "--training-root", str(tmp_path), *SMALL, *STEPS])
    model, _ = weights.load(tmp_path / "low/lewm/final_checkpoint")
    assert model.config.speakers == ("high", "low")
    begun = weights.load(tmp_path / "low/lewm/runs/autoencoder/final")[0]
    moved = model.text_encoder.speakers.weight - begun.text_encoder.speakers.weight
    assert (moved.abs().sum(1) > 0).all()
    engine = Engine(tmp_path / "low/lewm/final_checkpoint")
    assert engine.voice(None, "low") == "low"
    low, high = engine.generate([Request(text="abc abc", speaker=name) for name in ("low", "high")])
    n = min(len(low.latents), len(high.latents))
    assert not torch.allclose(low.latents[:n], high.latents[:n], atol=1e-3)


def test_fine_tuning_starts_from_the_given_voice(tmp_path: Path) -> None:
    main(arguments(prepare_tones(tmp_path / "data"), tmp_path / "base"))
    other = prepare_tones(tmp_path / "other", speaker="new", seed=5)
    base = tmp_path / "base/best_checkpoint"
    words = arguments(other, tmp_path / "tuned", "--init-from", str(base), "--lr", "1e-9")
    main([*words, *PLAIN, "--autoencoder", "train", "--autoencoder-learning-rate", "1e-9"])
    _, info = weights.load(tmp_path / "tuned/final_checkpoint")
    assert info.base == str(base)
    one, two = (
        load_file(tmp_path / name / "model.safetensors")
        for name in ("base/best_checkpoint", "tuned/final_checkpoint")
    )
    names = [name for name in one if name.startswith(("predictor.", "mel_decoder."))]
    assert len(names) > 50
    for name in names:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("trained", ["decoder", "keep"])
def test_a_frozen_encoder_keeps_its_bits_and_the_meaning_of_its_latents(
    tmp_path: Path, trained: str
) -> None:
    main(arguments(prepare_tones(tmp_path / "data"), tmp_path / "base"))
    other = prepare_tones(tmp_path / "other", speaker="new", seed=5)
    base = tmp_path / "base/best_checkpoint"
    words = arguments(other, tmp_path / "tuned", "--init-from", str(base))
    main([*words, *PLAIN, "--autoencoder", trained])
    one, two = (
        load_file(folder / "model.safetensors")
        for folder in (base, tmp_path / "tuned/final_checkpoint")
    )
    changed = {name.partition(".")[0] for name in one if not torch.equal(one[name], two[name])}
    decoder = {"mel_decoder"} if trained == "decoder" else set()
    assert changed == {"text_encoder", "predictor", *decoder}


def test_a_predictor_without_latents_yet_gets_them_standardised(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data")
    main(arguments(data, tmp_path / "base"))
    copier = tmp_path / "base/runs/autoencoder/best"
    main(arguments(data, tmp_path / "on", "--init-from", str(copier), "--autoencoder", "keep"))
    one, two = (
        load_file(tmp_path / name / "final_checkpoint/model.safetensors") for name in ("base", "on")
    )
    for name in ("latent_mean", "latent_std"):
        assert torch.equal(one[name], two[name])


def test_nothing_is_kept_of_nothing(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data")
    with pytest.raises(UserError, match="--init-from"):
        main(arguments(data, tmp_path / "out", "--autoencoder", "keep"))
    assert not (tmp_path / "out").exists()


def test_epochs_set_the_number_of_steps(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data", n_clips=9)
    alone = ("--join-two", "0", "--join-three", "0")
    main(arguments(data, tmp_path / "out", "--epochs", "2", *alone))
    _, info = weights.load(tmp_path / "out/final_checkpoint")
    assert info.step == 4  # 8 training clips in batches of 4, twice


def test_the_predictor_learns_the_tones(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data", n_clips=12)
    steps = ["--autoencoder-steps", "30", "--predictor-steps", "60", "--evaluate-every", "30"]
    main([*arguments(data, tmp_path / "out"), *steps])
    records = read_kept(tmp_path / "out/logs/predictor/progress.jsonl")
    losses = [r["prediction"] for r in records if r["group"] == "train"]
    assert losses[-1] < 0.85 * losses[0]
    copies = read_kept(tmp_path / "out/logs/autoencoder/progress.jsonl")
    errors = [r["mel_l1"] for r in copies if r["group"] == "val"]
    assert errors[-1] < 0.9


def test_a_finished_voice_is_not_replaced_unasked(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data")
    main(arguments(data, tmp_path / "out"))
    with pytest.raises(UserError, match=r"learning_rate: 0.002 -> 0.1.*--overwrite"):
        main(arguments(data, tmp_path / "out", "--lr", "0.1"))
    main(arguments(data, tmp_path / "out", "--lr", "0.001", "--overwrite"))
    state = json.loads((tmp_path / "out/runs/predictor/state/state.json").read_text())
    assert state["settings"]["learning_rate"] == 0.001


def test_misspelt_setting_in_a_file_suggests_the_right_one(tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("preset: tiny\npredictor_stepz: 5\n")
    with pytest.raises(UserError, match="did you mean 'predictor_steps'"):
        main(["--speaker", "ozzy", "--config", str(settings)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--speaker", "../x"], "can't be a speaker's name"),
        (
            ["--speaker", "nobody"],
            r"no prepared features.*lewm_preprocess.py --speaker nobody",
        ),
        ([], "nothing to train on"),
    ],
)
def test_bad_input_is_one_clear_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(words)


def test_one_clip_cannot_be_split(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data", n_clips=1)
    with pytest.raises(UserError, match="one clip of tone is too little"):
        main(arguments(data, tmp_path / "out"))


def test_overwrite_keeps_the_stage_that_did_not_change(tmp_path: Path) -> None:
    data = prepare_tones(tmp_path / "data")
    main(arguments(data, tmp_path / "out"))
    copier = tmp_path / "out/runs/autoencoder/best/model.safetensors"
    written = copier.stat().st_mtime_ns
    main(arguments(data, tmp_path / "out", "--predictor-steps", "4", "--overwrite"))
    assert copier.stat().st_mtime_ns == written
    assert weights.load(tmp_path / "out/final_checkpoint")[1].step == 4


def test_a_flag_beats_the_preset_of_a_file(tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("preset: tiny\nspectral_weight: 0.5\n")
    words = ["--speaker", "a", "--config", str(settings)]
    assert configs(build_parser().parse(words))[0].preset == "tiny"
    model, training = configs(build_parser().parse([*words, "--preset", "small"]))
    assert model.preset == "small"
    assert training.spectral_weight == 0.5


@pytest.mark.parametrize(
    "flags",
    [
        ("--evaluate-every", "0"),
        ("--eval-texts", "0"),
        ("--epochs", "0"),
        ("--stop-weight", "0"),
        ("--join-two", "-1"),
        ("--validation-share", "1.5"),
        ("--ema-decay", "1"),
        ("--cache-mels", "device", "--workers", "2"),
        ("--joint", "--autoencoder", "keep"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(flags: tuple[str, ...]) -> None:
    with pytest.raises(UserError):
        configs(build_parser().parse(["--speaker", "a", *flags]))
