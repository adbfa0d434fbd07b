"""What a process says about its memory must follow what it takes and gives back."""

import numpy as np
import pytest

from ttscommon import memory

MEGABYTE = 2**20

pytestmark = pytest.mark.skipif(memory.resident() is None, reason="this system doesn't tell")


def test_a_block_of_memory_is_seen_while_it_is_held():
    before = memory.resident()
    block = np.ones(50 * MEGABYTE, np.uint8)
    assert 45 * MEGABYTE < memory.resident() - before < 80 * MEGABYTE
    del block
    assert memory.resident() - before < 20 * MEGABYTE


def test_the_peak_remembers_it_until_it_is_reset():
    block = np.ones(50 * MEGABYTE, np.uint8)
    del block
    assert memory.peak() - memory.resident() > 40 * MEGABYTE
    memory.reset_peak()
    assert memory.peak() - memory.resident() < 20 * MEGABYTE


def test_a_system_that_does_not_tell_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    monkeypatch.setattr(memory, "RESET", tmp_path)
    memory.reset_peak()
    assert memory.resident() is None
    assert memory.peak() is None
