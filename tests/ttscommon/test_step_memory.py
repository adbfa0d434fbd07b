"""What a step takes is known before it is tried."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ttscommon.step_memory import Alive, step_memory

X = torch.randn(64, 256)


class Stack(nn.Module):
    def __init__(self, *, recomputes: bool = False):
        super().__init__()
        self.recomputes = recomputes
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Dropout(0.1), nn.Linear(1024, 256))
            for _ in range(6)
        )

    def forward(self, x):
        for layer in self.layers:
            x = x + (checkpoint(layer, x, use_reentrant=False) if self.recomputes else layer(x))
        return x


def loss_of(module: nn.Module, batch) -> torch.Tensor:
    return module(batch["x"]).square().mean()


@pytest.mark.parametrize("amp", ["no", "bf16"])
@pytest.mark.parametrize("recomputes", [False, True])
def test_the_estimate_is_what_real_tensors_take(recomputes, amp):
    module = Stack(recomputes=recomputes)
    module.layers[0].requires_grad_(False)
    size = step_memory(module, {"x": X}, loss_of, amp=amp)
    assert all(p.grad is None for p in module.parameters())
    with Alive() as alive:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp == "bf16"):
            loss = loss_of(module, {"x": X})
        loss.backward()
    assert size.work == pytest.approx(alive.peak, rel=0.02)
    trained = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    assert size.optimizer == 2 * trained
    assert size.total == size.weights + size.optimizer + size.work


def test_recomputing_takes_less_and_an_average_more():
    batch = {"x": torch.randn(4096, 256)}
    plain, frugal = (step_memory(Stack(recomputes=r), batch, loss_of) for r in (False, True))
    assert frugal.work < plain.work
    averaged = step_memory(Stack(), batch, loss_of, has_average=True)
    assert averaged.total == pytest.approx(plain.total + plain.weights, rel=0.02)
    assert "weights" in str(averaged)


def test_the_callers_chance_is_left_alone():
    module, before = Stack(), torch.get_rng_state()
    step_memory(module, {"x": X}, loss_of)
    assert torch.equal(torch.get_rng_state(), before)


MEASURED = """
import torch
from tests.ttscommon.test_step_memory import Stack, loss_of
from ttscommon.memory import map_large_tensors, peak, reset_peak, resident
from ttscommon.step_memory import step_memory
map_large_tensors()
torch.set_num_threads(1)
module, batch = Stack(), {"x": torch.randn(8192, 256)}
size = step_memory(module, batch, loss_of)
optimizer = torch.optim.AdamW(module.parameters(), fused=True)
for _ in range(2):  # the first brings libraries
    reset_peak()
    before = resident()
    optimizer.zero_grad(set_to_none=True)
    loss_of(module, batch).backward()
    optimizer.step()
print(size.work / (peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_the_process_grows_by_what_was_estimated():
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0.8 < float(done.stdout) < 1.2
