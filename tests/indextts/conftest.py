"""What several tests of IndexTTS2 read."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature checkpoint folder, made once for all tests, which leave it unchanged."""
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("indextts2") / "miniature"
    write_miniature(folder, seed=0)
    return folder
