"""How much memory a training step will take, known before it is tried.

The step is run with tensors that have a size and no numbers, and everything that is alive at the
same time is added up. So the answer holds for any network, precision and checkpointing; what it
leaves out is what allocators and kernels take for themselves.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one process.

    Attributes:
        weights: of the network, trained or not
        optimizer: AdamW's two moments
        average: of the weights, where one is kept
        work: the most that activations and gradients take together
    """

    weights: int
    optimizer: int
    average: int
    work: int

    @property
    def total(self) -> int:
        return self.weights + self.optimizer + self.average + self.work

    def __str__(self) -> str:
        parts = {k: v for k, v in vars(self).items() if v}
        shown = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
        return f"{self.total / 1e9:.2f} GB ({shown})"


def step_memory(
    module: nn.Module,
    batch: Any,
    loss_of: Callable[[nn.Module, Any], Tensor],
    *,
    amp: str = "no",
    has_average: bool = False,
) -> StepMemory:
    """What a step with this batch takes at its peak.

    Args:
        module: in training mode; it is left as it is
        batch: the longest there will be; any structure of tensors that pytrees know, or tensors in
            a mapping
        loss_of: the loss () of module and batch; it may not look at the tensors' numbers
        amp: "bf16" where the step runs in it
        has_average: whether an average of the weights is kept
    """
    work = _peak_of_work(module, batch, loss_of, amp)
    return _with_weights(module, work, has_average=has_average)


def counted_memory(module: nn.Module, step: Callable[[], None]) -> StepMemory:
    """The same of a step that is really computed, where shapes depend on numbers.

    Args:
        step: forward and backward
    """
    module.zero_grad(set_to_none=True)
    with Alive() as alive:
        step()
    module.zero_grad(set_to_none=True)
    return _with_weights(module, alive.peak, has_average=False)


def _with_weights(module: nn.Module, work: int, *, has_average: bool) -> StepMemory:
    weights = sum(t.nbytes for t in _distinct([*module.parameters(), *module.buffers()]))
    trained = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    average = weights if has_average else 0
    return StepMemory(weights=weights, optimizer=2 * trained, average=average, work=work)


class _Step(nn.Module):
    """Forward and backward in one call, so that both see the weights without numbers."""

    def __init__(self, module: nn.Module, loss_of: Callable[[nn.Module, Any], Tensor], amp: str):
        super().__init__()
        self.module, self.loss_of, self.amp = module, loss_of, amp

    def forward(self, batch: Any) -> None:
        kind = next(self.module.parameters()).device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.amp == "bf16"):
            loss = self.loss_of(self.module, batch)
        loss.backward()


def _peak_of_work(
    module: nn.Module, batch: Any, loss_of: Callable[[nn.Module, Any], Tensor], amp: str
) -> int:
    step, fake = _Step(module, loss_of, amp), FakeTensorMode(allow_non_fake_inputs=True)
    tensors = {**dict(step.named_parameters()), **dict(step.named_buffers())}
    empty: Mapping[str, Tensor] = {name: fake.from_tensor(one) for name, one in tensors.items()}
    batch = tree_map_only(Tensor, fake.from_tensor, batch)
    # The caller's random numbers and the caller's gradients are none of our business.
    with torch.random.fork_rng(devices=[]), fake, Alive() as alive:
        functional_call(step, dict(empty), (batch,))
    return alive.peak


class Alive(TorchDispatchMode):
    """Adds up the storages that operations make, and takes off those that are let go.

    Attributes:
        peak: the most bytes at a time
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        held = {storage._cdata for storage in _storages((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            if storage._cdata not in held:
                self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [one.untyped_storage() for one in tree_leaves(tree) if isinstance(one, Tensor)]


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    return list({tensor.data_ptr(): tensor for tensor in tensors}.values())
