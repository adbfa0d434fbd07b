"""Weights shared out among processes (FSDP2), for a network that is too large for one card.

`accelerate launch` with an FSDP configuration asks for it. Every process then holds a share of each
weight; a part's weights are put together just before the part computes, and let go afterwards. What
is trained is the same: files hold whole tensors, so that a run goes on with any number of
processes, with or without this.

torch's `fully_shard` is applied here, not by accelerate: the loop must know the parameters that its
optimizer steps and its resume points hold, and parts that are called beside `forward` must work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ttscommon.errors import UserError
from ttscommon.launching import is_sharding_asked

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ttscommon.task import FitConfig


@runtime_checkable
class Shardable(Protocol):
    """A task's module whose weights can be shared out.

    Attributes:
        entrances: methods beside `forward` by which it computes
    """

    entrances: tuple[str, ...]

    def shards(self) -> list[nn.Module]:
        """Parts that hold all large weights between them, and use theirs in their `forward`."""
        ...


def placed(module: nn.Module, device: torch.device, config: FitConfig) -> nn.Module:
    """The network on `device`; if it is to be shared out, only this process's share of each weight.

    All processes have the same network before. Its parts move one after the other, so that the
    device never holds the whole.

    Raises:
        UserError: if the network doesn't say how, or the run wants what can't be done with shares
    """
    if not is_sharding_asked():
        return module.to(device)
    if not isinstance(module, Shardable):
        what = f"'{config.title}' is small enough for every card, and isn't shared out"
        raise UserError(what, fix="accelerate launch --config_file configs/accelerate/ddp.yaml")
    if config.ema_decay or config.compile:
        what = "no averaged weights and no compilation where weights are shared out"
        raise UserError(what, fix="leave these settings out, or launch without FSDP")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in module.shards():
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    fully_shard(module, mesh=mesh)
    for part in module.modules():
        if isinstance(part, FSDPModule):  # gloo can't average; both divide the sum by processes
            part.set_force_sum_reduction_for_comms(True)
    for name in module.entrances:
        register_fsdp_forward_method(module, name)
    return module


def is_shared(module: Any) -> bool:
    return hasattr(module, "set_requires_gradient_sync")  # saves the import


def prepared(accelerator: Accelerator, module: nn.Module, optimizer: Any) -> tuple[Any, Any]:
    """Both as the loop uses them, in the precision and with the processes of `accelerator`."""
    if not is_shared(module):
        return accelerator.prepare(module, optimizer)
    module.forward = accelerator.autocast()(module.forward)
    return module, optimizer


@contextlib.contextmanager
def gradients_kept(accelerator: Accelerator, model: Any) -> Iterator[None]:
    """Accumulate gradients in each process, to be added up with those of the next batch."""
    if not is_shared(model):
        with accelerator.no_sync(model):
            yield
        return
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def reached_by_gradients(accelerator: Accelerator, module: nn.Module) -> set[str]:
    """Names of the tensors whose gradient isn't zero everywhere."""
    grads = {name: one.grad for name, one in module.named_parameters() if one.requires_grad}
    reached = torch.tensor(
        [grad is not None and bool((_local(grad) != 0).any()) for grad in grads.values()]
    )
    if is_shared(module):  # what isn't zero may be in another process's share
        reached = accelerator.reduce(reached.float().to(accelerator.device), "sum")
        assert isinstance(reached, Tensor)
    return {name for name, is_so in zip(grads, reached.tolist(), strict=True) if is_so}


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together; every process must ask for it."""
    return tensor.full_tensor() if _is_share(tensor) else tensor  # type: ignore[attr-defined]


def shared_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, shared out as `other` is; every process must have the same."""
    if not _is_share(other) or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    placed = tensor.to(device=other.device)
    return distribute_tensor(placed, other.device_mesh, other.placements, src_data_rank=None)


@contextlib.contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Let `module` hold what is trained as whole tensors on the CPU for the block, to be saved.

    Every process must enter. What is frozen stays shared out.
    """
    if not is_shared(module):
        yield
        return
    held: list[tuple[nn.Module, str, nn.Parameter]] = []
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.requires_grad:
                held.append((part, name, parameter))
                part._parameters[name] = nn.Parameter(whole(parameter.detach()).cpu())
    try:
        yield
    finally:
        for part, name, parameter in held:
            part._parameters[name] = parameter


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if _is_share(tensor) else tensor  # type: ignore[attr-defined]


def _is_share(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # saves the import of DTensor
