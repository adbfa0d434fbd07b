"""The trainer under the name that the guide gives it; `higgs_trainer.train` is the door."""

from higgs_trainer.tasks import AdapterTask, HiggsStage
from higgs_trainer.train import Job, Training, TrainReport, train, verified

__all__ = ["AdapterTask", "HiggsStage", "Job", "TrainReport", "Training", "train", "verified"]
