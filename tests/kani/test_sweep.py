"""A search tries settings within their ranges, goes on after a stop, and leaves the best one."""

from __future__ import annotations

import json

import pytest

from kani.config import SweepConfig, SweepRange
from kani.sweep import named_ranges, sweep
from tests.kani.made_up_jobs import experiment, job_of
from ttscommon.errors import UserError


def searched(**changes):
    rates = SweepRange(low=1e-5, high=1e-2, log=True)
    ranks = SweepRange(choices=(1, 3))
    return SweepConfig(
        **{"n_trials": 3, "trainer_args": {"learning_rate": rates}, "lora_args": {"r": ranks}}
        | changes
    )


def test_the_best_of_all_trials_becomes_a_model(tmp_path, base):
    pytest.importorskip("optuna")
    template = experiment(max_steps=2)
    report = sweep(searched(n_trials=2), template, lambda one: job_of(tmp_path, base, one))
    assert report.n_trials == 2
    again = sweep(searched(), template, lambda one: job_of(tmp_path, base, one))
    assert again.n_trials == 3
    assert again.loss <= report.loss
    told = json.loads((again.best.model / "experiment.json").read_text())
    args = told["train_configuration"]
    assert args["trainer_args"]["learning_rate"] == again.settings["trainer_args.learning_rate"]
    assert args["lora_args"]["r"] == again.settings["lora_args.r"]
    assert 1e-5 <= args["trainer_args"]["learning_rate"] <= 1e-2
    assert again.loss == pytest.approx(told["metrics"]["loss"])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"trainer_args": {"speed": SweepRange(low=0.0, high=1.0)}}, "sweep.trainer_args.speed"),
        ({"trainer_args": None, "lora_args": None}, "no ranges"),
    ],
)
def test_a_range_of_no_setting_is_refused(changes, match):
    with pytest.raises(UserError, match=match):
        named_ranges(searched(**changes))


@pytest.mark.parametrize(
    "bad", [{}, {"low": 1.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True}]
)
def test_a_range_without_room_is_refused(bad):
    with pytest.raises(UserError, match="range"):
        SweepRange(**bad)
