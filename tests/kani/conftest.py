"""A model and a codec of random weights, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kani.miniature import write_miniature


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> tuple[Path, Path]:
    """A model and a codec."""
    return write_miniature(tmp_path_factory.mktemp("miniature"))
