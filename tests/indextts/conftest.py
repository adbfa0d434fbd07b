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


@pytest.fixture(scope="session")
def trained(miniature: Path, tmp_path_factory: pytest.TempPathFactory):
    """What training leaves, on the miniature checkpoint: see `tests.indextts.speakers.Trained`."""
    from tests.indextts.speakers import Trained

    return Trained(miniature, tmp_path_factory.mktemp("trained"))
