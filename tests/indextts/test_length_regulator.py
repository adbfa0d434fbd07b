"""Conditions must be the original's, stretched or shrunk."""

import pytest
import torch

from indextts.s2mel.config import LengthRegulatorConfig
from indextts.s2mel.length_regulator import LengthRegulator
from tests.indextts.acoustic_golden import furthest, golden


@pytest.fixture(scope="module")
def regulator():
    data = golden("length_regulator")
    names = ("channels", "in_channels", "content_codebook_size")
    config = LengthRegulatorConfig(**{key: data.settings["config"][key] for key in names})
    made = LengthRegulator(config).eval()
    made.load_state_dict(data.weights())
    return made.requires_grad_(False)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_conditions_equal_the_originals(regulator, case):
    data = golden("length_regulator")
    lengths = data[f"in.ylens{case}"]
    assert torch.equal(lengths, data[f"out.olens{case}"])
    conditions = regulator(data[f"in.x{case}"], lengths)
    assert furthest(conditions, data[f"out.y{case}"]) < 2e-5


def test_frames_beyond_a_rows_length_are_zero(regulator):
    data = golden("length_regulator")
    conditions = regulator(data["in.x0"], torch.tensor([40, 51]))
    assert not conditions[0, 40:].any()
    assert conditions[0, 39].any()
    assert conditions[1, 50].any()
