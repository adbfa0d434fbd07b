"""What tells how a training goes, under the name that the guide gives it.

Losses by codebook and their balance are scores of `validation_scores`; lines, curves and sounds are
the loop's `Monitor`; samples on the way are judged by `Listener`.
"""

from higgs_trainer.hearing import Listener
from higgs_trainer.tasks import validation_scores
from ttscommon.progress import Monitor

__all__ = ["Listener", "Monitor", "validation_scores"]
