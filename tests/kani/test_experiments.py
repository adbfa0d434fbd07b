"""A folder of YAML files: experiments one after the other, and all faults before them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from kani.checking import check
from kani.config_files import as_written
from kani.experiments import open_workshop, run_all, train_one
from tests.kani.made_up import saved
from tests.kani.made_up_jobs import MODEL, experiment, few_codes
from tools.kani_check_config import main as check_config
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.stages import INTERRUPTED


@pytest.fixture
def configs(tmp_path, base) -> Path:
    """Files of two experiments, of which the second's learning rate is high."""
    folder = tmp_path / "configs"
    folder.mkdir()
    codes = saved(tmp_path / "codes", 8, **few_codes(8))
    source = {"reponame": str(codes), "speaker_id": "alice"}
    data = {"hf_datasets": [source], "validation_share": 0.2}
    both = [experiment("one", max_steps=1), experiment("two", max_steps=1)]
    models = {"base_model": str(base), "experiments": [as_written(one) for one in both]}
    places = {"paths": {"checkpoints_dir": str(tmp_path / "models")}}
    files = {
        "dataset_config": data,
        "experiments": models,
        "model_config": as_written(MODEL),
        "inference_config": {},
        "eval_config": places,
        "eval_set": {"eval_set": [{"a": "alice: Hello."}]},
    }
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def changed(configs: Path, name: str, change: Any) -> None:
    path = configs / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def opened(configs: Path):
    return open_workshop(configs, device="cpu")


def exit_code(workshop, one) -> int:
    """What a process that trains one ends with."""
    try:
        train_one(workshop.job(one))
    except UserError:
        return 1
    return 0


def test_a_failed_experiment_is_told_and_the_others_are_trained(configs, tmp_path):
    def spoil(content):
        content["experiments"][0]["lora_args"]["target_modules"] = ["w9"]

    changed(configs, "experiments", spoil)
    workshop = opened(configs)
    outcomes = run_all(workshop, lambda one: exit_code(workshop, one))
    assert [(one.model_id, one.state) for one in outcomes] == [
        ("one", "failed"),
        ("two", "trained"),
    ]
    assert "no layer of this network is called 'w9'" in outcomes[0].why
    told = json.loads((tmp_path / "models/runs/results.json").read_text())["experiments"]
    assert [one["state"] for one in told] == ["failed", "trained"]
    failure = json.loads((tmp_path / "models/runs/one/failure.json").read_text())
    assert "Traceback" in failure["traceback"]
    assert (tmp_path / "models/two/model.safetensors").is_file()
    assert not (tmp_path / "models/one").exists()

    asked = []
    again = run_all(workshop, lambda one: asked.append(one.base.model_id) or 1)
    assert [one.state for one in again] == ["failed", "finished before"]
    assert again[1].seconds > 0
    assert asked == ["one"]


def test_a_stop_ends_the_run_and_a_kill_only_the_experiment(configs):
    workshop = opened(configs)
    with pytest.raises(KeyboardInterrupt, match="Go on"):
        run_all(workshop, lambda one: INTERRUPTED)
    outcomes = run_all(workshop, lambda one: -9)
    assert [one.state for one in outcomes] == ["failed", "failed"]
    assert "SIGKILL" in outcomes[0].why


def test_a_second_training_of_an_experiment_waits_for_the_first(configs, tmp_path):
    """As after the death of the process that started the first."""
    workshop = opened(configs)
    folder = tmp_path / "models/runs/one"
    folder.mkdir(parents=True)
    first = FileLock(folder / "lock", thread_local=False)
    first.acquire()

    class Ending(logging.Handler):
        """The first ends as soon as the second says that it waits."""

        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for its end" in record.getMessage():
                assert not (tmp_path / "models/one").exists()
                first.release()

    listener = Ending()
    logging.getLogger("kani.experiments").addHandler(listener)
    try:
        train_one(workshop.job(workshop.named("one")))
    finally:
        logging.getLogger("kani.experiments").removeHandler(listener)
    assert not first.is_locked
    assert (tmp_path / "models/one/model.safetensors").is_file()


def test_an_unknown_experiment_is_refused(configs):
    with pytest.raises(UserError, match="no experiment 'three'"):
        opened(configs).named("three")


def test_right_files_are_found_right(configs, capsys):
    assert check(configs) == []
    assert check_config(["--config-dir", str(configs)]) == 0
    assert "All is well" in capsys.readouterr().out


def test_everything_wrong_is_told_at_once(configs, capsys, tmp_path):
    def models(content):
        content["base_model"] = str(tmp_path / "nowhere")
        content["experiments"][0]["lora_args"]["target_modules"] = ["q_proj", "query"]
        content["experiments"][1]["trainer_args"]["max_step"] = 3

    changed(configs, "experiments", models)
    changed(configs, "dataset_config", lambda c: c["hf_datasets"][0].update(text_col_name="words"))
    changed(configs, "eval_set", lambda c: c["eval_set"].append({"b": "bob: Hello."}))
    assert check_config(["--config-dir", str(configs)]) == 1
    told = capsys.readouterr().out
    assert "unknown setting 'max_step'" in told
    assert "no column words" in told
    assert "begins with none of the speakers that are trained: alice" in told

    changed(configs, "experiments", lambda c: c["experiments"][1]["trainer_args"].pop("max_step"))
    assert check_config(["--config-dir", str(configs)]) == 1
    told = capsys.readouterr().out
    assert "no model here: config.json is missing" in told
    assert "no layer of this network is called 'query'" in told


def test_codes_of_another_codec_are_found(configs, tmp_path):
    saved(tmp_path / "wide", 8)
    changed(
        configs,
        "dataset_config",
        lambda c: c["hf_datasets"][0].update(reponame=str(tmp_path / "wide")),
    )
    told = [str(finding) for finding in check(configs)]
    assert len(told) == 4
    assert "nano_layer_1 has codes from" in told[0]


@pytest.mark.parametrize(("tag", "is_told"), [("EN_us", False), ("en-us", True)])
def test_a_language_that_the_base_does_not_list_is_told(configs, tmp_path, base, tag, is_told):
    other = shutil.copytree(base, tmp_path / "base2")
    config = read_json(other / "config.json")
    config["language_settings"] = {"status": True, "language_tags_list": ["en_us", "de_de"]}
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    changed(configs, "experiments", lambda c: c.update(base_model=str(other)))
    only = {"speaker_id": None, "language_tag": tag}
    changed(configs, "dataset_config", lambda c: c["hf_datasets"][0].update(only))
    changed(configs, "eval_set", lambda c: c.update(eval_set=[{"a": f"{tag}: Hello."}]))
    told = check(configs)
    assert [one.what for one in told] == (
        ["the base knows en_us, de_de, and learns en-us from these clips"] if is_told else []
    )
    assert all(one.is_remark for one in told)


def test_clips_that_are_all_too_long_are_found(configs):
    changed(configs, "dataset_config", lambda c: c.update(max_duration_sec=0.1))
    assert "none of 8 clips is left" in str(check(configs)[0])
