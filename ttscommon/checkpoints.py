"""What a run resumes from: weights, optimizer and one integer, in a folder that is never half."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ttscommon.config import differences
from ttscommon.errors import UserError
from ttscommon.files import (
    atomic_folder,
    read_json,
    recover_folder,
    require_free_disk,
    write_json,
)
from ttscommon.sharding import shared_like, whole

FORMAT, VERSION = "ttscommon.state", 1
MOST_CHANGES = 12  # in one complaint
AGAIN = "run the same command again"


@dataclass(frozen=True)
class RunFolder:
    """Where one run writes.

    Attributes:
        state: the resume point, replaced as a whole at each save
        best: export with the best monitored metric
        final: export of the last step
        logs: `progress.jsonl`, `report.html`, samples and TensorBoard events
        resume_command: what to type to go on after a stop
        overwrite: start anew where settings or data changed, instead of refusing
    """

    state: Path
    best: Path
    final: Path
    logs: Path
    resume_command: str = AGAIN
    overwrite: bool = False

    @property
    def command(self) -> str:
        """What started the run; empty where only the person at the keyboard knows."""
        return "" if self.resume_command == AGAIN else self.resume_command


@dataclass(frozen=True)
class State:
    """One resume point, apart from its tensors.

    Attributes:
        metrics, best_metrics: of the last evaluation, and of the best
        is_due: the evaluation of this step failed, and is still to be done
    """

    step: int
    settings: dict[str, Any]
    fingerprint: str
    best_value: float | None = None
    best_step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    is_due: bool = False


@dataclass(frozen=True)
class Held:
    """The tensors of a resume point.

    Attributes:
        weights: of the modules; moments: of the optimizer
    """

    weights: dict[str, Tensor]
    moments: dict[str, Tensor]


def held_by(modules: Mapping[str, nn.Module], optimizer: Any, names: list[str]) -> Held:
    """What a resume point holds now; of weights that are shared out every process must ask for it.

    Args:
        modules: saved under their key, e.g. {"module": ..., "average": ...}
        names: one for each parameter, in the optimizer's order
    """
    weights = {
        f"{key}.{name}": whole(tensor.detach()).contiguous()
        for key, module in modules.items()
        for name, tensor in _saved_tensors(module).items()
    }
    moments = {
        f"{names[index]}|{name}": whole(torch.as_tensor(value).detach()).contiguous()
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return Held(weights, moments)


def save_state(folder: Path, state: State, held: Held) -> None:
    """Write a resume point beside its place, then rename it there.

    Raises:
        UserError: if the disk can't take it; the old resume point stays
    """
    weights, moments = held.weights, held.moments
    require_free_disk(folder, sum(t.nbytes for t in [*weights.values(), *moments.values()]))
    with atomic_folder(folder) as draft:
        save_file(weights, draft / "model.safetensors")
        save_file(moments, draft / "optimizer.safetensors")
        header = {"format": FORMAT, "version": VERSION, "versions": versions()}
        write_json(draft / "state.json", {**header, **vars(state)})


def load_state(folder: Path) -> State | None:
    """The resume point's `state.json`, or None if there is no resume point.

    Raises:
        UserError: if it is broken, or of a newer version
    """
    recover_folder(folder)
    if not folder.exists():
        return None
    data = read_json(folder / "state.json", format=FORMAT)
    if data.get("version", VERSION) > VERSION:
        what = f"a resume point of version {data['version']}, this program knows {VERSION}"
        raise UserError(what, where=folder, fix="use the newer program, or start anew: --overwrite")
    try:
        return State(**{f.name: data[f.name] for f in fields(State) if f.name in data})
    except TypeError as error:
        raise UserError(f"not a resume point: {error}", where=folder, fix="move it away") from error


def load_tensors(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: Any, names: list[str]
) -> None:
    """Put the tensors of a resume point back into modules and optimizer.

    Raises:
        UserError: if a file is truncated or holds other tensors than the modules
    """
    weights = read_tensors(folder / "model.safetensors")
    for key, module in modules.items():
        own = _saved_tensors(module)
        prefix = f"{key}."
        stored = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
        if own.keys() != stored.keys():
            strangers = sorted(own.keys() ^ stored.keys())[:3]
            raise UserError(f"resume point of another model ({', '.join(strangers)})", where=folder)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(shared_like(stored[name], tensor))
    moments = read_tensors(folder / "optimizer.safetensors")
    index_of = {name: index for index, name in enumerate(names)}
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in moments.items():
        name, field = key.rsplit("|", 1)
        index = index_of[name]
        state.setdefault(index, {})[field] = shared_like(tensor, parameters[index])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: if it is missing, truncated or no safetensors file
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError("no such file", where=path) from error
    except SafetensorError as error:
        what = f"the file is truncated or damaged ({error})"
        raise UserError(what, where=path, fix="restore it from a backup or train again") from error


def changes(state: State, settings: Mapping[str, Any], fingerprint: str) -> list[str]:
    """What differs from when the run began, one line each."""
    found = differences(state.settings, settings)
    return found if state.fingerprint == fingerprint else [*found, "the data set"]


def refuse_changes(
    state: State, settings: Mapping[str, Any], fingerprint: str, *, where: Path
) -> None:
    """Refuse to resume with other settings or other data, listing what differs.

    Raises:
        UserError: with one line for all differences
    """
    found = changes(state, settings, fingerprint)
    if found:
        if len(found) > MOST_CHANGES:
            found = [*found[:MOST_CHANGES], f"and {len(found) - MOST_CHANGES} more"]
        raise UserError(
            f"can't resume, these changed since the run began: {'; '.join(found)}",
            where=where,
            fix="use the old settings and data, or start anew with --overwrite",
        )


def fingerprint(*parts: object) -> str:
    """A short name for data: equal parts, equal name."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """What made this file."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


def _saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and buffers: frozen weights come from where they came from before."""
    kept = {name: p for name, p in module.named_parameters() if p.requires_grad}
    persistent = module.state_dict(keep_vars=True)
    return kept | {name: b for name, b in module.named_buffers() if name in persistent}
