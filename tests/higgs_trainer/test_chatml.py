"""Samples in the guide's form are read with all that is wrong with them, and with what isn't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higgs_trainer.chatml import read_sample, read_samples, refuse_defects
from higgs_trainer.conversation import Audio
from higgs_trainer.sample_data import create_sample_data
from ttscommon import audio
from ttscommon.errors import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("a.wav", "b.wav"):
        audio.save(tmp_path / name, np.zeros(2400, np.float32), 24000)
    return tmp_path


def spoken(name: str) -> dict[str, Any]:
    return {"role": "assistant", "content": {"type": "audio", "audio_url": name}}


def messages(*changed: Any) -> list[Any]:
    plain = [{"role": "system", "content": "Speak."}, {"role": "user", "content": "said"}]
    plain += [spoken("a.wav"), {"role": "user", "content": "wanted"}, spoken("b.wav")]
    return list(changed) or plain


def read(folder: Path, *changed: Any, **fields: Any) -> Any:
    return read_sample({"messages": messages(*changed), **fields}, folder, "one")


def test_a_sample_learns_its_last_turn(folder):
    found = read(folder, speaker="anna")
    assert found.defects == ()
    assert (found.conversation.learned_from, found.speaker) == (4, "anna")
    assert found.target == Audio(folder / "b.wav")
    assert read(folder, start_index=3).conversation.is_learned(4)
    assert not read(folder, start_index=3).conversation.is_learned(2)
    assert read(folder, recording="tape").recording == "tape"


def test_a_scene_becomes_part_of_the_system_turn(folder):
    scene = {"role": "scene", "content": [{"type": "text", "text": "A quiet room."}]}
    found = read(folder, messages()[0], scene, *messages()[1:], start_index=5)
    assert found.defects == ()
    assert found.conversation.turns[0].text == (
        "Speak.\n\n<|scene_desc_start|>\nA quiet room.\n<|scene_desc_end|>"
    )
    assert found.conversation.learned_from == 4


def test_marks_that_the_guide_types_into_texts_are_taken_out(folder):
    typed = {"role": "user", "content": "said <|audio_bos|><|AUDIO|><|audio_eos|>"}
    found = read(folder, messages()[0], typed, *messages()[2:])
    assert found.conversation.turns[1].text == "said"
    assert found.defects == ()
    assert "typed marks" in found.notes[0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (messages()[:4], "no target"),
        ([messages()[1], messages()[0], spoken("b.wav")], "only be the first"),
        ([spoken("a.wav"), messages()[1], spoken("b.wav")], "before the user"),
        ([messages()[1], spoken("gone.wav")], "no such file: gone.wav"),
        ([messages()[1], {"role": "assistant", "content": {"type": "audio"}}], "without audio_url"),
        ([messages()[1], {"role": "narrator", "content": "x"}, spoken("b.wav")], "narrator"),
        ([messages()[1], {"role": "user"}, spoken("b.wav")], "has no content"),
        ([{"role": "user", "content": 7}, spoken("b.wav")], "of the type int"),
        ([{"role": "user", "content": {"type": "image"}}, spoken("b.wav")], "'image'"),
        ([{"role": "user", "content": " "}, spoken("b.wav")], "is empty"),
        (
            [{"role": "user", "content": "a <|eot_id|>"}, spoken("b.wav")],
            "belongs to the structure",
        ),
        ([*messages()[:4], spoken("a.wav")], "the target itself"),
    ],
)
def test_defects_are_told(folder, changed, reason):
    assert any(reason in defect for defect in read(folder, *changed).defects)


def test_every_defect_of_a_sample_is_told(folder):
    found = read(folder, spoken("gone.wav"), {"role": "narrator", "content": "x"})
    assert len(found.defects) >= 3
    assert read_sample([], folder, "one").defects == ('no list "messages"',)
    assert "start_index is 9" in read(folder, start_index=9).defects[0]


def test_files_are_json_or_json_lines(folder):
    record = {"messages": messages()}
    (folder / "list.json").write_text(json.dumps([record, record]))
    (folder / "lines.jsonl").write_text(json.dumps(record) + "\n\n" + json.dumps(record))
    for name in ("list.json", "lines.jsonl"):
        found = read_samples(folder / name)
        assert [sample.defects for sample in found] == [(), ()]
        assert len({sample.id for sample in found}) == 2
    elsewhere = folder / "other"
    elsewhere.mkdir()
    (elsewhere / "list.json").write_text(json.dumps([record]))
    assert read_samples(elsewhere / "list.json", folder)[0].defects == ()


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "broken JSON"), ("[]", "no list"), ("3", "no list")]
)
def test_files_of_no_use_are_refused(tmp_path, text, reason):
    path = tmp_path / "samples.json"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        read_samples(path)
    with pytest.raises(UserError, match="no such file"):
        read_samples(tmp_path / "gone.json")


def test_a_file_without_one_good_sample_is_refused_with_the_first_defect(folder):
    bad = read(folder, *messages()[:4])
    with pytest.raises(UserError, match=r"none of 2 samples.*no target"):
        refuse_defects([bad, bad], folder)
    refuse_defects([bad, read(folder)], folder)


def test_created_sample_data_can_be_trained_on_as_they_are(tmp_path):
    path = create_sample_data(tmp_path / "samples.json")
    found = read_samples(path)
    assert [sample.defects for sample in found] == [()] * 10
    assert len({sample.speaker for sample in found}) == 3
    assert audio.duration(found[0].target.path) > 0.5
    with pytest.raises(UserError, match="already"):
        create_sample_data(path)
