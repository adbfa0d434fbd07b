"""What is trained, compiled: the same losses, and not compiled anew at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from lewm.config import ModelConfig, TrainConfig
from lewm.dataset import CropBatch, SpeechBatch
from lewm.model import LeWMTTS
from lewm.stages import AutoencoderStage, PredictorStage, Stage
from ttscommon.mel import MelRecipe

SIZES = {"width": 32, "ff_dim": 64, "encoder_dim": 32, "encoder_ff_dim": 64, "decoder_dim": 32}
CONFIG = TrainConfig(guide_share=0.35)


def crops() -> CropBatch:
    mask = torch.arange(32) < torch.tensor([32, 20])[:, None]
    return CropBatch(("a", "b"), torch.randn(2, 100, 32), mask, int(mask.sum()))


def sentences() -> SpeechBatch:
    text_mask, mask = (torch.arange(n) < torch.tensor([n, n - 3])[:, None] for n in (9, 12))
    ids, rows = torch.randint(1, 256, (2, 9)), torch.zeros(2, dtype=torch.long)
    channels = ModelConfig.tiny().latent_dim
    speech, n_joined = torch.randn(2, 12, channels), torch.ones(2, dtype=torch.long)
    n_targets = int(mask.sum())
    return SpeechBatch(("a", "b"), ids, text_mask, speech, mask, n_joined, rows, rows, n_targets)


@pytest.mark.parametrize(
    ("kind", "batch"),
    [
        (PredictorStage, sentences),
        pytest.param(AutoencoderStage, crops, marks=pytest.mark.slow),  # its FFTs take long
    ],
)
def test_a_compiled_stage_is_compiled_once_for_all_steps(
    kind: type[Stage], batch: Callable[[], Any]
) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = LeWMTTS(replace(ModelConfig.tiny(), **SIZES), MelRecipe())
    stage, made = kind(model, CONFIG).train(), batch()
    graphs: list[GraphModule] = []

    def plainly(graph: GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def losses_at(progress: float) -> torch.Tensor:
        torch.manual_seed(1)
        return stage(made, progress).total

    eager = [losses_at(progress) for progress in (0.05, 0.1, 0.15)]
    stage.compile(backend=plainly)
    compiled = [losses_at(0.05)]
    n_graphs = len(graphs)
    compiled += [losses_at(progress) for progress in (0.1, 0.15)]
    assert n_graphs > 0
    assert len(graphs) == n_graphs
    torch.testing.assert_close(compiled, eager)
    assert len({float(total.detach()) for total in eager}) == 3  # the weights did change
