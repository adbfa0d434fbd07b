"""Experiments one after the other: each in a process of its own, and none stops the others."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from kani.config import DatasetConfig, Experiment, Experiments, ModelConfig
from kani.config_files import as_written, read
from kani.evaluation_config import EvalConfig
from kani.hub import model_folder
from kani.prepared import Prepared, prepare
from kani.tracking import require_tracker
from kani.train import RUNS, Job, TrainReport, finished, train
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.machine import processes
from ttscommon.sound_progress import clock
from ttscommon.stages import INTERRUPTED, STOPPING

log = logging.getLogger(__name__)

DATA = "data"  # folder of the prepared clips, beside the models
RESULTS, RESULTS_FORMAT = "results.json", "kani.results"
FAILURE, FAILURE_FORMAT = "failure.json", "kani.failure"


@dataclass(frozen=True)
class Workshop:
    """Everything that all experiments of a folder of YAML files share.

    Attributes:
        base: folder of the base model
        models: gets the models
    """

    experiments: Experiments
    dataset: DatasetConfig
    base: Path
    prepared: Prepared
    models: Path
    device: str = "auto"
    overwrite: bool = False
    resume_command: str = "run the same command again"

    def job(self, experiment: Experiment) -> Job:
        """How one of them is trained."""
        dataset = as_written(self.dataset)
        dataset.pop("n_shards_per_dataset")
        return Job(
            experiment,
            self.base,
            self.experiments.base_model,
            self.prepared,
            self.models,
            dataset,
            project=self.experiments.project_name,
            report_to=self.experiments.report_to,
            device=self.device,
            overwrite=self.overwrite,
            resume_command=self.resume_command,
        )

    def named(self, model_id: str) -> Experiment:
        """The experiment of that name.

        Raises:
            UserError: if there is none
        """
        known = {one.base.model_id: one for one in self.experiments.experiments}
        if model_id not in known:
            raise UserError(f"no experiment '{model_id}'", fix=f"one of {', '.join(known)}")
        return known[model_id]


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes:
        seconds: of the training that finished it, be it an earlier one
        why: it failed
    """

    model_id: str
    state: Literal["trained", "finished before", "failed"]
    seconds: float = 0.0
    why: str = ""


def open_workshop(
    folder: Path,
    *,
    models: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    resume_command: str = "run the same command again",
) -> Workshop:
    """Read the files, find the base model, and prepare the data, once for all processes.

    Args:
        models: by default as eval_config.yaml says

    Raises:
        UserError: if any of it can't be used
    """
    experiments = read(Experiments, folder / "experiments.yaml").require()
    dataset = read(DatasetConfig, folder / "dataset_config.yaml").require()
    model = read(ModelConfig, folder / "model_config.yaml").require()
    places = read(EvalConfig, folder / "eval_config.yaml").require().paths
    models = models or Path(places.checkpoints_dir)
    require_tracker(experiments.report_to)
    machine = processes(device)
    with machine.main_process_first():
        base = model_folder(experiments.base_model)
        prepared = prepare(dataset, model, base, models / DATA)
    if machine.is_main_process:
        for line in [*map(str, prepared.reports), *prepared.notes]:
            log.info("%s", line)
    return Workshop(experiments, dataset, base, prepared, models, device, overwrite, resume_command)


def train_one(job: Job) -> TrainReport:
    """Train an experiment; what it fails of is kept for the table of results, too.

    Raises:
        UserError: as `train` does
    """
    if not processes(job.device).is_main_process:
        return train(job)
    failure = job.run.folder / FAILURE
    with _alone(job):
        try:
            report = train(job)
        except Exception as error:  # whatever it is, it is told by who reads the results
            about = error.what if isinstance(error, UserError) else repr(error)
            told = {"error": about, "traceback": traceback.format_exc()}
            write_json(failure, {"format": FAILURE_FORMAT, "version": 1, **told})
            raise
        failure.unlink(missing_ok=True)
    return report


def run_all(workshop: Workshop, run_one: Callable[[Experiment], int]) -> list[Outcome]:
    """Train every experiment that isn't finished.

    Args:
        run_one: trains one in a process of its own and gives the exit code; so all of its memory,
            a GPU's too, is free when it ends, and a crash ends that experiment only

    Raises:
        KeyboardInterrupt: if one was stopped; it goes on, and the rest follow, at the next call
    """
    outcomes: list[Outcome] = []
    for number, experiment in enumerate(workshop.experiments.experiments, 1):
        name, job = experiment.base.model_id, workshop.job(experiment)
        place = f"{number}/{len(workshop.experiments.experiments)} {name}"
        outcome = _found(job, name)
        if outcome is None:
            log.info("%s  begins", place)
            began = time.monotonic()
            code = run_one(experiment)
            if code == INTERRUPTED or -code in STOPPING:
                raise KeyboardInterrupt(f"stopped in {name}. Go on: {workshop.resume_command}")
            outcome = _outcome(job, name, code, time.monotonic() - began)
        log.info("%s  %s in %s", place, outcome.state, clock(outcome.seconds))
        outcomes.append(outcome)
        _keep(workshop.models, outcomes)
    return outcomes


def _found(job: Job, name: str) -> Outcome | None:
    """If nothing is to be trained."""
    try:
        known = finished(job)
        return Outcome(name, "finished before", known.seconds) if known else None
    except UserError as error:
        return Outcome(name, "failed", why=str(error))


def _outcome(job: Job, name: str, code: int, seconds: float) -> Outcome:
    failure = job.run.folder / FAILURE
    if code == 0:
        return Outcome(name, "trained", seconds)
    why = f"ended with code {code}"
    if code < 0:
        why = f"ended by {signal.Signals(-code).name}, mostly for too little memory"
    elif failure.is_file():
        why = str(read_json(failure, format=FAILURE_FORMAT)["error"])
    return Outcome(name, "failed", seconds, why)


def _keep(models: Path, outcomes: Sequence[Outcome]) -> None:
    known = [vars(outcome) for outcome in outcomes]
    data = {"format": RESULTS_FORMAT, "version": 1, "experiments": known}
    write_json(models / RUNS / RESULTS, data)


@contextlib.contextmanager
def _alone(job: Job) -> Iterator[None]:
    """A training that outlived the one who started it isn't joined by a second, which waits."""
    job.run.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.run.folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning(
            "another process is training %s: waiting for its end (Ctrl-C waits no longer)",
            job.model_id,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
