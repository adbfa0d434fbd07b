"""The YAML files: what they give, and that all their faults are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kani.config import DatasetConfig, Experiments, LoraArgs, ModelConfig, TrainerArgs
from kani.config_files import FILES, as_written, read, read_folder
from kani.tokens import TokenSpace
from ttscommon.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "kani"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def experiment(tmp_path: Path, trainer_args: str) -> TrainerArgs:
    text = f"experiments: [{{base: {{model_id: a}}, trainer_args: {trainer_args}}}]"
    return read(Experiments, written(tmp_path, text)).require().experiments[0].trainer_args


def test_the_six_files_here_are_right():
    found = read_folder(CONFIGS)
    assert {*found} == {*FILES}
    assert [one.findings for one in found.values()] == [()] * 6


def test_the_ids_here_are_those_of_the_released_models():
    assert read(ModelConfig, CONFIGS / "model_config.yaml").require() == ModelConfig()
    assert ModelConfig().space == TokenSpace()


def test_ids_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(UserError, match="the same id"):
        read(ModelConfig, written(tmp_path, "special_tokens: {end_of_ai: 64405}")).require()


def test_every_fault_is_told_at_once(tmp_path):
    found = read(
        Experiments,
        written(
            tmp_path,
            """
            base_model: 3
            experimnts: 1
            experiments:
              - base: {model_id: a/b}
                lora_args: {r: true, target_modules: q_proj, modules_to_save: [x], bias: all}
                trainer_args: {num_train_epoch: 2, bf16: "yes"}
              - base: {}
                trainer_args: {per_device_train_batch_size: 0}
            """,
        ),
    )
    told = [line.split(": ", 1)[1] for line in map(str, found.findings)]
    assert found.value is None
    for line in (
        "experimnts: unknown setting 'experimnts'  (did you mean 'experiments'?)",
        "base_model: expected text, got 3",
        "experiments[1].base: 'a/b' can't be a model_id: it names a folder  (alice-lora16)",
        "experiments[1].lora_args.r: expected a whole number, got True",
        "experiments[1].lora_args.target_modules: expected a list, got 'q_proj'",
        "experiments[1].lora_args.modules_to_save: expected null, got a list",
        "experiments[1].lora_args.bias: expected none, got 'all'",
        "experiments[1].trainer_args.bf16: expected true or false, got 'yes'",
        "experiments[2].base.model_id: 'model_id' is missing",
        "experiments[2].trainer_args: per_device_train_batch_size must be 1 or more, got 0",
    ):
        assert line in told
    assert len(told) == 11
    with pytest.raises(UserError, match=f"10 more: .*--config-dir {tmp_path}"):
        found.require()


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path):
    assert yaml.safe_load("5e-5") == "5e-5"
    assert experiment(tmp_path, "{learning_rate: 5e-5}").learning_rate == 5e-5
    with pytest.raises(UserError, match="expected a number, got 'fast'"):
        experiment(tmp_path, "{learning_rate: fast}")


@pytest.mark.parametrize("old_or_new", ["warmup_ratio: 0.2", "warmup_steps: 0.2"])
def test_both_names_of_the_share_of_warm_up_are_known(tmp_path, old_or_new):
    args = experiment(tmp_path, f"{{{old_or_new}, max_steps: 10}}")
    config = args.fit_config(100, n_processes=1, device="cpu", title="", task_settings={})
    assert (args.warmup_share, config.warmup_steps) == (0.2, 2)


@pytest.mark.parametrize(
    ("written_as", "schedule", "warmup"),
    [
        ("linear", "linear", 10),
        ("constant", "constant", 0),
        ("constant_with_warmup", "constant", 10),
    ],
)
def test_schedules_are_those_of_transformers(written_as, schedule, warmup):
    args = TrainerArgs(schedule=written_as, epochs=1, grad_accumulation=1)
    config = args.fit_config(100, n_processes=1, device="cpu", title="", task_settings={})
    assert (config.schedule, config.warmup_steps) == (schedule, warmup)
    assert (config.final_share, config.betas) == (0.0, (0.9, 0.999))


def test_an_experiment_is_written_as_it_was_read(tmp_path):
    before = read(Experiments, CONFIGS / "experiments.yaml").require()
    path = written(tmp_path, yaml.safe_dump(as_written(before)))
    assert read(Experiments, path).require() == before


def test_the_public_defaults_are_ours():
    args, lora = TrainerArgs(), LoraArgs()
    written_args = as_written(args)
    assert written_args["num_train_epochs"] == 2
    assert written_args["per_device_train_batch_size"] == 1
    assert written_args["gradient_accumulation_steps"] == 4
    assert written_args["learning_rate"] == 5e-5
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.use_rslora) == (16, 16, 0.1, True)


def test_the_scale_of_an_adapter_is_that_of_its_kind():
    assert LoraArgs(r=16, lora_alpha=16).scale == 4.0
    assert LoraArgs(r=16, lora_alpha=16, use_rslora=False).scale == 1.0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("hf_datasets: []", "nothing to train on"),
        ("max_duration_sec: -1\nhf_datasets: [{reponame: a}]", "above 0"),
        ("hf_datasets: [{reponame: a, max_len: 0}]", "1 or more"),
        ("hf_datasets: [{reponame: a, speaker_id: ' '}]", "empty"),
        ("hf_datasets: {reponame: a}", "expected a list"),
        ("[1]", "found a list"),
        ("a: b: c", "cannot read"),
    ],
)
def test_a_bad_data_set_is_refused(tmp_path, text, match):
    with pytest.raises(UserError, match=match):
        read(DatasetConfig, written(tmp_path, text)).require()


def test_no_limit_of_length_is_null(tmp_path):
    path = written(tmp_path, "max_duration_sec: null\nhf_datasets: [{reponame: a}]")
    assert read(DatasetConfig, path).require().max_duration_sec is None


def test_two_models_of_one_name_are_refused(tmp_path):
    text = "experiments: [{base: {model_id: a}}, {base: {model_id: A}}]"
    with pytest.raises(UserError, match="two experiments"):
        read(Experiments, written(tmp_path, text)).require()
