"""The command that goes on with a run, and what the launcher's configurations ask for."""

from __future__ import annotations

import pytest
import yaml

from ttscommon.errors import UserError
from ttscommon.launching import is_sharding_asked, same_command, take_over_sharding


@pytest.fixture
def launched(monkeypatch):
    """As one of four processes; nothing of it is left behind."""
    for name in ("ACCELERATE_USE_FSDP", "VOXTUNE_FSDP", "FSDP_VERSION", "FSDP_OFFLOAD_PARAMS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WORLD_SIZE", "4")
    return monkeypatch


def test_a_run_goes_on_with_its_own_words_but_for_overwriting(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    words = ["--speaker", "ozzy", "--overwrite", "--text", "two words"]
    typed = same_command("train_x", words, "auto")
    assert typed == "python tools/train_x.py --speaker ozzy --text 'two words'"


def test_processes_are_launched_again(launched):
    typed = same_command("train_x", [], "cpu")
    assert typed == "accelerate launch --cpu --num_processes 4 tools/train_x.py"


def test_processes_that_share_weights_are_launched_again(launched):
    launched.setenv("ACCELERATE_USE_FSDP", "true")
    launched.setenv("FSDP_VERSION", "2")
    words = "accelerate launch --use_fsdp --fsdp_version 2 --num_processes 4 tools/train_x.py"
    assert same_command("train_x", [], "auto") == words
    take_over_sharding()
    assert is_sharding_asked()  # though accelerate isn't told any more
    launched.setenv("WORLD_SIZE", "1")
    assert not is_sharding_asked()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({}, "of version 1"),
        ({"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "computer's memory"),
    ],
)
def test_ways_of_sharing_that_are_not_followed_are_refused(launched, settings, what):
    for name, value in {"ACCELERATE_USE_FSDP": "true", **settings}.items():
        launched.setenv(name, value)
    with pytest.raises(UserError, match=what):
        is_sharding_asked()


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_configurations_are_accelerates(name, pytestconfig, launched):
    from accelerate.commands.config.config_args import load_config_from_file

    path = pytestconfig.rootpath / "configs" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))  # refuses keys that it doesn't know
    assert config.num_processes == 2
    shared = yaml.safe_load(path.read_text(encoding="utf-8")).get("fsdp_config", {})
    for key, value in shared.items():
        launched.setenv(key.upper(), str(value).lower())
    launched.setenv("ACCELERATE_USE_FSDP", str(bool(shared)))
    assert is_sharding_asked() == (name == "fsdp")
