"""Which of a speaker's models speaks."""

import pytest

from indextts.tuned import Tuned, choose, listing, trained
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


@pytest.fixture
def speaker(tmp_path):
    return Speaker("ozzy", tmp_path)


def adapter(folder) -> None:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").touch()


def finetune(speaker) -> None:
    speaker.finetune.folder.mkdir(parents=True)
    speaker.finetune.best_model.touch()


def test_without_training_the_base_speaks(speaker):
    assert choose(speaker) == Tuned("base")
    assert trained(speaker) == {}


def test_full_fine_tuning_comes_before_an_adapter(speaker):
    adapter(speaker.lora.best_checkpoint)
    assert choose(speaker) == Tuned("lora", speaker.lora.best_checkpoint)
    finetune(speaker)
    assert choose(speaker) == Tuned("finetune", speaker.finetune.best_model)
    assert choose(speaker, "lora").lora_path == speaker.lora.best_checkpoint
    assert choose(speaker, "base") == Tuned("base")


def test_the_adapter_that_sounds_best_comes_before_the_one_of_the_lowest_loss(speaker):
    order = [speaker.lora.final_checkpoint, speaker.lora.best_checkpoint, speaker.lora.best_audio]
    for folder in order:
        adapter(folder)
        assert choose(speaker).path == folder


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("lora", "'ozzy' has no LoRA.*train_gpt_lora"),
     ("finetune", "'ozzy' has no fine-tuned model.*train_gpt_finetune")],
)  # fmt: skip
def test_what_was_never_trained_is_refused_with_the_command(speaker, wanted, message):
    with pytest.raises(UserError, match=message):
        choose(speaker, wanted)


def test_a_listing_tells_who_can_speak_and_how(tmp_path):
    adapter(Speaker("anna", tmp_path).lora.best_checkpoint)
    finetune(Speaker("ben", tmp_path))
    voice = Speaker("chris", tmp_path).speaker_embeddings
    voice.parent.mkdir(parents=True)
    voice.touch()
    (tmp_path / "dora").mkdir()
    lines = [line.split() for line in listing(tmp_path)]
    assert lines == [
        ["anna", "base,", "lora", "no", "stored", "voice"],
        ["ben", "base,", "finetune", "no", "stored", "voice"],
        ["chris", "base", "voice", "stored"],
    ]


def test_an_empty_house_is_told(tmp_path):
    with pytest.raises(UserError, match="nobody has a voice"):
        listing(tmp_path)
