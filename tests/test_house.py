"""The rules of the house that a machine can check: arrows, doors, sizes, words."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {"indextts", "lewm", "higgs_trainer", "kani"}
PACKAGES = ["ttscommon", *sorted(FAMILIES), "tools"]
MAY_IMPORT = {
    "ttscommon": {"ttscommon"},
    "tools": {"tools", "ttscommon", *FAMILIES},
    **{family: {family, "ttscommon"} for family in FAMILIES},
}
LIGHT = ["ttscommon.errors", "ttscommon.config", "ttscommon.cli", "ttscommon.workspace"]
LIGHT += ["ttscommon.manifest", "ttscommon.catalogue", "ttscommon.downloads", "lewm.config"]
LIGHT += ["indextts.config", "indextts.checkpoint"]
MAX_FILE, MAX_FUNCTION = 400, 60
NOT_OURS = {
    ".git",
    ".venv",
    ".uv",
    "__pycache__",
    "training",
    "checkpoints",
    "dist",
    "node_modules",
}
NOT_OURS |= {".pytest_cache", ".ruff_cache", ".hypothesis"}
# Spelled in pieces, so that this file doesn't find itself.
MACHINE_WORDS = re.compile(
    "|".join(
        ["/" + place + "/" for place in ("work", "tmp", "root", "home", "farm")]
        + ["pypi" + r"\.org", "python" + "hosted", "deb" + r"\.debian", "npm" + r"js\.org"]
    )
)


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Files of the project (all, or those with one of the suffixes), sorted."""
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT / under):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        found += [Path(folder, name) for name in names]
    return sorted(path for path in found if not suffixes or path.suffix in suffixes)


def sources(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in files(".py", under=package):
            yield path, parsed(path)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if isinstance(node, (ast.stmt, ast.expr)) else ""
    return f"{path.relative_to(ROOT)}{line}"


def imports(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Modules a file names in its imports, at any depth, and where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Called names as written, `print` or `sys.exit`, and where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield ast.unparse(node.func), node


def test_every_arrow_points_down():
    wrong = [
        f"{shown(path, node)} imports {name}"
        for package in PACKAGES
        for path, tree in sources(package)
        for name, node in imports(tree)
        if name.split(".")[0] in {*PACKAGES, "tests", "examples"} - MAY_IMPORT[package]
    ]
    assert wrong == []


def test_no_import_is_relative():
    wrong = [
        shown(path, node)
        for path, tree in sources(*PACKAGES, "tests", "examples")
        for name, node in imports(tree)
        if name.startswith(".")
    ]
    assert wrong == []


def test_only_tools_and_the_cli_read_the_command_line():
    wrong = [
        shown(path, node)
        for path, tree in sources("ttscommon", *FAMILIES)
        for name, node in imports(tree)
        if name == "argparse" and path != ROOT / "ttscommon/cli.py"
    ]
    assert wrong == []


def test_packages_never_print():
    wrong = [
        shown(path, node)
        for path, tree in sources("ttscommon", *FAMILIES)
        for name, node in calls(tree)
        if name in {"print", "pprint.pprint"} and path != ROOT / "ttscommon/report.py"
    ]
    assert wrong == []


def test_only_the_cli_ends_the_program():
    wrong = [
        shown(path, node)
        for path, tree in sources(*PACKAGES)
        for name, node in calls(tree)
        if name in {"sys.exit", "exit", "quit", "os._exit", "SystemExit"}
        and path != ROOT / "ttscommon/cli.py"
    ]
    assert wrong == []


def test_a_broad_except_says_why_on_its_line():
    wrong = []
    for path, tree in sources(*PACKAGES):
        lines = path.read_text(encoding="utf-8").split("\n")
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else None
            has_reason = caught == "Exception" and "#" in lines[node.lineno - 1]
            if caught in {None, "Exception", "BaseException"} and not has_reason:
                wrong.append(f"{shown(path)}:{node.lineno}")
    assert wrong == []


def test_what_help_needs_never_imports_torch():
    blocked = "import sys; sys.modules['torch'] = None; "  # makes `import torch` an ImportError
    command = blocked + "; ".join(f"import {name}" for name in LIGHT)
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_file_is_longer_than_a_sitting():
    sizes = {shown(path): path.read_bytes().count(b"\n") for path in files(".py")}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE} == {}


def test_no_function_is_longer_than_a_page():
    long = [
        f"{shown(path, node)} {node.name}"
        for path, tree in sources(*PACKAGES, "examples")
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION
    ]
    assert long == []


@pytest.mark.parametrize("name", ["utils", "helpers", "misc", "common"])
def test_no_module_is_a_drawer_for_everything(name):
    allowed = ROOT / "indextts" / "utils"  # the guides import from it
    found = [path for path in files(".py") if path.stem == name and allowed not in path.parents]
    assert found == []


def test_no_file_names_a_machine_or_a_registry():
    wrong = []
    for path in files():
        if path.name == "uv.lock" or b"\0" in path.read_bytes()[:4096]:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.split("\n"), 1):
            if MACHINE_WORDS.search(line):
                wrong.append(f"{shown(path)}:{number}: {line.strip()[:80]}")
    assert wrong == []
