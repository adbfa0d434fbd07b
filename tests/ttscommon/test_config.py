from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscommon.config import differences, from_dict, load, to_dict
from ttscommon.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rank: int = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 100
    learning_rate: float = 1e-3
    head: Literal["mse", "flow"] = "mse"
    speakers: tuple[str, ...] = ()
    epochs: int | None = None
    lora: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError("steps must be 1 or more")


def test_a_misspelt_key_is_refused_with_the_one_that_was_meant():
    with pytest.raises(UserError, match=r"unknown setting 'learing_rate'.*'learning_rate'"):
        from_dict(Config, {"learing_rate": 1.0})


def test_a_key_like_no_other_is_refused_with_all_that_are_known():
    with pytest.raises(UserError, match=r"unknown setting 'xyz'.*known: steps, learning_rate"):
        from_dict(Config, {"xyz": 1})


def test_an_unknown_key_inside_a_nested_config_is_refused_too():
    with pytest.raises(UserError, match=r"unknown setting 'rnak'.*'rank'"):
        from_dict(Config, {"lora": {"rnak": 4}})


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", "ten"), ("steps", 1.5), ("learning_rate", "fast"), ("head", "gauss"), ("lora", 3)],
)
def test_a_value_of_the_wrong_type_is_refused_and_named(key, value):
    with pytest.raises(UserError, match=key):
        from_dict(Config, {key: value})


def test_a_config_that_contradicts_itself_is_refused_by_its_own_words():
    with pytest.raises(UserError, match="steps must be 1 or more"):
        from_dict(Config, {"steps": 0})


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("steps: 5\nhead: flow\n", encoding="utf-8")
    config = load(Config, path, {"steps": 7})
    assert (config.steps, config.head, config.learning_rate) == (7, "flow", 1e-3)


def test_yaml_may_write_a_rate_as_1e_minus_3_and_json_a_whole_number(tmp_path):
    (tmp_path / "a.yaml").write_text("learning_rate: 2e-4", encoding="utf-8")
    (tmp_path / "b.json").write_text('{"learning_rate": 1}', encoding="utf-8")
    assert load(Config, tmp_path / "a.yaml").learning_rate == 2e-4
    assert load(Config, tmp_path / "b.json").learning_rate == 1.0


def test_an_empty_file_means_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert load(Config, tmp_path / "empty.yaml") == Config()


@pytest.mark.parametrize("content", [b"steps: [1", b"- 1\n- 2", b"steps: \xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(Config, path)
    assert caught.value.where == path


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such configuration file.*gone\.yaml"):
        load(Config, tmp_path / "gone.yaml")


@settings(max_examples=30)
@given(
    st.builds(
        Config,
        steps=st.integers(1, 10**6),
        learning_rate=st.floats(0, 1),
        head=st.sampled_from(["mse", "flow"]),
        speakers=st.lists(st.sampled_from(["anna", "ओज़ी", ""]), max_size=3).map(tuple),
        epochs=st.none() | st.integers(1, 9),
        lora=st.builds(Inner, rank=st.integers(0, 64)),
    )
)
def test_a_config_survives_being_written_and_read(config):
    assert from_dict(Config, to_dict(config)) == config


def test_differences_name_nested_keys_with_both_values():
    old, new = to_dict(Config()), to_dict(Config(steps=5, lora=Inner(rank=4)))
    assert differences(old, new) == ["lora.rank: 8 -> 4", "steps: 100 -> 5"]
