"""A new voice from one that speaks: what stays as it was, what is replayed, and exact resume."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from lewm import replay, weights
from lewm.config import TrainConfig
from tests.fresh import FRESH
from tests.lewm.killed import run_until_killed
from tests.lewm.prepared import prepare_tones
from tools.lewm_train import build_parser, configs, main
from ttscommon.batching import BatchKey
from ttscommon.errors import UserError

CPU = ["--device", "cpu", "--batch-size", "4", "--eval-texts", "2"]
STEPS = ["--autoencoder-steps", "4", "--predictor-steps", "6", "--evaluate-every", "3"]
TUNING = ["--speaker-steps", "4", "--replay-clips", "12", "--save-every", "2"]

SIZES = {"width": 32, "ff_dim": 64, "encoder_dim": 32, "encoder_ff_dim": 64, "decoder_dim": 32}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A voice of two speakers that speaks, after a fashion."""
    folder = tmp_path_factory.mktemp("base")
    for name, pitch in (("low", 1.0), ("high", 2.0)):
        prepare_tones(folder / name / "lewm/processed", speaker=name, pitch=pitch, n_clips=6)
    sizes = folder / "sizes.yaml"
    sizes.write_text(
        "width: 32\nff_dim: 64\nencoder_dim: 32\nencoder_ff_dim: 64\ndecoder_dim: 32\n"
    )
    words = ["--speaker", "low", "high", "--training-root", str(folder), "--preset", "tiny"]
    main([*words, *CPU, *STEPS, "--config", str(sizes), "--output-dir", str(folder / "voice")])
    voice = folder / "voice/best_checkpoint"
    tensors = load_file(voice / "model.safetensors")
    tensors["predictor.stop.bias"] += 4  # so few steps taught it no end, and it would run away
    save_file(tensors, voice / "model.safetensors")
    return voice


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> Path:
    return prepare_tones(tmp_path_factory.mktemp("new"), speaker="new", pitch=1.5, seed=5)


def arguments(data: Path, output: Path, base: Path, *more: str) -> list[str]:
    where = ["--data-dir", str(data), "--output-dir", str(output), "--init-from", str(base)]
    return [*where, *CPU, *STEPS, *TUNING, *more]


def changed(one: Path, other: Path) -> set[str]:
    """Tensors that differ, by network; of the text encoder by part."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    names = [n for n in second if n not in first or not torch.equal(first[n], second[n])]
    parts = [name.split(".") for name in names]
    return {".".join(p[:2]) if p[0] == "text_encoder" else p[0] for p in parts}


@pytest.fixture(scope="module")
def tuned(base: Path, new: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("tuned")
    main(arguments(new, output, base))
    return output


def test_only_decoder_predictor_and_speaker_table_are_tuned(base: Path, tuned: Path) -> None:
    final = tuned / "final_checkpoint"
    networks = {name for name in changed(base, final) if not name.startswith("text_encoder.")}
    assert networks == {"mel_decoder", "predictor"}
    assert "text_encoder.speakers" in changed(base, final)
    info = weights.load(final)[1]
    assert info.base == str(base)
    assert info.training["language_of"] == {"high": "en", "low": "en", "new": "en"}
    assert info.max_text_bytes >= weights.load(base)[1].max_text_bytes


def test_first_the_new_row_of_the_speaker_table_moves_alone(base: Path, tuned: Path) -> None:
    decoded, placed = (tuned / f"runs/{stage}/best" for stage in ("autoencoder", "speaker"))
    assert changed(decoded, placed) == {"text_encoder.speakers"}
    before, after = (weights.load(folder)[0].text_encoder.speakers for folder in (decoded, placed))
    assert before is not None
    assert after is not None
    assert weights.load(placed)[0].config.speakers == ("high", "low", "new")
    assert torch.equal(before.weight[:2], after.weight[:2])
    assert not torch.equal(before.weight[2], after.weight[2])


def test_the_base_says_what_is_replayed_once(base: Path, new: Path, tuned: Path, caplog) -> None:
    said = json.loads((tuned / "runs/replay/said.json").read_text())
    assert set(said["speakers"]) == {"high", "low"}
    assert len(said["texts"]) == len(said["n_latents"]) <= 12
    written = (tuned / "runs/replay/latents.npy").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        main(arguments(new, tuned, base))
    assert (tuned / "runs/replay/latents.npy").stat().st_mtime_ns == written
    assert "predictor was finished" in caplog.text


def test_what_was_said_for_another_base_is_forgotten_before_it_is_replaced(
    base: Path, tmp_path: Path, monkeypatch
) -> None:
    """Stopped in between, its note would vouch for other latents."""

    def stop(*args, **options):
        raise KeyboardInterrupt

    note = tmp_path / "said.json"
    note.write_text('{"made_from": {"base": "another"}}')
    (tmp_path / "latents.npy").touch()
    monkeypatch.setattr(replay, "Engine", stop)
    with pytest.raises(KeyboardInterrupt):
        replay.said_by(base, ["A text."], 1, 0, tmp_path, "cpu")
    assert not note.exists()


def test_the_plan_names_what_is_frozen(base: Path, new: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        more = ("--speaker-steps", "2", "--autoencoder", "keep", "--replay-share", "0")
        more += ("--text-encoder", "keep")
        main(arguments(new, tmp_path, base, *more))
    frozen = "frozen: text_encoder, audio_encoder"
    assert f"speaker: trains text_encoder.speakers; {frozen}, predictor, mel_dec" in caplog.text
    assert f"predictor: trains text_encoder.speakers, predictor; {frozen}, mel_dec" in caplog.text
    assert not (tmp_path / "runs/replay").exists()
    parts = {"predictor", "text_encoder.speakers"}
    assert changed(base, tmp_path / "final_checkpoint") == parts


@pytest.mark.parametrize(
    "died_in", ["runs/speaker/best", pytest.param("best_checkpoint", marks=pytest.mark.slow)]
)
def test_a_killed_fine_tuning_goes_on_to_the_same_bits(
    base: Path, new: Path, tuned: Path, tmp_path: Path, died_in: str
) -> None:
    words = arguments(new, tmp_path, base)
    doomed = FRESH.Process(target=run_until_killed, args=(words, str(tmp_path / died_in)))
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    main(words)
    for name in ("best_checkpoint", "final_checkpoint"):
        assert changed(tuned / name, tmp_path / name) == set()


def test_clips_of_the_base_s_voices_are_replayed_where_they_are_given(
    base: Path, new: Path, tmp_path: Path, caplog
) -> None:
    prepare_tones(tmp_path / "new/lewm/processed", speaker="new", seed=5)
    prepare_tones(tmp_path / "low/lewm/processed", speaker="low", n_clips=8)
    words = ["--speaker", "new", "low", "--training-root", str(tmp_path)]
    with caplog.at_level(logging.INFO):
        main([*words, "--init-from", str(base), *CPU, *STEPS, *TUNING])
    assert "7 clips of the base's voices are replayed" in caplog.text
    assert "11 clips, " in caplog.text  # only the new voice's are counted
    assert not (tmp_path / "new/lewm/runs/replay").exists()


def test_a_share_of_the_batches_is_replayed_and_every_clip_in_turn() -> None:
    class Plan:
        fingerprint = "x"

        def __init__(self, n: int):
            self.items, self.loaded = list(range(n)), []

        def epoch(self, epoch: int) -> list[BatchKey]:
            return [BatchKey(epoch, i, (item,)) for i, item in enumerate(self.items)]

        def load(self, key: BatchKey) -> BatchKey:
            return key

    own, replayed = Plan(6), Plan(5)
    plan: Any = replay.ReplayPlan(cast(Any, own), cast(Any, replayed), 0.25, 0)
    epochs = [plan.epoch(epoch) for epoch in range(3)]
    assert [len(keys) for keys in epochs] == [8, 8, 8]
    again = [key.items[0] - 6 for keys in epochs for key in keys if key.items[0] >= 6]
    assert sorted(again) == [0, 0, 1, 2, 3, 4]
    assert [key.items for key in map(plan.load, epochs[0])] != sorted(
        key.items for key in map(plan.load, epochs[0])
    )
    assert max(plan.load(key).items[0] for key in epochs[0]) == 5


def test_fine_tuning_has_its_own_defaults_and_the_base_s_sizes(base: Path, tmp_path: Path) -> None:
    words = ["--speaker", "a", "--init-from", str(base)]
    model, training = configs(build_parser().parse([*words, "--learning-rate", "0.5"]))
    assert model.preset == "tiny"
    assert training.autoencoder == "decoder"
    assert (training.replay_share, training.learning_rate) == (0.5, 0.5)
    copier = base.parent / "runs/autoencoder/best"  # it can't speak, so there are no words to keep
    words = ["--speaker", "a", "--init-from", str(copier)]
    assert configs(build_parser().parse(words))[1] == TrainConfig()
    joint = configs(build_parser().parse(["--speaker", "a", "--init-from", str(base), "--joint"]))
    assert joint[1] == TrainConfig(joint=True)


def test_a_run_that_knows_no_fine_tuning_names_none_of_its_settings(base: Path) -> None:
    state = json.loads((base.parent / "runs/predictor/state/state.json").read_text())
    settings = state["settings"]["task_settings"]["train"]
    assert [name for name in settings if name.startswith(("replay", "speaker", "patience"))] == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--autoencoder", "train"), "needs latents that keep their meaning"),
        (("--replay-share", "1"), "replay_share must be in"),
        (("--replay-texts", "gone.txt"), r"no such text file.*gone\.txt"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    base: Path, new: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments(new, tmp_path, base, *more))


def test_a_base_that_cannot_speak_is_not_replayed(base: Path, new: Path, tmp_path: Path) -> None:
    copier = base.parent / "runs/autoencoder/best"
    words = arguments(new, tmp_path / "out", copier, "--autoencoder", "keep")
    with pytest.raises(UserError, match="no voice to replay"):
        main([*words, "--replay-share", "0.5"])
    assert not (tmp_path / "out").exists()
