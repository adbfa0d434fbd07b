"""Base and experiments speak, are measured and ranked; nothing is spoken or replaced twice."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from datasets import Audio, Dataset
from safetensors.torch import load_file, save_file
from transformers import Lfm2ForCausalLM

from kani.config_files import as_written
from kani.evaluate import Judging
from kani.evaluation_config import HubUpload
from kani.evaluation_outputs import Ranked
from kani.generation import Reader
from kani.hub import upload
from kani.outputs import EXPERIMENT_FILE, FORMAT
from kani.speaking import Pace, invalid_frames, split
from kani.tokens import TokenSpace
from kani.weights import load_language_model
from tests.fresh import FRESH
from tests.kani.killed import judge_until_killed
from tests.kani.made_up import prepared
from tests.kani.made_up_jobs import experiment
from tools.kani_eval import main, told
from ttscommon.errors import UserError
from ttscommon.evaluation.measuring import Instruments
from ttscommon.files import write_json

SENTENCES = [{"first": "Alice: Good morning."}, {"second": "alice: Who is that over there?"}]
N_CLIPS = 3 * 2 * 2  # models, sentences, seeds


class Deaf:
    """Stands for a recogniser."""

    def text(self, audio: np.ndarray, sample_rate: int, language: str) -> str:
        return ""


class Stop(logging.Handler):
    """Ctrl-C as soon as the first model has said something."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("base has spoken"):
            raise KeyboardInterrupt


def write(folder: Path, name: str, content: Any) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture(scope="module")
def configs(tmp_path_factory, miniature) -> Path:
    """Two models that differ from the base, one that was never trained, and a broken one."""
    root = tmp_path_factory.mktemp("eval")
    folder, models = root / "configs", root / "models"
    folder.mkdir()
    base, _ = miniature
    prepared(root, base)
    shutil.move(root / "data", models / "data")
    for number, name in enumerate(("one", "two", "broken"), 1):
        shutil.copytree(base, models / name)
        weights = load_file(base / "model.safetensors")
        torch.manual_seed(number)
        changed = {k: v + 0.01 * number * torch.randn_like(v) for k, v in weights.items()}
        save_file(changed, models / name / "model.safetensors", metadata={"format": "pt"})
        about = {"base_model": str(base), "train_configuration": as_written(experiment(name))}
        about |= {"step": number, "metrics": {"loss": 1.0 / number}, "dataset": {"seed": 42}}
        write_json(models / name / EXPERIMENT_FILE, {"format": FORMAT, "version": 1, **about})
    (models / "broken/model.safetensors").write_bytes(b"broken")
    names = [as_written(experiment(name)) for name in ("one", "two", "three", "broken")]
    codes = {"reponame": str(root / "codes"), "speaker_id": "Alice"}
    paths = {"checkpoints_dir": str(models), "audio_output_dir": str(root / "audio")}
    write(folder, "experiments", {"base_model": str(base), "experiments": names})
    write(folder, "dataset_config", {"hf_datasets": [codes]})
    write(folder, "model_config", {})
    write(folder, "inference_config", {"generation": {"max_new_tokens": 14}})
    write(folder, "eval_config", {"paths": paths, "processing": {"num_proc": 1}})
    write(folder, "eval_set", {"eval_set": SENTENCES, "seeds": [0, 1]})
    return folder


def judged(configs: Path, codec: Path, **changes: Any) -> Ranked:
    instruments = Instruments(transcriber=Deaf(), has_quality=False)
    judging = Judging(configs, codec, device="cpu", **changes)
    return judging.run(instruments, language="en", most_clips=60)


@pytest.fixture(scope="module")
def ranked(configs, miniature) -> Ranked:
    """Killed and stopped while the first model spoke, and gone on with; a clip was lost, too."""
    audio = configs.parent / "audio"
    doomed = FRESH.Process(target=judge_until_killed, args=(configs, miniature[1]))
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    survived = stamps(audio)
    assert [path.parent.name for path in survived].count("base") == 1
    log, stop = logging.getLogger("kani.speaking"), Stop()
    log.setLevel(logging.INFO)
    log.addHandler(stop)
    with pytest.raises(KeyboardInterrupt):
        judged(configs, miniature[1])
    log.removeHandler(stop)
    before = living()
    spoken = stamps(audio)
    assert {path.parent.name for path in spoken} == {"real", "base"}
    assert {path for path, time in survived.items() if spoken[path] != time} == set()
    assert not (audio / "ranking.json").exists()
    lost = audio / "base/first_seed0.wav"
    lost.unlink()
    found = judged(configs, miniature[1])
    now = stamps(audio)
    assert {path for path, time in spoken.items() if now[path] != time} == {lost}
    assert len(now) == N_CLIPS + len(list((audio / "real").iterdir()))
    assert living() == before
    return found


def living() -> int:
    gc.collect()
    return sum(type(one) is Lfm2ForCausalLM for one in gc.get_objects())  # not of proxies


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.wav"))}


def test_all_models_that_there_are_are_ranked_and_the_others_told(ranked):
    assert sorted(one.condition for one in ranked.ranking.ranks) == ["base", "one", "two"]
    assert ranked.troubles["three"].startswith("it isn't trained yet")
    assert "no usable checkpoint" in ranked.troubles["broken"]
    assert set(ranked.evaluation.scores) == {"base", "one", "two", "real"}
    for name in ("base", "one", "two"):
        scores = ranked.evaluation.scores[name]
        assert {"cer", "wer", "length_ratio", "invalid_frames", "failures"} <= set(scores)
        assert scores["failures"].value == 1  # noise finds no end in three frames
        assert scores["failures"].n == 4
    lines = told(ranked)
    assert lines[0].split()[:3] == ["rank", "model", "overall"]
    assert any("not distinguishable" in line for line in lines)
    assert lines[-1].startswith("not judged: broken: no usable checkpoint")


def test_the_table_has_sound_numbers_and_all_settings(ranked, configs):
    saved: Any = Dataset.load_from_disk(str(configs.parent / "audio/dataset"))
    rows = list(saved.cast_column("audio", Audio(decode=False)))
    assert len(rows) == N_CLIPS
    ids = {row["experiment_id"].partition(":")[0] for row in rows}
    assert ids == {"base_model", "one", "two"}
    row = next(row for row in rows if row["experiment_id"] == "two")
    assert (row["sentence_id"], row["sentence"]) == ("first", "alice: Good morning.")
    assert row["audio"]["bytes"].startswith(b"RIFF")
    assert (row["heard"], row["cer"]) == ("", 1)  # random weights say noise
    settings = json.loads(row["train_configuration"])
    assert settings["lora_args"]["target_modules"] == ["q_proj", "w1"]
    assert settings["trainer_args"]["num_train_epochs"] == 2
    known = {row["setting"]: row for row in ranked.settings_rows()}
    assert known["trainer_args.learning_rate"]["one"] == 1e-3
    assert known["trainer_args.learning_rate"]["base"] is None
    assert known["dataset.seed"]["two"] == 42


def test_the_page_says_first_what_is_sure(ranked, configs):
    page = (configs.parent / "audio/evaluation.html").read_text(encoding="utf-8")
    for words in ("it isn&#39;t trained yet", "no usable checkpoint", "first, seed 1"):
        assert words in page
    assert page.index("not distinguishable") < page.index("lora_args.r")


def test_nothing_of_other_settings_is_replaced_unasked(ranked, configs, miniature, tmp_path):
    audio = configs.parent / "audio"
    before = stamps(audio)
    changed = tmp_path / "configs"
    shutil.copytree(configs, changed)
    write(changed, "inference_config", {"generation": {"max_new_tokens": 14, "temperature": 0.5}})
    with pytest.raises(UserError, match="an evaluation of other models or settings is here"):
        judged(changed, miniature[1])
    copied = tmp_path / "audio"
    shutil.copytree(audio, copied)
    (copied / "ranking.json").unlink()
    with pytest.raises(UserError, match="exists already"):
        judged(changed, miniature[1], output=copied)
    assert stamps(audio) == before


def test_what_cannot_be_sent_is_refused_before_any_speaking(configs, tmp_path, monkeypatch):
    changed = tmp_path / "configs"
    shutil.copytree(configs, changed)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    paths = {"checkpoints_dir": "m", "audio_output_dir": str(tmp_path / "audio")}
    for repo, words in (("your-username/results", "a repo_name"), ("me/results", "no token")):
        hub = {"upload_dataset": True, "repo_name": repo}
        write(changed, "eval_config", {"paths": paths, "huggingface": hub})
        with pytest.raises(UserError, match=words):
            main(["--config-dir", str(changed), "--codec", "nowhere"])
    assert not (tmp_path / "audio").exists()


def test_a_data_set_is_sent_privately_and_a_refusal_is_a_line(ranked, configs):
    sent = []

    def push(rows: Dataset, name: str, *, private: bool) -> None:
        sent.append((len(rows), name, private))

    folder, hub = configs.parent / "audio/dataset", HubUpload(repo_name="me/results")
    upload(folder, hub, push)
    assert sent == [(N_CLIPS, "me/results", True)]

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("403 Forbidden\nmore")

    with pytest.raises(UserError, match="the hub didn't take the data set: 403 Forbidden"):
        upload(folder, hub, refuse)


def test_speakers_are_told_from_words_by_those_that_were_trained():
    assert split("ALICE: Good morning.", ["Alice", "bob"]) == ("Alice", "Good morning.")
    assert split("carl: Good morning.", ["Alice"]) == (None, "carl: Good morning.")


def test_a_pace_has_a_part_that_does_not_grow_with_the_text():
    letters = list(range(10, 60, 5))
    pace = Pace.of(letters, [0.5 + 0.07 * n for n in letters])
    assert pace.seconds("x" * 20) == pytest.approx(1.9)
    assert Pace.of([10, 20], [1.0, 2.0]).seconds("x" * 5) == pytest.approx(0.5)


def test_frames_that_the_model_alone_would_not_have_said_are_counted(miniature):
    space = TokenSpace()
    model = load_language_model(miniature[0], space=space)
    prompt = [space.start_of_human, 1, 40, 2, space.end_of_human]
    codes = np.random.default_rng(0).integers(0, 4032, (4, 3))
    ids = (codes.T + space.layer_starts).reshape(-1)
    opened = [*prompt, space.start_of_ai, space.start_of_speech]
    logits = model(input_ids=torch.tensor([[*opened, *ids.tolist()]])).logits[0]
    likeliest = logits[len(opened) - 1 : -1].argmax(-1).view(3, 4).numpy()
    low = space.layer_starts
    right = (likeliest >= low) & (likeliest < low + 4032)
    right[1:, 0] |= likeliest[1:, 0] == space.end_of_speech
    reader = Reader(model, space)
    assert invalid_frames(reader, prompt, codes) == int((~right.all(1)).sum())
    assert invalid_frames(reader, prompt, codes[:, :0]) == 0
    with torch.no_grad():  # a head that likes one layer best is right nowhere but there
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    assert invalid_frames(replace(reader, model=model), prompt, codes) == 3
