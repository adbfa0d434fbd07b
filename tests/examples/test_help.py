"""Scripts of the examples explain themselves at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = [
    *("closed_grammar/corpus", "closed_grammar/measure", "closed_grammar/whisper_base"),
    *("embedded_voice/subset", "embedded_voice/measure", "embedded_voice/export"),
    *("embedded_voice/benchmark", "embedded_voice/card", "embedded_voice/finetune"),
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_torch(script: str) -> None:
    path = str(EXAMPLES / f"{script}.py")
    code = (
        f"import runpy, sys; sys.modules['torch'] = None; sys.argv = [{path!r}, '--help']; "
        f"runpy.run_path({path!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"usage:" in done.stdout
