"""Files of tensors; see `ttscommon.tensors`."""

from ttscommon.tensors import AGAIN, build, digest, part_of, read_tensors, require_equal

__all__ = ["AGAIN", "build", "digest", "part_of", "read_tensors", "require_equal"]
