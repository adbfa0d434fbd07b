"""Which conditions there are, each by a name of its own."""

from __future__ import annotations

import pytest

from indextts.pattern_ways import ways_to_speak
from ttscommon.errors import UserError


def test_strengths_given_twice_count_once():
    found = ways_to_speak(has_adapter=False, strengths=[0.5, 1.0, 0.5, 0.0, 1.5])
    assert [one.name for one in found] == ["B0", "B1", "P", "P0", "Pr", "P@0.5", "P@1.5"]
    assert found[-1].scale == 1.5


@pytest.mark.parametrize("strengths", [(0.1234567, 0.12345671), (1.00000001,)])
def test_strengths_that_would_share_a_folder_are_refused(strengths):
    with pytest.raises(UserError, match="are both called LP@"):
        ways_to_speak(has_adapter=True, strengths=strengths)


def test_an_adapter_without_a_pattern_is_a_condition_of_its_own():
    found = {one.name: one for one in ways_to_speak(has_adapter=True, has_lora=True)}
    assert [name for name, one in found.items() if one.adapter == "alone"] == ["L"]
    assert found["L"].way == found["B1"].way == "none"
    assert [name for name, one in found.items() if one.is_hesitant] == ["B1"]
    assert {one.adapter for name, one in found.items() if "LP" in name} == {"around"}
