"""What the doctor says about a whole checkpoint folder."""

from __future__ import annotations

from tools import doctor


def test_a_whole_checkpoint_can_run_and_every_tensor_was_looked_at(miniature, capsys):
    doctor.main(["indextts2", "--checkpoint-root", str(miniature)])
    printed = capsys.readouterr().out
    assert f"every tensor is right in {miniature}" in printed
    assert "speaks (infer.py)" in printed
