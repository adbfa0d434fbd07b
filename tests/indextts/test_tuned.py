"""Which of a speaker's models speaks."""

import pytest

from indextts.tuned import Tuned, choose, listing, trained
from ttscommon.errors import UserError
from ttscommon.files import write_json
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


def test_a_pattern_comes_before_the_base_only(speaker):
    final = speaker.pattern_training.final_checkpoint
    (final / "lora").mkdir(parents=True)
    (final / "pattern_embedding.pt").touch()
    chosen = choose(speaker)
    assert chosen == Tuned("pattern", final / "pattern_embedding.pt")
    assert chosen.pattern_path == final / "pattern_embedding.pt"
    assert chosen.lora_path == final / "lora"
    best = speaker.pattern_training.best_checkpoint
    best.mkdir()
    (best / "pattern_embedding.pt").touch()
    assert choose(speaker).path == best / "pattern_embedding.pt"
    assert choose(speaker).lora_path is None
    adapter(speaker.lora.best_checkpoint)
    assert choose(speaker).kind == "lora"
    assert choose(speaker, "pattern").pattern_path == best / "pattern_embedding.pt"
    assert choose(speaker, "lora").pattern_path is None


def test_a_pattern_that_was_never_trained_is_refused(speaker):
    with pytest.raises(UserError, match=r"no pattern embedding.*train_pattern_embeddings.*ozzy"):
        choose(speaker, "pattern")


def test_the_adapter_that_sounds_best_comes_before_the_one_of_the_lowest_loss(speaker):
    order = [speaker.lora.final_checkpoint, speaker.lora.best_checkpoint, speaker.lora.best_audio]
    for folder in order:
        adapter(folder)
        assert choose(speaker).path == folder


@pytest.mark.parametrize(("loss", "is_by_ear"), [(2.01, True), (2.5, False)])
def test_what_sounded_best_comes_first_only_where_its_loss_is_like_the_lowest(
    speaker, loss, is_by_ear
):
    lora, whole = speaker.lora, speaker.finetune
    by_ear = whole.best_audio.with_suffix(".pth")
    losses = {lora.best_audio: loss, lora.best_checkpoint: 2.0}
    for folder, value in losses.items():
        adapter(folder)
        write_json(folder / "training_metadata.json", {"metrics": {"loss": value}})
    assert choose(speaker).path == (lora.best_audio if is_by_ear else lora.best_checkpoint)
    finetune(speaker)
    by_ear.touch()
    for path, value in {by_ear: loss, whole.best_model: 2.0}.items():
        write_json(path.with_suffix(".json"), {"metrics": {"loss": value}})
    assert choose(speaker).path == (by_ear if is_by_ear else whole.best_model)


def test_an_adapter_whose_replacement_was_killed_comes_back(speaker):
    adapter(speaker.lora.final_checkpoint)
    adapter(speaker.lora.best_checkpoint)
    aside = speaker.lora.best_checkpoint.with_name(".best_checkpoint.old")
    speaker.lora.best_checkpoint.rename(aside)
    assert choose(speaker).path == speaker.lora.best_checkpoint


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
