"""Folders that hold the golden model in either format."""

from __future__ import annotations

from pathlib import Path

import pytest

from higgs_trainer.miniature import write_miniature
from tests.higgs_trainer.folders import write_native, write_original


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    return write_original(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="session")
def native(tmp_path_factory) -> Path:
    return write_native(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> tuple[Path, Path]:
    """A model and a codec."""
    return write_miniature(tmp_path_factory.mktemp("miniature"))
