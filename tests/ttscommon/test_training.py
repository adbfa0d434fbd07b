"""The one loop: exact resume, honest stops, gradients that arrive."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.fresh import FRESH
from tests.ttscommon.toy_task import ToyPlan, ToyTask, toy_config, toy_run
from tests.two_processes import launch_two
from ttscommon import training
from ttscommon.checkpoints import load_state
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.machine import processes
from ttscommon.task import FitConfig
from ttscommon.training import fit


def tensors(folder: Path) -> dict[str, Tensor]:
    state = {f"state.{n}": t for n, t in load_file(folder / "state/model.safetensors").items()}
    moments = {f"adam.{n}": t for n, t in load_file(folder / "state/optimizer.safetensors").items()}
    return state | moments | load_file(folder / "final/toy.st")


def check_same_bits(one: Path, other: Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def train(folder: Path, kill_at: int | None = None, steps: int = 12, **changes: Any) -> None:
    torch.set_num_threads(1)
    config = toy_config(steps=steps, **changes)
    fit(ToyTask(kill_at=kill_at), ToyPlan(), config, toy_run(folder))


def train_six_steps(folder: Path) -> None:
    train(folder, steps=6)


def train_on_a_bad_clip(folder: Path) -> None:
    torch.set_num_threads(1)
    try:
        fit(ToyTask(), ToyPlan(bad_item=5), toy_config(), toy_run(folder))
    except UserError as error:
        (folder / f"said{processes('cpu').process_index}").write_text(str(error))


@pytest.mark.parametrize(
    ("amp", "workers", "kill_at"), [("no", 0, 2), ("no", 2, 8), ("bf16", 0, 7), ("bf16", 1, 11)]
)
def test_a_killed_and_resumed_run_ends_in_the_same_bits(
    tmp_path: Path, amp: str, workers: int, kill_at: int
) -> None:
    options = {"amp": amp, "workers": workers}
    doomed = FRESH.Process(target=train, args=(tmp_path / "killed", kill_at), kwargs=options)
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed/final").exists()
    train(tmp_path / "killed", **options)
    train(tmp_path / "straight", amp=amp)
    check_same_bits(tmp_path / "straight", tmp_path / "killed")
    best = [load_file(tmp_path / run / "best/toy.st") for run in ("straight", "killed")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_two_processes_equal_one_that_accumulates(tmp_path: Path) -> None:
    launch_two(train_six_steps, tmp_path / "two")
    assert [(tmp_path / f"two/rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    train(tmp_path / "one", steps=6, grad_accumulation=2)
    first, second = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6, msg=name)


def test_accumulation_weighs_by_targets_and_equals_one_large_batch(tmp_path: Path) -> None:
    class Whole(ToyPlan):
        """Two of the small batches in one, so the same clips make up a step."""

        def epoch(self, epoch):
            keys = super().epoch(epoch)
            pairs = zip(keys[::2], keys[1::2], strict=True)
            return [type(a)(a.epoch, a.position, a.items + b.items) for a, b in pairs]

    config = toy_config(steps=4, grad_accumulation=2)
    fit(ToyTask(dropout=0.0), ToyPlan(), config, toy_run(tmp_path / "small"))
    fit(ToyTask(dropout=0.0), Whole(), toy_config(steps=4), toy_run(tmp_path / "large"))
    small, large = (load_file(tmp_path / n / "final/toy.st") for n in ("small", "large"))
    for name in small:
        torch.testing.assert_close(small[name], large[name], rtol=1e-4, atol=1e-5)


def test_the_loss_falls_and_the_log_holds_every_record(tmp_path: Path) -> None:
    report = fit(
        ToyTask(dropout=0.0),
        ToyPlan(),
        toy_config(steps=150, evaluate_every=50),
        toy_run(tmp_path),
    )
    lines = (tmp_path / "logs/progress.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    losses = [r["loss"] for r in records if r["group"] == "train"]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert [r["step"] for r in records if r["group"] == "val"] == [50, 100, 150]
    assert report.step == 150
    assert report.best_value == min(r["loss"] for r in records if r["group"] == "val")


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    fit(ToyTask(), ToyPlan(), toy_config(), toy_run(tmp_path))
    written = (tmp_path / "state/model.safetensors").stat().st_mtime_ns
    report = fit(ToyTask(), ToyPlan(), toy_config(), toy_run(tmp_path))
    assert report.step == 12
    assert (tmp_path / "state/model.safetensors").stat().st_mtime_ns == written


def test_a_run_without_progress_ends_early_and_stays_ended(tmp_path: Path) -> None:
    class Stuck(ToyTask):
        def evaluate(self, module: Any, monitor: Any, step: int) -> dict[str, float]:
            return {"loss": 1.0 if step < 4 else 0.5}

    config = toy_config(evaluate_every=2, patience=2)
    for _ in range(2):  # the second finds it finished
        report = fit(Stuck(), ToyPlan(), config, toy_run(tmp_path))
        assert (report.step, report.best_step) == (8, 4)
    assert (tmp_path / "final" / "toy.st").exists()


class ScoredTask(ToyTask):
    """The toy with made-up losses at its evaluations."""

    def __init__(self, losses: list[float]):
        super().__init__()
        self.losses = losses

    def evaluate(self, module, monitor, step):
        return {"loss": self.losses[step - 1], "step": float(step)}


def test_the_report_holds_the_scores_of_the_best_checkpoint(tmp_path: Path) -> None:
    task = ScoredTask([3.0, 1.0, 2.0])
    report = fit(task, ToyPlan(), toy_config(steps=3), toy_run(tmp_path))
    assert (report.best_step, report.best_value) == (2, 1.0)
    assert report.metrics == {"loss": 1.0, "step": 2.0}
    assert fit(ToyTask(), ToyPlan(), toy_config(steps=3), toy_run(tmp_path)) == report


def test_a_run_that_patience_ended_goes_on_with_more_of_it(tmp_path: Path) -> None:
    losses = [2.0, 3.0, 3.0, 3.0, 1.0, 1.5]
    short = fit(ScoredTask(losses), ToyPlan(), toy_config(steps=6, patience=2), toy_run(tmp_path))
    assert short.step == 3
    more = fit(ScoredTask(losses), ToyPlan(), toy_config(steps=6, patience=0), toy_run(tmp_path))
    assert (more.step, more.best_step) == (6, 5)


@pytest.mark.parametrize("bad_at", [1, 3])
def test_scores_that_are_no_numbers_end_the_run_with_a_good_save(
    tmp_path: Path, bad_at: int
) -> None:
    losses = [1.0] * 4
    losses[bad_at - 1] = float("nan")
    with pytest.raises(UserError, match=f"not finite at step {bad_at}: loss nan"):
        fit(ScoredTask(losses), ToyPlan(), toy_config(steps=4), toy_run(tmp_path))
    report = fit(ScoredTask([1.0] * 4), ToyPlan(), toy_config(steps=4), toy_run(tmp_path))
    assert report.step == 4


class Fails(ToyTask):
    """Breaks once, in an evaluation or in writing what came of it."""

    def __init__(self, where: str, at: int):
        super().__init__()
        self.where, self.at = where, at

    def evaluate(self, module, monitor, step):
        self._break("evaluate", step)
        return super().evaluate(module, monitor, step)

    def export(self, module, folder, step, metrics):
        self._break(folder.name, step)
        super().export(module, folder, step, metrics)

    def _break(self, where: str, step: int) -> None:
        if (where, step) == (self.where, self.at):
            raise ZeroDivisionError("as if the recogniser crashed")


@pytest.mark.parametrize(
    ("where", "at"), [("evaluate", 6), ("best", 6), ("evaluate", 12), ("final", 12)]
)
def test_a_failing_evaluation_costs_no_step_and_is_made_up_for(
    tmp_path: Path, where: str, at: int
) -> None:
    rare = toy_config(evaluate_every=6, save_every=500)
    straight = fit(ToyTask(), ToyPlan(), rare, toy_run(tmp_path / "straight"))
    with pytest.raises(ZeroDivisionError):
        fit(Fails(where, at), ToyPlan(), rare, toy_run(tmp_path / "broken"))
    state = load_state(tmp_path / "broken/state")
    assert state is not None
    assert (state.step, state.finished) == (at, False)
    mended = ToyPlan()
    assert fit(ToyTask(), mended, rare, toy_run(tmp_path / "broken")) == straight
    assert mended.n_loads == 12 - at  # no step is trained twice
    check_same_bits(tmp_path / "straight", tmp_path / "broken")
    best = [load_file(tmp_path / run / "best/toy.st") for run in ("straight", "broken")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_thousands_of_clips_are_compared_and_not_shown(tmp_path: Path) -> None:
    hashes = {f"clip{number}": "abc" for number in range(1000)}
    config = toy_config(steps=1, task_settings={"rank": 8}, data={"clips": hashes})
    fit(ToyTask(), ToyPlan(), config, toy_run(tmp_path))
    assert read_json(tmp_path / "logs/run.json")["settings"]["task_settings"] == {"rank": 8}
    page = (tmp_path / "logs/report.html").read_text(encoding="utf-8")
    assert "rank" in page
    assert "clip999" not in page
    changed = replace(config, data={"clips": {**hashes, "clip7": "xyz"}})
    with pytest.raises(UserError, match=r"task_settings\.clips\.clip7: abc -> xyz"):
        fit(ToyTask(), ToyPlan(), changed, toy_run(tmp_path))


def test_a_resume_point_follows_each_evaluation_and_ten_minutes(tmp_path: Path, monkeypatch):
    def killed(task: ToyTask, config: FitConfig, folder: Path) -> int:
        with pytest.raises(ZeroDivisionError):
            fit(task, ToyPlan(bad_step=6), config, toy_run(folder))
        state = load_state(folder / "state")
        return state.step if state else 0

    rare = toy_config(steps=9, save_every=500, evaluate_every=4)
    assert killed(ToyTask(), rare, tmp_path / "evaluated") == 4
    rare = toy_config(steps=9, save_every=500, evaluate_every=500)
    assert killed(ToyTask(), rare, tmp_path / "neither") == 0
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    assert killed(ToyTask(), rare, tmp_path / "late") == 5


def test_a_killed_save_leaves_no_draft_behind(tmp_path: Path) -> None:
    gone = FRESH.Process(target=int)
    gone.start()
    gone.join()
    draft = tmp_path / f".state.{gone.pid}.part"
    draft.mkdir()
    other = tmp_path / f".state.{os.getppid()}.part"  # of somebody who is still writing
    other.mkdir()
    fit(ToyTask(), ToyPlan(), toy_config(steps=1), toy_run(tmp_path))
    assert (draft.exists(), other.exists()) == (False, True)


def test_a_resume_point_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    fit(ToyTask(), ToyPlan(), toy_config(steps=1), toy_run(tmp_path))
    path = tmp_path / "state/state.json"
    write_json(path, {**read_json(path), "version": 2})
    with pytest.raises(UserError, match="version 2, this program knows 1"):
        fit(ToyTask(), ToyPlan(), toy_config(steps=1), toy_run(tmp_path))


def test_changed_settings_and_data_are_listed_not_resumed(tmp_path: Path) -> None:
    fit(ToyTask(), ToyPlan(), toy_config(), toy_run(tmp_path))
    with pytest.raises(UserError, match=r"learning_rate: 0.01 -> 0.02; the data set.*--overwrite"):
        fit(ToyTask(), ToyPlan(n_items=9), toy_config(learning_rate=0.02), toy_run(tmp_path))


def test_a_nan_names_the_clips_and_keeps_the_resume_point(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not finite at step \d+; clips: .*clip5"):
        fit(ToyTask(), ToyPlan(bad_item=5), toy_config(), toy_run(tmp_path))
    assert not (tmp_path / "final").exists()


def test_a_nan_in_one_process_names_its_clips_in_both(tmp_path: Path) -> None:
    launch_two(train_on_a_bad_clip, tmp_path / "two")
    first, second = ((tmp_path / f"two/said{rank}").read_text() for rank in (0, 1))
    assert first == second
    named = first.partition("clips: ")[2].partition(" [")[0].split(", ")
    assert "clip5" in named
    assert len(named) == 3  # one batch: the other process's clips are innocent


def test_a_tensor_without_gradient_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 trainable tensors got no gradient, first: useless"):
        fit(ToyTask(useless=True), ToyPlan(), toy_config(), toy_run(tmp_path))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    class Interrupted(ToyTask):
        def evaluate(self, module, monitor, step):
            if step == 4:
                signal.raise_signal(signal.SIGINT)
            return super().evaluate(module, monitor, step)

    with pytest.raises(KeyboardInterrupt, match=r"saved at step 5\. Go on: run the same command"):
        fit(Interrupted(), ToyPlan(), toy_config(), toy_run(tmp_path / "stopped"))
    fit(ToyTask(), ToyPlan(), toy_config(), toy_run(tmp_path / "stopped"))
    fit(ToyTask(), ToyPlan(), toy_config(), toy_run(tmp_path / "straight"))
    check_same_bits(tmp_path / "straight", tmp_path / "stopped")


def test_a_full_disk_keeps_the_old_resume_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(ToyTask(), ToyPlan(), toy_config(steps=12), toy_run(tmp_path))
    before = tensors(tmp_path)
    (tmp_path / "state/state.json").write_text(
        (tmp_path / "state/state.json").read_text().replace('"finished": true', '"finished": false')
    )
    edited = json.loads((tmp_path / "state/state.json").read_text())
    edited["step"] = 6
    (tmp_path / "state/state.json").write_text(json.dumps(edited))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match="disk almost full"):
        fit(ToyTask(), ToyPlan(), toy_config(steps=12), toy_run(tmp_path))
    after = load_file(tmp_path / "state/model.safetensors")
    assert all(torch.equal(before[f"state.{name}"], after[name]) for name in after)


def test_a_truncated_resume_point_is_one_clear_line(tmp_path: Path) -> None:
    fit(ToyTask(), ToyPlan(), toy_config(steps=12), toy_run(tmp_path))
    state = json.loads((tmp_path / "state/state.json").read_text())
    (tmp_path / "state/state.json").write_text(json.dumps({**state, "finished": False, "step": 6}))
    path = tmp_path / "state/model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="truncated or damaged"):
        fit(ToyTask(), ToyPlan(), toy_config(steps=12), toy_run(tmp_path))
