"""What is said of clips before a pattern is trained on them."""

from __future__ import annotations

import dataclasses

import pytest

from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_train import PatternTraining
from tests.indextts.pattern_training import prepared
from ttscommon.files import read_json, write_json


@pytest.mark.parametrize(("knows_silence", "has_others"), [(0, 1), (1, 1), (0, 0)])
def test_it_is_said_when_others_prompts_teach_the_timbre_after_all(
    knows_silence, has_others, tmp_path, miniature, caplog
):
    job = prepared(tmp_path, miniature)
    info = job.train[0].parent / "pattern_info.json"
    if not knows_silence:
        write_json(info, {**read_json(info), "silence_codes": [], "share": {}})
    job = job if has_others else dataclasses.replace(job, others=[])
    PatternTraining(job, PatternTrainConfig.tiny())
    is_said = "other speakers' prompts teach the timbre" in caplog.text
    assert is_said == (has_others and not knows_silence)
