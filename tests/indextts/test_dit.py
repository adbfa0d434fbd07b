"""The flow's estimator must give the original's velocities."""

import pytest
import torch

from indextts.s2mel.config import S2MelConfig
from indextts.s2mel.dit import DiT
from indextts.s2mel.wavenet import reflect
from tests.indextts.acoustic_golden import furthest, golden


@pytest.fixture(scope="module")
def estimator():
    data = golden("dit_forward")
    made = DiT(S2MelConfig.from_official(data.settings["config"], (24, 28)).dit).eval()
    made.load_state_dict(data.weights())
    return made.requires_grad_(False)


def inputs(case):
    data = golden("dit_forward")
    return [data[f"in.{name}{case}"] for name in ("x", "prompt_x", "x_lens", "t", "style", "cond")]


@pytest.mark.parametrize("case", [0, 1])
def test_velocities_equal_the_originals_step_by_step(estimator, case):
    data, heard = golden("dit_forward"), {}
    parts = {"transformer": estimator.transformer, "wavenet": estimator.wavenet}
    parts["t_emb"] = estimator.t_embedder
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: heard.update({name: out}))
        for name, part in parts.items()
    ]
    velocity = estimator(*inputs(case))
    for hook in hooks:
        hook.remove()
    for name, value in heard.items():
        assert furthest(value, data[f"out.{name}{case}"]) < 2e-5, name
    assert furthest(velocity, data[f"out.y{case}"]) < 2e-5


def test_masked_content_gives_the_originals_velocity(estimator):
    velocity = estimator(*inputs(0), mask_content=True)
    assert furthest(velocity, golden("dit_forward")["out.y0_content_masked"]) < 2e-5


def test_rows_with_their_own_ends_are_what_they_are_alone(estimator):
    x, prompt, lengths, time, style, condition = inputs(1)
    together = estimator(x, prompt, lengths, time, style, condition, own_ends=True)
    for row, n in enumerate(lengths.tolist()):
        alone = [part[row : row + 1] for part in (x[..., :n], prompt[..., :n])]
        rest = [part[row : row + 1] for part in (time, style, condition[:, :n])]
        velocity = estimator(*alone, None, *rest)
        assert furthest(together[row : row + 1, :, :n], velocity) < 1e-5


def test_each_row_is_mirrored_at_its_own_end():
    x = torch.tensor([[[1.0, 2, 3, 4, 5]], [[1, 2, 3, 0, 0]]])
    rows = reflect(x, 2, 2, torch.tensor([5, 3])).squeeze(1)
    assert rows[0].tolist() == [3, 2, 1, 2, 3, 4, 5, 4, 3]
    assert rows[1, :7].tolist() == [3, 2, 1, 2, 3, 2, 1]


def test_a_row_too_short_for_a_mirror_is_lengthened_by_zeros():
    x = torch.tensor([[[1.0, 2]]])
    assert reflect(x, 2, 2).tolist() == [[[0, 2, 1, 2, 0, 2]]]
    assert reflect(x, 2, 2, torch.tensor([2])).tolist()[0][0][:6] == [0, 2, 1, 2, 0, 2]


def test_more_frames_than_positions_are_refused(estimator):
    long = torch.zeros(1, 12, 16_385)
    with pytest.raises(ValueError, match="16384 positions"):
        estimator(long, long, None, torch.zeros(1), torch.zeros(1, 10), torch.zeros(1, 16_385, 20))
