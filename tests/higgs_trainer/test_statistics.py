"""How long speech takes: learned from the data set, or as people read aloud."""

from __future__ import annotations

import json

import pytest

from higgs_trainer.statistics import BUILT_IN, Statistics, read_statistics, write_statistics
from higgs_trainer.text import TextConfig
from ttscommon.errors import UserError

ENGLISH = "Twenty letters are in here."  # 22
ARABIC = "كيف حالك اليوم"


def test_a_pace_is_learned_from_enough_clips_of_a_language():
    clips = [(ENGLISH, 2.0 + 0.02 * number) for number in range(25)] + [(ARABIC, 1.0)] * 5
    found = Statistics.of(clips, TextConfig())
    assert list(found.paces) == ["en"]
    assert found.pace("en").n_clips == 25
    assert found.pace("ar") == BUILT_IN["ar"]
    bounds = found.bounds(ENGLISH)
    assert bounds.fewest < 2.0
    assert bounds.usual == pytest.approx(2.24, abs=0.01)
    assert 2.48 < bounds.most < 1.6 * 2.48
    assert found.n_clips == 30
    assert found.seconds == pytest.approx(61.0)


def test_a_slow_speaker_gets_more_time_than_a_fast_one():
    slow, fast = (Statistics.of([(ENGLISH, s)] * 20, TextConfig()) for s in (4.0, 1.0))
    assert slow.bounds("Hello there.").most > 2 * fast.bounds("Hello there.").most
    assert slow.bounds("Hello there.").fewest > 2 * fast.bounds("Hello there.").fewest


def test_without_a_data_set_the_script_decides():
    plain = Statistics()
    assert plain.bounds(ARABIC).most > plain.bounds("kyf hal alywm").most
    assert plain.bounds("Yes.").most > 1.5
    assert plain.bounds("Ha.").most + 2 < plain.bounds("Ha <SE>[Laughter]</SE>").most
    assert plain.bounds("a" * 100).steps(25) == (76, 503)


def test_diacritics_take_no_time_of_their_own():
    plain = Statistics()
    assert plain.bounds("كَيْفَ حَالُكَ.") == plain.bounds("كيف حالك.")


def test_statistics_come_back_from_their_file(tmp_path):
    config = TextConfig(arabic_diacritics="strip")
    found = Statistics.of([(ENGLISH, 2.0)] * 20, config)
    write_statistics(tmp_path, found)
    assert read_statistics(tmp_path) == found
    assert read_statistics(tmp_path / "elsewhere") is None


def test_a_broken_file_is_refused(tmp_path):
    path = tmp_path / "statistics.json"
    write_statistics(tmp_path, Statistics())
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(UserError, match="version 1"):
        read_statistics(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="broken JSON"):
        read_statistics(tmp_path)
