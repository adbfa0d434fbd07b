"""A learned pattern is what moves the habits: with the base that is kept beside the experiment.

One test, since all its questions are asked of the same two trainings.
"""

from __future__ import annotations

import pytest

from examples.pattern_experiment import voices
from examples.pattern_experiment.base import SEED
from examples.pattern_experiment.experiment import table
from examples.pattern_experiment.trials import (
    HABITS,
    OTHER,
    STORED_BASE,
    TARGETS,
    Outcome,
    Trials,
    unpacked,
)
from examples.pattern_experiment.world import World
from indextts import weights

OF_PAUSES = ("pause_rate", "pause_duration")


@pytest.fixture
def trials(tmp_path) -> Trials:
    world = World.made(SEED)
    return Trials(world, unpacked(world, STORED_BASE, tmp_path / "base.pth"), tmp_path)


def test_the_base_reads_what_it_is_told(trials):
    """Without this every answer below would be worthless."""
    script = voices.Script.made(trials.world, 100, timbre=2)
    gpt = weights.load_gpt(trials.base, trials.world.config).eval()
    said = voices.spoken(gpt, script, 0)
    assert voices.word_error_rate(said, script.texts) < 0.1
    assert voices.word_error_rate(said, [*script.texts[1:], script.texts[0]]) > 0.8


@pytest.mark.timeout(900)
def test_a_pattern_brings_its_person_s_pauses_to_new_texts_and_strange_prompts(trials):
    trained = {target: trials.learn("ours", target) for target in TARGETS}
    outcomes = [
        trials.compare("ours", target, trained[target], trained[OTHER[target]])
        for target in TARGETS
    ]
    for outcome in outcomes:
        check_pauses_are_the_person_s(outcome)
        check_it_is_the_pattern(outcome)
    script = voices.Script.made(trials.world, 60, timbre=2)
    for number, target in enumerate(TARGETS):
        gpt, pattern = voices.load_trained(trials.world, trials.base, trained[target])
        said = voices.spoken(gpt, script, 0, pattern.get_injection_embedding)
        assert voices.timbre_shares(said)[2] > 0.8  # the prompt's
        assert voices.timbre_shares(said)[number] < 0.2
    rows = [row.split(" | ") for row in table([outcome.to_dict() for outcome in outcomes])]
    assert [row[1] for row in rows if row[2:3] == ["P"]] == list(HABITS)


def check_pauses_are_the_person_s(outcome: Outcome) -> None:
    scores = outcome.result.transfer["P"]
    for measure in OF_PAUSES:
        assert scores[measure].value >= 0.5
        assert scores[measure].low > 0.25
    assert outcome.word_errors["P"] < outcome.word_errors["B0"] + 0.05


def check_it_is_the_pattern(outcome: Outcome) -> None:
    """Off it is the base, another's leads elsewhere, and shuffled it does clearly less."""
    result = outcome.result
    assert result.counts["P0"] == result.counts["B0"]
    for measure in OF_PAUSES:
        assert result.transfer["P0"][measure].value == 0
        assert result.swap[measure].low > 0
        assert result.effects["P - Pr"][measure].low > 0
        assert result.transfer["Pr"][measure].value < 0.5
