"""The command that goes on with a run."""

from ttscommon.launching import same_command


def test_a_run_goes_on_with_its_own_words_but_for_overwriting(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    words = ["--speaker", "ozzy", "--overwrite", "--text", "two words"]
    typed = same_command("train_x", words, "auto")
    assert typed == "python tools/train_x.py --speaker ozzy --text 'two words'"


def test_processes_are_launched_again(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    typed = same_command("train_x", [], "cpu")
    assert typed == "accelerate launch --cpu --num_processes 4 tools/train_x.py"
