"""Files of tensors: read them without running anything, and fill a network with exactly them."""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ttscommon.errors import UserError

Module = TypeVar("Module", bound=nn.Module)

ZIP, PICKLE, LFS_POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"
AGAIN = "delete it and fetch it again"
DRAWN = {Tensor.normal_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
MOST_NAMES = 3  # of each kind in a complaint
BROKEN = (
    *(RuntimeError, EOFError, OSError, ValueError),
    *(KeyError, IndexError, AttributeError, TypeError),
)


def read_tensors(path: Path, *, mmap: bool = True, fix: str = AGAIN) -> dict[str, Tensor]:
    """All tensors of a safetensors or torch file, by name, on the CPU.

    Nothing but tensors and plain values is ever unpickled. Names of nested dictionaries are joined
    by dots; whatever isn't a tensor is left out. A file that is a single tensor has the name "".

    Args:
        mmap: leave the numbers in the file until they are used
        fix: what to do about a file that is truncated

    Raises:
        UserError: if the file is missing, truncated, or no such file
    """
    if not path.is_file():
        raise UserError("no such file of weights", where=path)
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start.startswith(LFS_POINTER):
        raise UserError("a git-lfs pointer instead of the file", where=path, fix="git lfs pull")
    if start.startswith((ZIP, PICKLE)) and not _is_safetensors(start):
        # What torch wrote before version 1.6 isn't laid out to be mapped.
        data = _read_torch(path, mmap=mmap and start.startswith(ZIP), fix=fix)
        return dict(_flattened(data, ""))
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, *BROKEN) as error:
        raise UserError("truncated, or no file of weights", where=path, fix=fix) from error


def _is_safetensors(start: bytes) -> bool:
    """Whether a header's length in 8 bytes and its bracket begin a file; 0x80 may be the first."""
    return start[4:9] == b"\0\0\0\0{"


class _NothingDrawn(TorchFunctionMode):
    """Leaves out random numbers, which nobody looks at where tensors have no memory.

    To draw them there, torch loads its compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def build(
    make: Callable[[], Module],
    tensors: Mapping[str, Tensor],
    *,
    where: Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    fix: str = "the weights and the configuration must come from the same release",
) -> Module:
    """A network that consists of these tensors, in eval mode and without gradients.

    It is made without memory of its own and takes the tensors over, so that nothing is in memory
    twice. Weight norm may be apart or folded.

    Args:
        make: builds the network
        tensors: names and shapes as its `state_dict` has them
        where: the file, for complaints
        dtype: of all numbers with a fraction; float32 by default

    Raises:
        UserError: with the tensors that are missing, unexpected, or of another shape
    """
    with torch.device("meta"), _NothingDrawn():
        module = make()
    require_equal(tensors, expected_in(module, tensors), where=where, fix=fix)
    module.load_state_dict(tensors, strict=True, assign=True)
    _convert(module, dtype or torch.float32, torch.device(device))
    return module.eval().requires_grad_(False)


def expected_in(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes a file of `module` has; weight norm as `tensors` has it, apart or folded."""
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    for key in [key for key in shapes if key.endswith("weight_v")]:
        folded = key.removesuffix("_v")
        if folded in tensors and key not in tensors:
            shapes[folded] = shapes.pop(key)
            del shapes[folded + "_g"]
    return shapes


def require_equal(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], *, where: Path, fix: str
) -> None:
    """Refuse tensors whose names or shapes aren't the expected ones.

    Raises:
        UserError: with how many are wrong in which way, and the first of them
    """
    wrong = {
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [key for key in tensors if key not in expected],
        "of another shape": [
            f"{key} {list(tensors[key].shape)} instead of {list(shape)}"
            for key, shape in expected.items()
            if key in tensors and tuple(tensors[key].shape) != shape
        ],
    }
    complaints = [f"{len(names)} {kind}: {_first(names)}" for kind, names in wrong.items() if names]
    if complaints:
        raise UserError(f"tensors don't fit; {'; '.join(complaints)}", where=where, fix=fix)


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with `prefix`, without it; all of them if none does."""
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return found or dict(tensors)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, and the CRC-32 of every tensor as float32.

    The CRC sees every byte, and is several times as fast as SHA-256 over gigabytes.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        numbers = state[name].detach().float().cpu().contiguous().numpy()
        entry = [name, list(numbers.shape), zlib.crc32(numbers.data)]
        found.update(json.dumps(entry).encode())
    return found.hexdigest()


def _read_torch(path: Path, *, mmap: bool, fix: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            what = "holds Python objects besides tensors, which could run code; not read"
            safe = "take the official file, or save it again with tensors only"
            raise UserError(what, where=path, fix=safe) from error
        raise UserError("truncated, or no file of weights", where=path, fix=fix) from error
    except BROKEN as error:
        raise UserError("truncated, or no file of weights", where=path, fix=fix) from error


def _flattened(data: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(data, Tensor):
        yield prefix, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _flattened(value, f"{prefix}.{key}" if prefix else str(key))


def _convert(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Move tensor by tensor, so that at most one is there twice."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(_converted(parameter, dtype, device)))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, _converted(buffer, dtype, device))


def _converted(value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    moved = value.detach().to(device, dtype if value.is_floating_point() else None)
    return moved.contiguous()  # stored turned round, laid out as the network reads it


def _first(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
