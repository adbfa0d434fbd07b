"""Files of weights are told apart by what they begin with."""

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
