"""Is this machine fit for the work? Findings that say what is there, what is missing and the cure.

Nothing is changed and no network is asked. What isn't in the standard library is imported where it
is used, because it may be what is missing.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ttscommon.catalogue import Family
from ttscommon.downloads import Hub, Listing, check, make_plan
from ttscommon.errors import UserError
from ttscommon.outputs import require_writable

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SETUP = "make setup"
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
MATRIX_SIZE, TOLERANCE = 64, 0.02  # of the largest result; bf16 rounds to 1/256
GB = 10**9
SCARCE_DISK, LITTLE_DISK = GB, 10 * GB  # a checkpoint of IndexTTS2 takes several GB
SCARCE_MEMORY, LITTLE_MEMORY = 2 * GB, 6 * GB
CGROUP = Path("/sys/fs/cgroup")
# Of a container: folder, the most it may take, and what it takes with the cache of files.
CONTAINERS = (
    ("", "memory.max", "memory.current"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
# Command -> what goes without it. None of them is needed for the plain way.
PROGRAMS = {
    "ffmpeg": "only needed to convert .m4a, .mp4, .aac, .wma, .webm and .amr",
    "espeak-ng": "only needed by LeWM's --text-form ipa",
    "c++": "only needed by --compile",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        status: "wrong" keeps something needed from working, a "note" doesn't
        fix: a command to type or a change to make
    """

    area: str
    name: str
    status: Literal["ok", "note", "wrong"]
    what: str
    fix: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_versions(project: str, declaration: Path | None = None) -> Iterator[Finding]:
    """Python and every required package, against the ranges that the installed project states.

    Args:
        declaration: the clone's pyproject.toml, for what was added to it after the setup
    """
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        about = importlib.metadata.metadata(project)
    except importlib.metadata.PackageNotFoundError:
        yield Finding("versions", project, "wrong", "isn't installed in this python", SETUP)
        return
    stated = about["Requires-Python"] or ""
    version = platform.python_version()
    is_fit = SpecifierSet(stated).contains(version, prereleases=True)
    yield Finding("versions", "python", "ok" if is_fit else "wrong", f"{version}, needs {stated}")
    lines = [*_declared(declaration), *(importlib.metadata.requires(project) or [])]
    requirements = {(r.name, str(r.marker)): r for r in map(Requirement, lines)}
    found = [finding for finding in map(_requirement, requirements.values()) if finding]
    n_right = sum(finding.status == "ok" for finding in found)
    yield Finding("versions", "packages", "ok", f"{n_right} within the supported ranges")
    yield from (finding for finding in found if finding.status != "ok")


def _requirement(requirement: Requirement) -> Finding | None:
    """None for what another system or python needs."""
    is_optional = requirement.marker is not None and "extra" in str(requirement.marker)
    if requirement.marker is not None and not is_optional and not requirement.marker.evaluate():
        return None
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        if is_optional:
            extra = str(requirement.marker).rpartition("==")[2].strip(" \"'")
            fix = f"uv sync --inexact --extra {extra}"
            return Finding("versions", requirement.name, "note", "optional, not installed", fix)
        return Finding("versions", requirement.name, "wrong", "not installed", SETUP)
    if requirement.specifier.contains(version, prereleases=True):
        return Finding("versions", requirement.name, "ok", version)
    what = f"{version} is outside the supported range {requirement.specifier}"
    return Finding("versions", requirement.name, "wrong", what, SETUP)


def _declared(path: Path | None) -> list[str]:
    if path is None or not path.is_file():
        return []
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]


def check_devices() -> Iterator[Finding]:
    """Every device torch sees, with a real matrix product in each precision."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a shared library that doesn't fit is an OSError
        yield Finding("devices", "torch", "wrong", f"cannot be imported: {error}", SETUP)
        return
    yield _device(torch.device("cpu"), f"{torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.device("cuda", index)
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        memory = f"{free / GB:.1f} of {total / GB:.1f} GB free"
        yield _device(device, f"{name}, {memory}")
    if torch.backends.mps.is_available():
        yield _device(torch.device("mps"), "Apple GPU")
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        what = f"an NVIDIA driver is here, but torch (for CUDA {torch.version.cuda}) can't use it"
        yield Finding("devices", "cuda", "note", what, "update the driver, then: " + SETUP)
    elif not torch.cuda.is_available() and not torch.backends.mps.is_available():
        yield Finding("devices", "gpu", "note", "none; everything runs on the CPU, training slowly")


def _device(device: Any, about: str) -> Finding:
    trouble = {name: matmul_trouble(device, name) for name in PRECISIONS}
    works = [name for name, what in trouble.items() if what is None]
    fails = [f"{name} doesn't ({what})" for name, what in trouble.items() if what is not None]
    what = f"{about}; {', '.join(works) or 'no precision'} work"
    status = "wrong" if trouble["fp32"] else "note" if fails else "ok"
    return Finding("devices", str(device), status, "; ".join([what, *fails]))


def matmul_trouble(device: Any, precision: str) -> str | None:
    """What is wrong with a small matrix product on `device`; None if it comes out right."""
    import torch

    dtype = getattr(torch, PRECISIONS[precision])
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, MATRIX_SIZE, MATRIX_SIZE, generator=generator).sub(0.5).to(dtype)
    expected = left.double() @ right.double()
    try:
        product = (left.to(device) @ right.to(device)).cpu().double()
    except RuntimeError as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0][:100]
    worst = float((product - expected).abs().max() / expected.abs().max())
    return None if worst <= TOLERANCE else f"off by {worst:.0%}"


def check_room(folders: Iterable[Path]) -> Iterator[Finding]:
    """Memory, and for each folder free disk and the right to write, existing or not."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in _containers():
        total, free = min(total, limit), min(free, max(0, limit - used))
    what = f"{free / GB:.1f} of {total / GB:.1f} GB free"
    yield _room("memory", free, SCARCE_MEMORY, LITTLE_MEMORY, what)
    for folder in folders:
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
        try:
            require_writable(folder / "doctor")
        except UserError as error:
            yield Finding("room", str(folder), "wrong", error.what, "choose another folder")
            continue
        what = f"{free / GB:.1f} GB free, may be written to"
        yield _room(str(folder), free, SCARCE_DISK, LITTLE_DISK, what)


def _room(name: str, free: int, scarce: int, little: int, what: str) -> Finding:
    status = "wrong" if free < scarce else "note" if free < little else "ok"
    fix = None if status == "ok" else f"{little / GB:.0f} GB are comfortable"
    return Finding("room", name, status, what, fix)


def _containers() -> Iterator[tuple[int, int]]:
    """What a container may take of the memory, and takes; without files that can be read again."""
    for folder, *names in CONTAINERS:
        with suppress(OSError, ValueError):  # there is none, or it knows no limit ("max")
            limit, used = (int((CGROUP / folder / n).read_text(encoding="ascii")) for n in names)
            statistics = (CGROUP / folder / "memory.stat").read_text(encoding="ascii").split()
            by_name = dict(zip(statistics[::2], map(int, statistics[1::2]), strict=True))
            cached = by_name.get("total_inactive_file", by_name.get("inactive_file", 0))
            yield limit, used - cached


def check_programs() -> Iterator[Finding]:
    """Commands of others that some ways of working call."""
    for name, use in PROGRAMS.items():
        place = shutil.which(name)
        if place is not None:
            yield Finding("programs", name, "ok", "here")
        else:
            package = "g++" if name == "c++" else name
            fix = f"install the package {package}"
            yield Finding("programs", name, "note", f"not here; {use}", fix)


class _Unasked(Hub):
    """Stands for the hub where it isn't to be asked."""

    def listing(self, repo: str, revision: str | None = None) -> Listing:
        raise ConnectionError(f"{repo} wasn't asked for {revision or 'its newest files'}")


def check_checkpoint(
    family: Family, folder: Path, *, optional: Sequence[str] = (), reads: bool = False
) -> Finding:
    """Whether a system's published files are in `folder`, and whole.

    Args:
        optional: patterns of files that some of its programs do without
        reads: compare checksums, not only sizes
    """
    fix = f"python tools/download_checkpoints.py {family.name}"
    plan = make_plan(family, folder, _Unasked())
    try:
        found = list(check(plan, reads=reads))
    except UserError as error:
        return Finding("checkpoints", family.name, "wrong", str(error), fix)
    here = [file for file, _, _ in found if file.is_here]
    if not here:
        return Finding("checkpoints", family.name, "note", f"not in {folder}", fix)
    wrong = [(file.name, what) for file, is_right, what in found if not is_right]
    left_out = [name for name, _ in wrong if any(fnmatch(name, p) for p in optional)]
    broken = [f"{name}: {what}" for name, what in wrong if name not in left_out]
    if broken:
        if any(file.is_here and not is_right for file, is_right, _ in found):
            fix += " --overwrite"
        return Finding("checkpoints", family.name, "wrong", "; ".join(broken), fix)
    how = "as published" if reads else "sizes as noted at the download"
    what = f"{len(here)} files in {folder}, {how}"
    if left_out:
        return Finding(
            "checkpoints", family.name, "note", f"{what}; without {', '.join(left_out)}", fix
        )
    return Finding("checkpoints", family.name, "ok", what)
