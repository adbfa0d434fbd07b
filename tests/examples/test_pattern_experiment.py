"""The made-up language says what it is told, and is understood; people in it keep their habits."""

from __future__ import annotations

import numpy as np
import pytest

from examples.pattern_experiment import language
from examples.pattern_experiment.language import Habit
from examples.pattern_experiment.trials import HABITS, Trials
from examples.pattern_experiment.voices import manners, word_error_rate
from examples.pattern_experiment.world import World
from indextts.gpt.model import UnifiedVoice
from indextts.weights import save_gpt
from ttscommon.errors import UserError
from ttscommon.evaluation.likeness import likeness


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def said_by(habit: Habit, n: int, chance: np.random.Generator) -> list[language.Utterance]:
    return [language.say(text, 1, habit, chance) for text in language.draw_texts(n, chance)]


def test_what_is_said_is_what_is_heard(chance):
    for habit in (*HABITS.values(), Habit.drawn(chance)):
        for said in said_by(habit, 50, chance):
            assert language.heard(said.codes) == said


def test_a_speaker_rests_and_hesitates_as_often_as_is_their_habit(chance):
    habit = Habit(pauses=(0.2, 0.7), seconds=1.0, fillers=0.25)
    said = said_by(habit, 2000, chance)
    words = [word for one in said for word in one.words]
    assert sum(len(one.fillers) for one in said) / len(words) == pytest.approx(0.25, abs=0.02)
    seconds = [length for one in said for length in one.pause_seconds]
    assert np.median(seconds) == pytest.approx(1.0, abs=0.05)
    found = manners(said)
    for context, share in zip(("function word", "other word"), habit.pauses, strict=True):
        places = [p for manner in found for p in manner.places.values() if p.context == context]
        assert np.mean([p.is_pause for p in places]) == pytest.approx(share, abs=0.02)


def test_other_words_are_counted_and_fillers_are_none(chance):
    texts = language.draw_texts(40, chance)
    habit = Habit((0.5, 0.5), 0.2, 0.5)
    said = [language.say(text, 0, habit, chance) for text in texts]
    assert word_error_rate(said, texts) == 0
    assert word_error_rate(said, texts[1:] + texts[:1]) > 0.8


def test_one_person_is_like_themselves_and_unlike_the_other(chance):
    people = HABITS
    slow, again, other = (
        manners(said_by(people[name], 200, chance)) for name in ("slow", "slow", "um")
    )
    found = likeness({"base": other, "again": again}, slow, "base")
    assert found.transfer["again"]["mean"].value > 0.9
    assert {"pause_rate", "pause_duration", "filler_rate"} <= found.transfer["again"].keys()


def test_clips_of_another_base_are_refused_with_this_program_s_own_advice(tmp_path):
    world = World.made(0)
    save_gpt(tmp_path / "base.pth", UnifiedVoice(world.config))
    clips = tmp_path / "out" / "clips" / "slow"
    clips.mkdir(parents=True)
    world.write_target_clips(clips, "slow", HABITS["slow"], 0, "0" * 64)
    trials = Trials(world, tmp_path / "base.pth", tmp_path / "out")
    with pytest.raises(UserError, match="clips of another base") as refused:
        trials.learn("ours, own prompts", "slow")
    assert refused.value.fix == "--output ELSEWHERE"
    assert refused.value.where == clips
