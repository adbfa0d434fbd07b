"""Files of weights are told apart by what they begin with."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from ttscommon.tensors import read_tensors


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    for length in range(0, 256, 8):
        save_file({"a": torch.ones(2)}, path, metadata={"note": "x" * length})
        if path.read_bytes().startswith(b"\x80"):
            break
    assert path.read_bytes().startswith(b"\x80")
    assert torch.equal(read_tensors(path)["a"], torch.ones(2))


def test_what_torch_wrote_is_read_in_both_layouts(tmp_path):
    for name, is_zip in (("new.pt", True), ("old.pt", False)):
        torch.save({"a": torch.ones(2)}, tmp_path / name, _use_new_zipfile_serialization=is_zip)
        assert torch.equal(read_tensors(tmp_path / name)["a"], torch.ones(2))


@pytest.mark.slow
def test_a_network_is_filled_without_loading_the_compiler():
    """Drawing numbers for tensors without memory would, unless transformers has loaded it."""
    code = """
import sys; from pathlib import Path
import torch; from torch import nn; from ttscommon.tensors import build
made = lambda: nn.Sequential(nn.Embedding(2, 3), nn.Linear(3, 2))
tensors = {name: torch.ones_like(one) for name, one in made().state_dict().items()}
found = build(made, tensors, where=Path("here"))
assert all(bool((one == 1).all()) for one in found.state_dict().values())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
