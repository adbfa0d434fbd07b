"""A chain of tools: what is skipped, what is repeated, where it stops and how it goes on."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.stages import Chain, Stage

ROOT = Path(__file__).resolve().parents[2]


class Workshop:
    """Three stages that copy words on: sounds -> texts -> voice -> page."""

    def __init__(self, folder: Path):
        self.folder, self.ran, self.exits = folder, [], {}
        (folder / "sounds").mkdir()
        (folder / "sounds/a.wav").write_text("la")
        self.voice_flags = ["--epochs", "3"]
        self.machine_flags: list[str] = []

    def chain(self) -> Chain:
        sounds, texts, voice, page = (self.folder / n for n in ("sounds", "texts", "voice", "page"))
        stages = [
            Stage(name="texts", script="texts.py", inputs=[sounds], outputs=[texts]),
            Stage(name="voice", script="voice.py", flags=self.voice_flags, inputs=[texts],
                  outputs=[voice], own=[voice], again=["--overwrite"],
                  machine_flags=self.machine_flags),
            Stage(name="page", script="page.py", inputs=[voice], outputs=[page], good_exits=(0, 3),
                  weights=[self.folder / "weights"]),
        ]  # fmt: skip
        state = self.folder / "pipeline.json"
        return Chain(stages, state, resume="python all.py", runner=self.runner)

    def runner(self, words) -> int:
        name = words[0].removesuffix(".py")
        self.ran.append(" ".join([name, *words[1:]]))
        code = self.exits.get(name, 0)
        if code in (0, 3):
            self.work(name)
        return code

    def work(self, name: str) -> None:
        if name == "texts":  # tells how many sounds, not what they are
            content = str(len(list((self.folder / "sounds").iterdir())))
        else:
            content = (self.folder / {"voice": "texts", "page": "voice"}[name]).read_text() + "!"
        (self.folder / name).write_text(content)

    def run(self, start: str | None = None) -> list[str]:
        """What was run this time."""
        self.ran = []
        self.chain().run(start)
        return self.ran


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


ALL = ["texts", "voice --epochs 3", "page"]


def test_finished_stages_are_skipped(workshop):
    assert workshop.run() == ALL
    assert workshop.run() == []
    done = workshop.chain().run()
    assert [(one.name, one.was_run) for one in done] == [
        *(("texts", False), ("voice", False), ("page", False)),
    ]


def test_a_touched_file_of_the_same_content_repeats_nothing(workshop):
    workshop.run()
    os.utime(workshop.folder / "sounds/a.wav", (1, 1))
    assert workshop.run() == []


def test_a_changed_input_repeats_what_depends_on_it(workshop):
    workshop.run()
    (workshop.folder / "sounds/b.wav").write_text("lala")
    assert workshop.run() == ["texts", "voice --epochs 3 --overwrite", "page"]
    assert (workshop.folder / "page").read_text() == "2!!"


def test_a_stage_whose_inputs_came_out_the_same_is_not_repeated(workshop):
    workshop.run()
    (workshop.folder / "sounds/a.wav").write_text("lu")
    assert workshop.run() == ["texts"]


def test_what_a_person_corrects_between_stages_is_respected(workshop):
    workshop.run()
    (workshop.folder / "texts").write_text("by hand")
    assert workshop.run() == ["voice --epochs 3 --overwrite", "page"]
    assert (workshop.folder / "texts").read_text() == "by hand"


def test_changed_settings_repeat_a_stage_and_machine_flags_do_not(workshop):
    workshop.run()
    workshop.machine_flags = ["--device", "cpu"]
    assert workshop.run() == []
    workshop.voice_flags = ["--epochs", "4"]
    assert workshop.run() == ["voice --epochs 4 --overwrite --device cpu"]


def test_other_weights_repeat_a_stage(workshop):
    workshop.run()
    for content in ("1", "2"):
        (workshop.folder / "weights").write_text(content)
        assert workshop.run() == ["page"]
    assert workshop.run() == []


def test_lost_outputs_are_made_again(workshop):
    workshop.run()
    (workshop.folder / "page").unlink()
    assert workshop.run() == ["page"]


def test_a_failure_stops_the_chain_and_names_stage_and_command(workshop):
    workshop.exits["voice"] = 1
    with pytest.raises(UserError, match=r"stage 'voice' failed with exit code 1.*python all\.py"):
        workshop.run()
    assert workshop.ran == ALL[:2]
    workshop.exits.clear()
    assert workshop.run() == ALL[1:]  # without --overwrite: a stopped stage resumes


def test_a_stage_that_was_killed_says_so(workshop):
    workshop.exits["voice"] = -9
    with pytest.raises(UserError, match="SIGKILL, mostly too little memory"):
        workshop.run()


def test_a_stopped_stage_passes_the_stop_on(workshop):
    workshop.exits["voice"] = 130
    with pytest.raises(KeyboardInterrupt, match=r"in stage 'voice'; go on with: python all\.py"):
        workshop.run()


def test_a_stopped_stage_whose_input_changed_starts_anew(workshop):
    workshop.exits["voice"] = 1
    with pytest.raises(UserError):
        workshop.run()
    workshop.exits.clear()
    (workshop.folder / "texts").write_text("by hand")
    assert workshop.run() == ["voice --epochs 3 --overwrite", "page"]


def test_an_answer_that_counts_as_success_is_remembered(workshop):
    workshop.exits["page"] = 3
    assert workshop.chain().run()[-1].exit_code == 3
    again = workshop.chain().run()[-1]
    assert (again.exit_code, again.was_run) == (3, False)


def test_from_a_stage_on_everything_is_run_again(workshop):
    workshop.run()
    assert workshop.run("voice") == ["voice --epochs 3 --overwrite", "page"]


def test_from_needs_what_comes_before(workshop):
    with pytest.raises(UserError, match="nothing to start 'page' from: 'texts' has not been run"):
        workshop.run("page")
    with pytest.raises(UserError, match=r"no stage 'pages'.*texts, voice, page"):
        workshop.run("pages")


def test_a_stage_that_leaves_nothing_is_a_failure(workshop):
    workshop.work = lambda name: None
    with pytest.raises(UserError, match="'texts' didn't leave what it should"):
        workshop.run()


def refusing(workshop: Workshop) -> None:
    """As real tools do: what exists is replaced only with --overwrite."""

    def runner(words) -> int:
        exists = (workshop.folder / words[0].removesuffix(".py")).exists()
        refuses = words[0] == "voice.py" and exists and "--overwrite" not in words
        return 1 if refuses else Workshop.runner(workshop, words)

    workshop.runner = runner


def test_a_repeated_stage_that_was_stopped_may_still_replace_what_is_there(workshop):
    refusing(workshop)
    workshop.run()
    (workshop.folder / "texts").write_text("by hand")
    workshop.exits["voice"] = 130
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            workshop.run()
    workshop.exits.clear()
    assert workshop.run() == ["voice --epochs 3 --overwrite", "page"]
    assert workshop.run() == []


def test_what_was_there_before_the_chain_is_replaced_on_request_only(workshop):
    refusing(workshop)
    (workshop.folder / "voice").write_text("mine")
    for _ in range(2):
        with pytest.raises(UserError, match="with --from voice it replaces what is there"):
            workshop.run()
    assert (workshop.folder / "voice").read_text() == "mine"
    assert workshop.run("voice") == ["voice --epochs 3 --overwrite", "page"]


def test_what_somebody_made_anew_is_not_replaced_unasked(workshop):
    workshop.run()
    (workshop.folder / "voice").write_text("made with better flags")
    assert workshop.run() == ["page"]
    (workshop.folder / "texts").write_text("by hand")
    with pytest.raises(UserError, match=r"'voice' would replace what was changed.*--from voice"):
        workshop.run()
    assert (workshop.folder / "voice").read_text() == "made with better flags"
    assert workshop.run("voice") == ["voice --epochs 3 --overwrite", "page"]


def test_the_module_loads_where_there_are_no_posix_locks_and_signals(monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.delattr(signal, "SIGHUP")
    spec = importlib.util.find_spec("ttscommon.stages")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ttscommon.stages", module)
    spec.loader.exec_module(module)


def test_a_plan_tells_commands_and_reasons_and_runs_nothing(workshop):
    first = workshop.chain().plan()
    assert [step.command for step in first] == [f"python {w}" for w in (
        "texts.py", "voice.py --epochs 3", "page.py")]  # fmt: skip
    assert {step.why for step in first} == {"not done yet"}
    assert not (workshop.folder / "texts").exists()
    assert not (workshop.folder / "pipeline.json").exists()
    workshop.run()
    (workshop.folder / "sounds/b.wav").write_text("lala")
    whys = [step.why for step in workshop.chain().plan()]
    assert whys == [f"changed: {workshop.folder / 'sounds'}", "if texts makes a change",
                    "if voice makes a change"]  # fmt: skip


def test_the_state_says_command_and_time(workshop):
    workshop.run()
    kept = read_json(workshop.folder / "pipeline.json", format="ttscommon.stages")
    voice = kept["stages"]["voice"]
    assert voice["command"] == "python voice.py --epochs 3"
    assert voice["seconds"] >= 0
    assert voice["state"] == "done"
