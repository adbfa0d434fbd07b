"""The one training loop of the house.

A task brings the network and its losses, a plan brings the batches, and `fit` does the rest.
Randomness is named, never carried: the order of an epoch, the dropout of a step and the
augmentation of an item are seeded by (seed, event). So a run resumes at any step from weights,
optimizer and one integer, and ends in the same bits as one that was never stopped.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ttscommon.batching import BatchPlan, CountedEpochs, LoadedBatches, move
from ttscommon.checkpoints import (
    Held,
    RunFolder,
    State,
    changes,
    held_by,
    load_state,
    load_tensors,
    refuse_changes,
    save_state,
)
from ttscommon.errors import UserError
from ttscommon.interrupt import StopRequest, stop_requests
from ttscommon.losses import Losses
from ttscommon.machine import accelerator as accelerator_of
from ttscommon.machine import memory_advice
from ttscommon.parameters import trained_of
from ttscommon.progress import Monitor
from ttscommon.schedule import Average, learning_rate_share
from ttscommon.seeds import seed_for
from ttscommon.sharding import (
    gradients_kept,
    placed,
    prepared,
    reached_by_gradients,
    whole,
    whole_weights,
)
from ttscommon.task import FitConfig, FitReport, Task

log = logging.getLogger(__name__)

SAVE_SECONDS = 600.0  # at most between two resume points
# A LoRA's first factor has no gradient until the second has left zero, so look at a few steps.
GRADIENT_CHECK_STEPS = 3


def fit(task: Task, plan: BatchPlan[Any], config: FitConfig, run: RunFolder) -> FitReport:
    """Train until `config.steps`, going on from `run.state` where there is one.

    Raises:
        UserError: if the run can't go on as asked: changed settings or data, a loss that isn't
            finite, a trainable tensor without gradient, no memory, no disk
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step is done and saved
    """
    accelerator = accelerator_of(config.amp, config.device)
    settings = config.kept_settings(accelerator.num_processes)
    state = load_state(run.state)
    if state is not None and run.overwrite and changes(state, settings, plan.fingerprint):
        log.info(
            "%s starts anew: %s",
            config.title,
            "; ".join(changes(state, settings, plan.fingerprint)),
        )
        state = None
    if state is not None:
        refuse_changes(state, settings, plan.fingerprint, where=run.state)
        is_over = state.step >= config.steps or config.is_stale(state.step, state.best_step)
        if state.finished and is_over:
            log.info("%s was finished at step %d", config.title, state.step)
            return FitReport.of(state)
        state = replace(state, finished=False)
    else:
        state = State(0, settings, plan.fingerprint)
    loop = _Loop(task, plan, config, run, accelerator, state)
    with stop_requests() as stop:
        try:
            return loop.run(stop)
        finally:
            loop.monitor.close(is_finished=loop.state.finished)


def begins_anew(plan: BatchPlan[Any], config: FitConfig, run: RunFolder, n_processes: int) -> bool:
    """Whether `fit` would start at the first step, not looking at whether it would refuse."""
    state = load_state(run.state)
    settings = config.kept_settings(n_processes)
    return state is None or (run.overwrite and bool(changes(state, settings, plan.fingerprint)))


class _Loop:
    """One process's side of a run."""

    def __init__(
        self,
        task: Task,
        plan: BatchPlan[Any],
        config: FitConfig,
        run: RunFolder,
        accelerator: Accelerator,
        state: State,
    ):
        self.task, self.plan, self.config, self.folder = task, plan, config, run
        self.epochs = CountedEpochs(plan)
        self.accelerator, self.state = accelerator, state
        self.module = module = placed(task.module, accelerator.device, config)
        groups = task.parameter_groups()
        self.scales = [group.pop("lr_scale", 1.0) for group in groups]
        name_of = {parameter: name for name, parameter in module.named_parameters()}
        self.names = [name_of[parameter] for group in groups for parameter in group["params"]]
        self.average = Average(module, config.ema_decay) if config.ema_decay else None
        optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.saved = {"module": module}
        if self.average is not None:
            self.saved["average"] = self.average.module
        if state.step:
            load_tensors(run.state, self.saved, optimizer, self.names)
        if config.compile:
            module.compile()
        self.model, self.optimizer = prepared(accelerator, module, optimizer)
        self.unproven = set(self.names)  # tensors that no gradient has reached yet
        self.saved_at = time.monotonic()
        self.pending: list[tuple[int, tuple[str, ...], Tensor, dict[str, Tensor]]] = []
        self.monitor = Monitor(
            run.logs,
            start=state.step,
            total=config.steps,
            active=accelerator.is_main_process,
            title=config.title,
            watched=config.monitor,
            command=run.command,
            settings=config.shown_settings(accelerator.num_processes),
            device=str(accelerator.device),
        )
        if accelerator.is_main_process:
            where = (
                f"on {accelerator.device}, {config.amp}, {accelerator.num_processes} process(es)"
            )
            log.info("%s: %s %s", config.title, trained_of(module), where)
            if state.step:
                log.info("%s goes on from step %d of %d", config.title, state.step, config.steps)

    def run(self, stop: StopRequest) -> FitReport:
        config, batches = self.config, self._batches()
        began = self.state.step
        for step in range(began + (not self.state.is_due), config.steps + 1):
            last, stopping, is_late = step == config.steps, False, False
            if step > began:
                with memory_advice(f"at step {step}"):
                    stopping, is_late = self._train_step(step, batches, stop)
                if step - began <= GRADIENT_CHECK_STEPS:
                    self._check_gradients(last=step - began == GRADIENT_CHECK_STEPS)
                if last or stopping or step % config.log_every == 0 or self._is_cpu:
                    self._report(step, line=last or step % config.log_every == 0)
            is_scored = last or step % config.evaluate_every == 0
            if is_scored:
                with self._resumable(step):
                    with memory_advice(f"while evaluating at step {step}"):
                        self._evaluate(step)
                    last = last or self._is_stale(step)
                    if last:
                        self._export(self.folder.final, step)
            if last or stopping or is_scored or is_late or step % config.save_every == 0:
                self._save(step, finished=last)
            if stopping and not last:
                raise KeyboardInterrupt(
                    f"stopped and saved at step {step}. Go on: {self.folder.resume_command}"
                )
            if last:
                break
        return FitReport.of(self.state)

    def _train_step(
        self, step: int, batches: Iterator[Any], stop: StopRequest
    ) -> tuple[bool, bool]:
        """One optimizer step.

        Returns:
            whether any process was asked to stop, and whether saving is overdue
        """
        config, accelerator = self.config, self.accelerator
        micro = list(itertools.islice(batches, config.grad_accumulation))
        is_late = accelerator.is_main_process and time.monotonic() - self.saved_at >= SAVE_SECONDS
        told = [float(sum(batch.n_targets for batch in micro)), float(stop.asked), float(is_late)]
        agreed = accelerator.reduce(torch.tensor(told, device=accelerator.device), "sum")
        share = accelerator.num_processes / agreed[0]  # DDP averages; we want the sum over targets
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = self._learning_rate(step) * scale
        self.optimizer.zero_grad(set_to_none=True)
        self.model.train()
        parts: dict[str, Tensor] = {}
        for index, batch in enumerate(micro):
            batch = move(batch, accelerator.device)
            place = index * accelerator.num_processes + accelerator.process_index
            torch.manual_seed(seed_for(config.seed, "step", step, "batch", place))
            waits = index + 1 < len(micro)
            with gradients_kept(accelerator, self.model) if waits else contextlib.nullcontext():
                losses: Losses = self.model(batch, step / config.steps)
                weight = batch.n_targets * share
                accelerator.backward(losses.total * weight)
            for name, value in {"loss": losses.total, **losses.parts}.items():
                parts[name] = parts.get(name, 0) + value.detach() * weight
            self.monitor.count(len(batch.ids) * accelerator.num_processes)
        limit = config.clip_norm if config.clip_norm > 0 else math.inf
        norm = accelerator.clip_grad_norm_(self.model.parameters(), limit)
        ids = tuple(name for batch in micro for name in batch.ids)
        self.pending.append((step, ids, whole(torch.as_tensor(norm)), parts))
        if self._is_cpu:
            self._refuse_nan()  # before the weights are touched; on a GPU once a line is due
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.module, step)
        if accelerator.num_processes == 1:
            return stop.asked, is_late
        return bool(agreed[1] > 0), bool(agreed[2] > 0)

    def _batches(self) -> Iterator[Any]:
        """This process's batches from the resume point on, loaded ahead by workers if asked."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = self.state.step * self.config.grad_accumulation * world
        left = (self.config.steps - self.state.step) * self.config.grad_accumulation
        mine = itertools.islice(self.epochs.all_keys(), first + rank, None, world)
        keys = itertools.islice(mine, left)  # lazy: a long run has millions
        loaded, workers = LoadedBatches(self.plan), self.config.workers
        return iter(DataLoader(loaded, batch_size=None, sampler=keys, num_workers=workers))

    def _check_gradients(self, *, last: bool) -> None:
        """A tensor that trains nothing is the worst bug in this field: look at every one."""
        self.unproven -= reached_by_gradients(self.accelerator, self.module)
        if last and self.unproven:
            names = sorted(self.unproven)
            raise UserError(
                f"{len(names)} trainable tensors got no gradient, first: {', '.join(names[:3])}",
                fix="this is a bug in the model or its losses; please report it",
            )

    def _refuse_nan(self) -> None:
        """Stop every process at the first step where any has a bad loss, naming its clips."""
        if not self.pending:
            return
        rows = [
            torch.stack([norm.float(), parts["loss"].float()]) for _, _, norm, parts in self.pending
        ]
        bad = ~torch.isfinite(torch.stack(rows)).all(dim=1)  # (n,) of this process
        agreed = self.accelerator.reduce(bad.float(), "sum")
        assert isinstance(agreed, Tensor)
        if not bool(agreed.any()):
            return
        step, ids, _, parts = self.pending[int(agreed.nonzero()[0])]
        told = gather_object([(bool(torch.isfinite(parts["loss"])), ids)])
        # The gradient's norm is everyone's, the loss a process's own; so it tells whose clips.
        named = [name for fine, names in told if not fine for name in names]
        named = named or [name for _, names in told for name in names]
        raise _NotFiniteError(
            f"the loss is not finite at step {step}; clips: {', '.join(named[:16])}",
            where=self.folder.state,
            fix="look at these clips, or lower --learning-rate; the last save is good",
        )

    def _report(self, step: int, *, line: bool) -> None:
        self._refuse_nan()
        _, _, norm, parts = self.pending[-1]
        self.pending.clear()
        if not line:
            return
        values = {name: self._mean(value) for name, value in parts.items()}
        taken = step * self.config.grad_accumulation * self.accelerator.num_processes
        self.monitor.step(
            step,
            {**values, "grad_norm": float(norm)},
            lr=self._learning_rate(step),
            epoch=self.epochs.after(taken),
        )

    def _evaluate(self, step: int) -> None:
        self._refuse_nan()
        module = self._averaged()
        module.eval()
        torch.manual_seed(seed_for(self.config.seed, "evaluate", step))
        with torch.no_grad():
            metrics = self.task.evaluate(module, self.monitor, step)
        # The first process decides for all, or a last digit could send them different ways.
        metrics = broadcast_object_list([metrics])[0]
        self.monitor.scalars("val", step, metrics)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if not math.isfinite(metrics[self.config.monitor]):
            raise _NotFiniteError(
                f"scores of the held-out clips are not finite at step {step}: {shown}",
                where=self.folder.state,
                fix="look at these clips, or lower --learning-rate; the last save is good",
            )
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if self.accelerator.is_main_process:
            log.info("%s evaluation at %d  %s", self.config.title, step, shown)
        value = metrics[self.config.monitor]
        best = self.state.best_value
        self.state = replace(self.state, metrics=metrics)
        if best is None or value < best:
            self.state = replace(self.state, best_value=value, best_step=step, best_metrics=metrics)
            self._export(self.folder.best, step)

    def _is_stale(self, step: int) -> bool:
        """Whether the last evaluations, as many as the patience, brought nothing better."""
        best = self.state.best_step
        if not self.config.is_stale(step, best):
            return False
        log.info("%s ends early: nothing better since step %d", self.config.title, best)
        return True

    def _export(self, folder: Path, step: int) -> None:
        with whole_weights(self.module):
            if self.accelerator.is_main_process:
                self.task.export(self._averaged().eval(), folder, step, self.state.metrics)
        self.accelerator.wait_for_everyone()

    def _save(self, step: int, *, finished: bool) -> None:
        self._refuse_nan()
        self.state = replace(self.state, step=step, finished=finished, is_due=False)
        held = self._held()
        if self.accelerator.is_main_process:
            save_state(self.folder.state, self.state, held)
        self.saved_at = time.monotonic()
        self.accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def _resumable(self, step: int) -> Iterator[None]:
        """Save what was trained where scoring or writing it fails; a resume begins with these."""
        before, fails, held = self.state, True, self._held()
        try:
            yield
            fails = False
        except (_NotFiniteError, KeyboardInterrupt):
            fails = False  # weights that are no good, or somebody who won't wait
            raise
        finally:
            # No waiting for other processes: they may be waiting for what this one failed to do.
            if fails and self.accelerator.is_main_process:
                due = replace(before, step=step, finished=False, is_due=True)
                save_state(self.folder.state, due, held)
                log.info("%s: saved at step %d", self.config.title, step)

    def _held(self) -> Held:
        """What is to be saved; of weights that are shared out only all processes together know."""
        return held_by(self.saved, self.optimizer, self.names)

    def _averaged(self) -> nn.Module:
        if self.average is not None:
            return self.average.module
        return self.module

    def _mean(self, value: Tensor) -> float:
        """Over the processes."""
        mean = self.accelerator.reduce(value, "mean")
        assert isinstance(mean, Tensor)
        return float(mean)

    def _learning_rate(self, step: int) -> float:
        config = self.config
        return config.learning_rate * learning_rate_share(
            step,
            config.schedule,
            steps=config.steps,
            warmup_steps=config.warmup_steps,
            final_share=config.final_share,
        )

    @property
    def _is_cpu(self) -> bool:
        return self.accelerator.device.type == "cpu"


class _NotFiniteError(UserError):
    """A loss or a score that no number stands for: these weights are no good."""
