"""A model and a codec of random weights, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kani.miniature import write_miniature
from tests.kani.made_up_jobs import write_base


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> tuple[Path, Path]:
    """A model and a codec."""
    return write_miniature(tmp_path_factory.mktemp("miniature"))


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A model of few ids."""
    return write_base(tmp_path_factory.mktemp("base") / "model")
