from __future__ import annotations

from pathlib import Path

from ttscommon.errors import UserError


def test_the_message_is_one_line_with_what_where_and_fix():
    error = UserError(
        "no transcript\nfor 3 of 40 clips", where=Path("a/b.csv"), fix="python tools/x.py"
    )
    assert str(error) == "no transcript for 3 of 40 clips [a/b.csv]. Fix: python tools/x.py"


def test_what_alone_is_enough():
    assert str(UserError("text is empty")) == "text is empty."
