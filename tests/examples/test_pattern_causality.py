"""A learned pattern is what moves the habits: with the base that is kept beside the experiment."""

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
    Trials,
    unpacked,
)
from examples.pattern_experiment.world import World
from indextts import weights

OF_PAUSES = ("pause_rate", "pause_duration")


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> Trials:
    folder, world = tmp_path_factory.mktemp("patterns"), World.made(SEED)
    return Trials(world, unpacked(world, STORED_BASE, folder / "base.pth"), folder)


@pytest.fixture(scope="module")
def outcomes(trials):
    """{person: what their pattern did}, the other's swapped in."""
    trained = {target: trials.learn("ours", target) for target in TARGETS}
    return {
        target: trials.compare("ours", target, trained[target], trained[OTHER[target]])
        for target in TARGETS
    }


def test_the_base_reads_what_it_is_told(trials):
    """Without this every answer below would be worthless."""
    script = voices.Script.made(trials.world, 100, timbre=2)
    gpt = weights.load_gpt(trials.base, trials.world.config).eval()
    said = voices.spoken(gpt, script, 0)
    assert voices.word_error_rate(said, script.texts) < 0.1
    assert voices.word_error_rate(said, [*script.texts[1:], script.texts[0]]) > 0.8


@pytest.mark.parametrize("target", TARGETS)
def test_pauses_become_the_person_s_on_new_texts_and_strange_prompts(target, outcomes):
    scores = outcomes[target].result.transfer["P"]
    for measure in OF_PAUSES:
        assert scores[measure].value >= 0.5
        assert scores[measure].low > 0.25
    assert outcomes[target].word_errors["P"] < outcomes[target].word_errors["B0"] + 0.04


@pytest.mark.parametrize("target", TARGETS)
def test_without_strength_it_is_the_base(target, outcomes):
    result = outcomes[target].result
    assert result.counts["P0"] == result.counts["B0"]
    assert all(result.transfer["P0"][measure].value == 0 for measure in OF_PAUSES)


@pytest.mark.parametrize("target", TARGETS)
def test_another_s_pattern_leads_elsewhere_and_random_vectors_nowhere(target, outcomes):
    result = outcomes[target].result
    for measure in OF_PAUSES:
        assert result.swap[measure].low > 0
        assert result.effects["P - Pr"][measure].low > 0
        assert result.transfer["Pr"][measure].value < 0.5


def test_the_timbre_stays_the_prompt_s(trials):
    script = voices.Script.made(trials.world, 60, timbre=2)
    for number, target in enumerate(TARGETS):
        trained = trials.folder / "ours" / f"{target}_0" / "best_checkpoint"
        gpt, pattern = voices.load_trained(trials.world, trials.base, trained)
        said = voices.spoken(gpt, script, 0, pattern.get_injection_embedding)
        assert voices.timbre_shares(said)[2] > 0.8
        assert voices.timbre_shares(said)[number] < 0.2


def test_all_ways_stand_in_one_table(outcomes):
    rows = list(table([outcome.to_dict() for outcome in outcomes.values()]))
    assert [row.split(" | ")[1:3] for row in rows if " | P | " in row] == [
        [target, "P"] for target in HABITS
    ]
