"""Ids of clips are those of the public trainer, and what is broken is refused or salvaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kani.tokens import (
    TokenSpace,
    extract,
    frame_positions,
    interleave,
    prompt_ids,
    stacked,
    training_sequence,
)
from tests.kani.golden import SPACE, described, layers, named, tokenizer
from ttscommon.errors import UserError


def test_the_vocabulary_is_that_of_the_released_config():
    golden = described("token_space")
    assert TokenSpace.of(golden["model_config"]) == SPACE
    assert [[SPACE.audio_id(layer, code), layer] for layer, code, _ in golden["probes"]] == [
        [id_, layer] for layer, _, id_ in golden["probes"]
    ]
    ranges = [SPACE.layer_ids(layer) for layer in range(4)]
    assert [[ids[0], ids[-1]] for ids in ranges] == golden["layer_ranges"]
    assert SPACE.vocab_size == 80538


@pytest.mark.parametrize("case", named("interleave"), ids=lambda case: case["name"])
def test_frames_are_laid_out_as_the_public_trainer_does(case):
    codes = stacked(layers(case["layers"]), SPACE)
    found = interleave(codes, SPACE, remove_duplicates=True)
    assert found.ids.tolist() == case["codes_list"]
    kept = case["frames_kept"] / case["frames_in"]
    assert found.removed_share == found.duplicate_share == pytest.approx(1 - kept)


@pytest.mark.parametrize("case", named("interleave"), ids=lambda case: case["name"])
def test_by_default_no_frame_is_lost_and_the_share_is_told(case):
    codes = stacked(layers(case["layers"]), SPACE)
    found = interleave(codes, SPACE)
    assert len(found.ids) == 4 * case["frames_in"]
    assert found.removed_share == 0
    assert found.duplicate_share == pytest.approx(1 - case["frames_kept"] / case["frames_in"])


@pytest.mark.parametrize("case", named("interleave", of="edge"), ids=lambda case: case["name"])
def test_codes_that_would_become_other_ids_are_refused(case):
    with pytest.raises(UserError):
        stacked(layers(case["input"]), SPACE)


def test_a_code_out_of_range_is_named_with_its_place():
    codes = np.zeros((4, 3), dtype=np.int64)
    codes[2, 1] = 4032
    with pytest.raises(UserError, match=r"4032 \(layer 3, frame 1\)"):
        interleave(codes, SPACE)


@pytest.mark.parametrize("case", named("sequence"), ids=lambda case: case["prompt"])
def test_sequences_are_those_of_the_public_trainer(case):
    codes = stacked(layers(case["layers"]), SPACE)
    audio = interleave(codes, SPACE, remove_duplicates=True).ids
    found = training_sequence(case["text"], case["speaker_id"], audio, tokenizer(), SPACE)
    assert found.ids == case["input_ids"]
    assert found.ids[found.audio_start : found.audio_start + len(audio)] == case["codes_list"]


@pytest.mark.parametrize("case", named("prompt"), ids=lambda case: str(case["speaker_id"]))
def test_prompts_are_those_of_the_public_inference_with_the_speaker_in_lower_case(case):
    found = prompt_ids(case["text"], case["speaker_id"], tokenizer(), SPACE)
    expected = case["pypi_input_ids"]
    if case["speaker_id"] in ("Alice", "BOB"):  # which keeps the case that training doesn't
        words = f"{case['speaker_id'].lower()}: {case['text']}"
        expected = [64403, *tokenizer().encode(words), 2, 64404]
    assert found == expected


@pytest.mark.parametrize("case", named("sequence"), ids=lambda case: case["prompt"])
def test_training_and_inference_prompts_are_the_same(case):
    found = prompt_ids(case["text"], case["speaker_id"], tokenizer(), SPACE)
    assert case["input_ids"][: len(found)] == found


SALVAGED = {  # frames that are left where the public program loses the clip, or plays garbage
    "empty_audio": 0,
    "truncated_last_frame_1": 2,
    "truncated_last_frame_3": 2,
    "no_end_of_speech": 3,
    "no_start_of_speech": 0,
    "end_before_start": 3,
    "two_start_of_speech": 0,
    "layer1_token_in_layer2_slot": 1,
    "layer2_token_in_layer1_slot": 1,
    "text_token_in_audio": 0,
    "special_token_in_audio": 0,
    "token_beyond_last_code": 0,
}


@pytest.mark.parametrize("case", named("extract"), ids=lambda case: case["name"])
def test_generated_ids_give_the_public_codes_or_what_can_be_saved(case):
    found = extract(case["ids"], SPACE)
    name = case["name"]
    if name in SALVAGED:
        assert not found.complete
        assert found.codes.shape == (4, SALVAGED[name])
        assert found.codes.size == 0 or (found.codes.min() >= 0 and found.codes.max() < 4032)
        return
    assert found.complete
    if name != "two_end_of_speech":  # which makes the public program fail
        assert found.codes.tolist() == case["pypi"]["layers"]
    assert found.codes.shape[1] > 0


@pytest.mark.parametrize("case", named("kani2", of="positions"))
def test_positions_of_frames_are_those_of_kani_2(case):
    step = int(case["audio_step"]) if case["step_type"] == "int" else float(case["audio_step"])
    found = frame_positions(case["ids"], SPACE, step)
    assert found.tolist() == case["position_ids"]
    assert f"torch.{found.dtype}" == case["dtype"]


@given(st.lists(st.tuples(*[st.integers(0, 4031)] * 4), min_size=1, max_size=30))
def test_what_is_interleaved_is_extracted(frames):
    codes = np.array(frames).T
    ids = interleave(codes, SPACE).ids
    found = extract([SPACE.start_of_speech, *ids, SPACE.end_of_speech], SPACE)
    assert found.complete
    assert (found.codes == codes).all()


def test_a_tokenizer_of_another_model_is_refused():
    class Other:
        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            return [7, 8]

    with pytest.raises(UserError, match="begins a text with id 7"):
        prompt_ids("Hello", None, Other(), SPACE)


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("special_tokens", {"end_of_ai": 64405}, "same id"),
        ("special_tokens", {"pad_token": 64410}, "pad_token is 64410"),
        ("codec", {"codebook_size": "4032"}, r"codec\.codebook_size must be a whole number"),
        ("tokenizer", {"vocab_size": None}, r"tokenizer\.vocab_size"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(section, change, words):
    config = dict(described("token_space")["model_config"])
    config[section] = {**config[section], **change}
    with pytest.raises(UserError, match=words):
        TokenSpace.of(config)
