"""A miniature is written where nothing of value is."""

from __future__ import annotations

import pytest

from kani.miniature import CODEC, MODEL
from kani.weights import load_codec
from tools import make_tiny_checkpoint
from ttscommon.errors import UserError


def test_a_miniature_is_written_and_replaced_only_when_told_to(tmp_path, capsys):
    words = ["--family", "kani", "--output", str(tmp_path)]
    make_tiny_checkpoint.main(words)
    assert "5 files" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {MODEL, CODEC}
    with pytest.raises(UserError, match="exists already"):
        make_tiny_checkpoint.main(words)
    first = load_codec(tmp_path / CODEC).name
    make_tiny_checkpoint.main([*words, "--seed", "1", "--overwrite"])
    assert load_codec(tmp_path / CODEC).name != first


def test_a_real_model_is_never_replaced(tmp_path):
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / "config.json").write_text('{"model_type": "lfm2"}', encoding="utf-8")
    words = ["--family", "kani", "--output", str(tmp_path), "--overwrite"]
    with pytest.raises(UserError, match="something else than a miniature"):
        make_tiny_checkpoint.main(words)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]
