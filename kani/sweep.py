"""A search by Optuna for the settings of the lowest validation loss."""

from __future__ import annotations

import hashlib
import json
import logging
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kani.config import Experiment, ExperimentName, LoraArgs, SweepConfig, SweepRange, TrainerArgs
from kani.config_files import file_names
from kani.train import Job, Training, TrainReport, train
from ttscommon.errors import UserError

log = logging.getLogger(__name__)

STUDY = "sweep.journal"
GROUPS: dict[str, type] = {"lora_args": LoraArgs, "trainer_args": TrainerArgs}


@dataclass(frozen=True)
class SweepReport:
    """What was found.

    Attributes:
        settings: of the best, {"trainer_args.learning_rate": ...}
        n_pruned: trials that were ended early, as others were better by then
    """

    best: TrainReport
    settings: dict[str, Any]
    loss: float
    n_trials: int
    n_pruned: int


def sweep(
    config: SweepConfig, template: Experiment, job_of: Callable[[Experiment], Job]
) -> SweepReport:
    """Try settings until there are `n_trials`, and leave the best one as a model.

    What was tried is kept beside the runs; a trial that was stopped goes on where it was.

    Args:
        template: every setting that isn't searched for

    Raises:
        UserError: if Optuna isn't installed, or a range is of no setting
    """
    optuna = _optuna()
    ranges = named_ranges(config)
    folder = job_of(_named(template, config.model_id)).run.folder
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(optuna, config, folder)
    _take_up_stopped(optuna, study)

    def objective(trial: Any) -> float:
        settings = {name: _suggested(trial, name, one) for name, one in ranges.items()}
        job = job_of(_experiment(template, config, settings))
        log.info("trial %d  %s", trial.number, json.dumps(settings))

        def told(step: int, loss: float) -> None:
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        training = Training(job)
        report = training.fit(told)
        training.release()
        return report.metrics["loss"]

    n_left = config.n_trials - sum(trial.state.is_finished() for trial in study.trials)
    if n_left > 0:
        study.optimize(objective, n_trials=n_left)
    pruned = [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    settings = {name: _read(value) for name, value in study.best_params.items()}
    best = train(job_of(_experiment(template, config, settings)))
    return SweepReport(best, settings, study.best_value, len(study.trials), len(pruned))


def named_ranges(config: SweepConfig) -> dict[str, SweepRange]:
    """What is searched for, by group and setting.

    Raises:
        UserError: if a range is of no setting, or there is none
    """
    found: dict[str, SweepRange] = {}
    for group, cls in GROUPS.items():
        known = file_names(cls).values()
        for name, one in (getattr(config, group) or {}).items():
            if name not in known:
                raise UserError(f"sweep.{group}.{name} is no setting", fix=f"{', '.join(known)}")
            found[f"{group}.{name}"] = one
    if not found:
        raise UserError(
            "the sweep has no ranges", fix="sweep: {trainer_args: {learning_rate: ...}}"
        )
    return found


def _study(optuna: Any, config: SweepConfig, folder: Path) -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / STUDY))
    return optuna.create_study(
        study_name=config.model_id,
        storage=optuna.storages.JournalStorage(backend),
        sampler=optuna.samplers.TPESampler(seed=config.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=config.warmup_trials),
        load_if_exists=True,
    )


def _take_up_stopped(optuna: Any, study: Any) -> None:
    """Put trials that were stopped first in line; their runs go on, being named by settings."""
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _suggested(trial: Any, name: str, one: SweepRange) -> Any:
    if one.choices:  # as text, for lists can be chosen between as well
        return _read(trial.suggest_categorical(name, [json.dumps(c) for c in one.choices]))
    group, _, key = name.partition(".")
    cls = GROUPS[group]
    field = next(f for f, written in file_names(cls).items() if written == key)
    if typing.get_type_hints(cls)[field] is int:
        return trial.suggest_int(name, int(one.low or 0), int(one.high or 0), log=one.log)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


def _read(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _experiment(
    template: Experiment, config: SweepConfig, settings: Mapping[str, Any]
) -> Experiment:
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    parts: dict[str, Any] = {}
    for group, cls in GROUPS.items():
        fields = {written: f for f, written in file_names(cls).items()}
        chosen = {
            fields[key.partition(".")[2]]: tuple(value) if isinstance(value, list) else value
            for key, value in settings.items()
            if key.startswith(f"{group}.")
        }
        parts[group] = cls(**{**vars(getattr(template, group)), **chosen})
    return _named(Experiment(base=template.base, **parts), f"{config.model_id}-{name}")


def _named(experiment: Experiment, model_id: str) -> Experiment:
    base = ExperimentName(model_id=model_id, desc=experiment.base.desc)
    return Experiment(
        base=base, lora_args=experiment.lora_args, trainer_args=experiment.trainer_args
    )


def _optuna() -> Any:
    try:
        import optuna  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError("Optuna isn't installed", fix="uv sync --inexact --extra sweep") from error
    return optuna
