"""Folders that hold the golden model in either format."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.higgs_trainer.folders import write_native, write_original


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    return write_original(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="session")
def native(tmp_path_factory) -> Path:
    return write_native(tmp_path_factory.mktemp("native"))
