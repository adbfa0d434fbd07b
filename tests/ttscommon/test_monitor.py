"""What a run records, shows and survives."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fresh import FRESH
from tests.ttscommon.browser import COMMAND, browsing
from tests.ttscommon.test_training import check_same_bits
from tests.ttscommon.toy_task import ToyPlan, ToyTask, toy_config, toy_run
from ttscommon import training
from ttscommon.batching import CountedEpochs
from ttscommon.progress import Monitor
from ttscommon.records import read_kept
from ttscommon.training import fit

RATE = 16_000
OLD_SAMPLE = "logs/samples/0000003-generated.flac"
COMMAND_LINE = "python tools/train_toys.py --speaker ozzy"


class HeardTask(ToyTask):
    """The toy, with something to hear and see at every evaluation."""

    def evaluate(self, module, monitor, step):
        metrics = super().evaluate(module, monitor, step)
        sound = 0.1 * np.sin(np.arange(RATE // 2) * 0.1 * step).astype(np.float32)
        monitor.audio("generated", step, sound, RATE, text='Is <this> "safe"?')
        monitor.image("mel/generated", step, np.outer(np.arange(8.0), np.arange(1.0, 20)))
        monitor.image("alignment/generated", step, np.eye(9))
        return metrics


def train(folder: Path, kill_at: int | None = None, **changes: Any) -> None:
    torch.set_num_threads(1)
    run = replace(toy_run(folder), resume_command=COMMAND_LINE)
    fit(HeardTask(kill_at=kill_at), ToyPlan(), toy_config(**changes), run)


def train_until_killed(folder: Path, kill_at: int) -> None:
    doomed = FRESH.Process(target=train, args=(folder, kill_at))
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> tuple[Path, bytes]:
    """A run that was killed in step 8, writing a line, and went on; and an old sample of it."""
    folder = tmp_path_factory.mktemp("resumed")
    train_until_killed(folder, kill_at=8)
    path = folder / "logs/progress.jsonl"
    assert read_kept(path)[-1]["step"] == 8  # done again, since step 7 was saved last
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 8, "gro')
    old = (folder / OLD_SAMPLE).read_bytes()
    train(folder)
    return folder, old


def page_of(folder: Path) -> str:
    return (folder / "logs/report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(folder, evaluate_every=3)
    return folder


def test_a_line_tells_losses_pace_memory_and_what_is_left(finished):
    records = read_kept(finished / "logs/progress.jsonl")
    trained = [record for record in records if record["group"] == "train"]
    assert [record["step"] for record in trained] == [2, 4, 6, 8, 10, 12]
    expected = {"loss", "error", "grad_norm", "lr", "clips_per_second", "memory_gb"}
    expected |= {"epoch", "eta_seconds", "seconds", "step", "group"}
    assert all(record.keys() == expected for record in trained)
    assert [record["epoch"] for record in trained] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert trained[-1]["eta_seconds"] == 0
    assert 0.05 < trained[-1]["memory_gb"] < 20


def test_a_killed_run_goes_on_without_a_step_twice(resumed):
    records = read_kept(resumed[0] / "logs/progress.jsonl")
    keys = [(record["group"], record["step"]) for record in records]
    assert len(set(keys)) == len(keys)
    assert [step for group, step in keys if group == "val"] == list(range(1, 13))
    assert [step for group, step in keys if group == "train"] == [2, 4, 6, 8, 10, 12]
    seconds = [record["seconds"] for record in records if record["group"] == "train"]
    assert seconds == sorted(seconds)


def test_the_page_of_a_resumed_run_holds_what_came_before(resumed):
    folder, old = resumed
    page = page_of(folder)
    assert "at step 1</title>" in page
    assert "at step 12</title>" in page
    assert "From the beginning" in page
    assert "From step 7" in page
    assert (folder / OLD_SAMPLE).read_bytes() == old
    samples = [(r["name"], r["step"]) for r in read_kept(folder / "logs/samples.jsonl")]
    assert len(set(samples)) == len(samples) == 3 * len({1, *range(3, 13)})


def test_samples_of_the_first_the_best_and_the_newest_evaluations_stay(tmp_path):
    monitor = Monitor(tmp_path, start=0, total=40, active=True, title="toy")
    monitor.audio("recording", 1, np.zeros(80, np.float32), RATE)
    for step in range(1, 31):
        monitor.audio("generated", step, np.zeros(80, np.float32), RATE)
        monitor.image("mel/generated", step, np.eye(3))
        monitor.scalars("sample", step, {"audio_score": abs(step - 7)})
        monitor.scalars("val", step, {"loss": abs(step - 12), "other": -step})
    monitor.close()
    stay = [1, 7, 12, *range(21, 31)]
    listed = read_kept(tmp_path / "samples.jsonl")
    assert [one["step"] for one in listed if one["name"] == "generated"] == stay
    assert [one["step"] for one in listed if one["name"] == "recording"] == [1]
    files = {str(path.relative_to(tmp_path)) for path in (tmp_path / "samples").iterdir()}
    assert files == {one["file"] for one in listed}
    assert len(files) == 2 * len(stay) + 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'aria-label="generated at step 1"' in page
    again = Monitor(tmp_path, start=30, total=40, active=True, title="toy")
    again.audio("generated", 31, np.zeros(80, np.float32), RATE)
    again.scalars("val", 31, {"loss": 50.0})
    again.close()
    listed = read_kept(tmp_path / "samples.jsonl")
    assert [one["step"] for one in listed if one["name"] == "generated"] == [
        1, 7, 12, *range(22, 32)]  # fmt: skip


def test_a_run_that_starts_anew_forgets_the_old_one(tmp_path):
    train(tmp_path)
    shutil.rmtree(tmp_path / "state")
    train(tmp_path, steps=4)
    assert read_kept(tmp_path / "logs/progress.jsonl")[-1]["step"] == 4
    assert "at step 12</title>" not in page_of(tmp_path)
    assert max(int(p.name[:7]) for p in (tmp_path / "logs/samples").iterdir()) == 4
    assert len(json.loads((tmp_path / "logs/run.json").read_text())["starts"]) == 1


def test_the_page_tells_command_versions_settings_and_state(finished):
    page = page_of(finished)
    assert ">finished</small>" in page
    assert f"torch {importlib.metadata.version('torch')}" in page
    assert "learning_rate</th><td>0.01" in page
    assert f"<code>{COMMAND_LINE}</code>" in page
    assert "Is &lt;this&gt; &#34;safe&#34;?" in page
    assert page.count("<audio ") == 4  # the newest and three before it
    assert "best loss" in page


def test_a_stopped_run_says_so(tmp_path):
    class Interrupted(HeardTask):
        def evaluate(self, module, monitor, step):
            if step == 4:
                signal.raise_signal(signal.SIGINT)
            return super().evaluate(module, monitor, step)

    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(), ToyPlan(), toy_config(), toy_run(tmp_path))
    assert ">stopped</small>" in page_of(tmp_path)


def test_training_gives_the_same_bits_watched_or_not(tmp_path, monkeypatch):
    train(tmp_path / "watched", log_every=1)

    class Silent(Monitor):
        def __init__(self, folder: Path, **options: Any):
            super().__init__(folder, **{**options, "active": False})

    monkeypatch.setattr(training, "Monitor", Silent)
    train(tmp_path / "silent", log_every=1)
    assert not (tmp_path / "silent/logs").exists()
    check_same_bits(tmp_path / "watched", tmp_path / "silent")


def test_a_page_that_cannot_be_written_is_told_once_and_survived(tmp_path, caplog):
    (tmp_path / "logs/report.html").mkdir(parents=True)
    (tmp_path / "logs/samples").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        train(tmp_path)
    told = [record.getMessage() for record in caplog.records]
    assert sum("report.html" in line and "training goes on" in line for line in told) == 1
    assert sum("can't keep samples" in line for line in told) == 1
    assert (tmp_path / "final/toy.st").is_file()


def test_numbers_that_are_not_finite_are_left_out_of_the_page(tmp_path):
    monitor = Monitor(tmp_path, start=0, total=9, active=True, title="toy")
    monitor.step(1, {"loss": 0.5, "flat": 0.0}, lr=0.0)
    monitor.scalars("val", 1, {"loss": float("nan"), "rate": float("inf")})
    monitor.step(2, {"loss": 0.25, "flat": 0.0}, lr=0.0)
    monitor.close()
    last = read_kept(tmp_path / "progress.jsonl")[1]
    assert (last["loss"], last["rate"]) == (None, None)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nan" not in page
    assert ">inf" not in page


def test_epochs_of_unequal_length_are_counted_as_they_are():
    class Uneven(ToyPlan):
        def epoch(self, epoch):
            return super().epoch(epoch)[: 4 - epoch]

    epochs = CountedEpochs(Uneven())
    assert epochs.after(0) == 0
    for epoch in (0, 1, 2):
        epochs.keys(epoch)
    assert [epochs.after(n) for n in (2, 4, 7, 8)] == [0.5, 1, 2, 2.5]
    assert epochs.after(99) == 3


@pytest.mark.skipif(COMMAND is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_plays_and_fits_and_asks_for_nothing(finished, tmp_path, width):
    with browsing(tmp_path) as browser:
        size = {"height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.call("Emulation.setDeviceMetricsOverride", width=width, **size)
        page = finished / "logs/report.html"
        browser.open(page)
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("[...document.images].every(image => image.naturalWidth > 0)")
        assert browser.value("document.querySelectorAll('svg').length") >= 5
        browser.value("document.querySelector('audio').play()")
        browser.wait("document.querySelector('audio').currentTime > 0")
        assert browser.requests == [page.as_uri()]
        assert browser.complaints == []
