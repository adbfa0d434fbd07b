"""Conversations are written as the original and the native program write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.conversation import (
    Audio,
    Conversation,
    Turn,
    request,
    role_defects,
    with_scene,
)
from higgs_trainer.delay import IGNORED
from higgs_trainer.prompt import PromptWriter
from tests.higgs_trainer.folders import write_native
from tests.higgs_trainer.golden import (
    CONVERSATIONS,
    FOLDER,
    STREAMS,
    codes,
    conversation,
    described,
    sample,
    tensors,
    writer,
)
from ttscommon.errors import UserError

SPEECH, HEARD, LATE = 411, 410, 409
SHAPES = [name for name in CONVERSATIONS if name != "mixed_text_audio_two_turns"]


def folded(ids: list[int]) -> list[int]:
    """With one mark for each audio, as the original counts; a speech never follows another."""
    marked = [SPEECH if number in (SPEECH, LATE, HEARD) else number for number in ids]
    pairs = zip(marked, [None, *marked], strict=False)
    return [number for number, before in pairs if not number == before == SPEECH]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_are_the_originals(name):
    golden, written = described("chatml_tokens")["convs"][name], sample(name)
    assert folded(written.ids.tolist()) == folded(golden["input_ids"])
    ours = [number for number in written.labels.tolist() if number != IGNORED]
    assert ours == [n for n in golden["label_ids"] if n not in (IGNORED, SPEECH)]
    n_steps = golden["num_audio_frames"]
    assert len(written.frames) == sum(STREAMS.n_frames(n) for n in n_steps)
    assert int(torch.isin(written.ids, torch.tensor([SPEECH, LATE])).sum()) == len(written.frames)


@pytest.mark.parametrize("name", ["plain_tts", "zero_shot_clone"])
def test_the_prompt_is_the_one_the_original_generates_from(name):
    asked = Conversation(conversation(name).turns[:-1])
    prompt = writer().prompt(asked, codes(name)[:-1])
    assert folded(prompt.ids.tolist()) == folded(
        tensors("generation")[f"{name}.prompt_ids"].tolist()
    )
    assert prompt.n_targets == 0


@pytest.mark.parametrize("name", SHAPES)
def test_a_sample_begins_with_its_prompt(name):
    turns = conversation(name).turns
    learned = Conversation(turns, len(turns) - 1)
    written = writer().sample(learned, codes(name))
    prompt = writer().prompt(learned.prompt, codes(name)[:-1])
    n_ids, n_frames = len(prompt.ids), len(prompt.frames)
    assert torch.equal(written.ids[:n_ids], prompt.ids)
    assert torch.equal(written.frames[:n_frames], prompt.frames)
    assert (written.audio_labels[:n_frames] == IGNORED).all()
    assert (written.labels[: n_ids - 1] == IGNORED).all()
    assert int(written.labels[n_ids - 1]) == 408  # that speech begins is learned
    n_steps = codes(name)[-1].shape[1]
    assert written.n_targets == 8 * (n_steps + 1)
    assert int((written.labels != IGNORED).sum()) == 3


def test_requests_have_the_originals_shape():
    golden = conversation("zero_shot_clone")
    asked = request("the quick brown fox.", references=[("a speaker reads the sentence.", Audio())])
    assert asked.answered(Audio()) == golden
    plain = Conversation(conversation("plain_tts").turns[:-1])
    assert request("the lazy dog jumps.") == plain
    bare = request("fox", system="", scene="")
    assert [turn.role for turn in bare.turns] == ["user"]
    assert with_scene(" a ", "") == "a"


def test_spaces_around_a_text_change_nothing():
    plain, spaced = request("the fox.", scene=""), request(" the fox.\n", scene="")
    assert torch.equal(writer().prompt(plain).ids, writer().prompt(spaced).ids)


@pytest.mark.parametrize("mark", ["<|AUDIO|>", "<|AUDIO_OUT|>", "<|eot_id|>", "<|audio_bos|>"])
def test_marks_typed_into_a_text_are_refused(mark):
    with pytest.raises(UserError, match="structure of conversations"):
        writer().prompt(request(f"said {mark}"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (torch.zeros(8, 0, dtype=torch.long), "0 codes"),
        (torch.zeros(7, 4, dtype=torch.long), "has 8 rows"),
        (torch.full((8, 4), 64), "from 64 to 64"),
        (torch.full((8, 4), -1), "from -1"),
    ],
)
def test_codes_that_the_model_has_not_are_refused_with_the_recording(wrong, reason):
    asked = request("fox").answered(Audio(Path("clip.wav")))
    with pytest.raises(UserError, match=reason) as refused:
        writer().sample(asked, [wrong])
    assert "clip.wav" in str(refused.value)


def test_orders_of_turns_that_the_model_never_saw_are_told():
    user, answer = Turn("user", ("a",)), Turn("assistant", (Audio(),))
    assert role_defects([Turn("system", ("a",)), user, answer]) == []
    assert "only be the first" in role_defects([user, Turn("system", ("a",)), answer])[0]
    assert "before the user" in role_defects([answer, user])[0]
    assert "nobody" in role_defects([Turn("system", ("a",))])[0]
    assert "empty" in role_defects([Turn("user", (" ",)), answer])[0]


def test_a_checkpoint_is_written_for_with_its_own_tokenizer(native, tmp_path):
    assert PromptWriter.of(HiggsCheckpoint.open(native)).ids["<|AUDIO_OUT|>"] == SPEECH
    other = write_native(tmp_path, audio_token_id=7)
    with pytest.raises(UserError, match="isn't this model's"):
        PromptWriter.of(HiggsCheckpoint.open(other))
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        PromptWriter.of(HiggsCheckpoint.open(other))
    (other / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        PromptWriter.of(HiggsCheckpoint.open(other))


def test_a_tokenizer_without_the_marks_is_refused():
    text = (FOLDER / "tokenizer.json").read_text().replace("<|AUDIO_OUT|>", "<|other|>")
    with pytest.raises(UserError, match=r"no <\|AUDIO_OUT\|>"):
        PromptWriter(Tokenizer.from_str(text), STREAMS)
