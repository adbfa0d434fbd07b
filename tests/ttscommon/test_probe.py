"""The alignment probe finds shifted labels, leaks and tokens that nobody reads."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ttscommon.errors import UserError
from ttscommon.probe import Check, check_causality, check_entropy_floor, check_offsets, require

V, T = 16, 40
torch.manual_seed(0)
IDS = torch.randint(0, V, (2, T))
INPUTS = F.pad(IDS[:, :-1], (1, 0))
MASK = torch.ones(2, T, dtype=torch.bool)


def knows(tokens, strength: float = 5.0):
    """Logits of a model that expects these tokens."""
    return F.one_hot(tokens, V).float() * strength


def test_a_model_of_the_next_token_passes():
    check = check_offsets(knows(IDS), INPUTS, IDS, MASK)
    assert check.passed
    assert check.numbers["offset1"] < 0.2 < check.numbers["offset2"]


@pytest.mark.parametrize(
    "expected", [INPUTS, IDS.roll(-1, dims=1)], ids=["copies its input", "skips a token"]
)
def test_a_shifted_label_is_found(expected):
    assert check_offsets(knows(expected), INPUTS, IDS, MASK).passed is False


@pytest.mark.parametrize("strength", [0.0, 0.05])
def test_a_model_without_training_cannot_tell(strength):
    check = check_offsets(knows(INPUTS, strength), INPUTS, IDS, MASK)
    assert check.passed is None
    assert "chance" in str(check)


def test_padding_is_not_looked_at():
    mask = MASK.clone()
    mask[:, T // 2 :] = False
    logits = knows(IDS)
    logits[:, T // 2 :] = float("nan")
    assert check_offsets(logits, INPUTS, IDS, mask).passed


@pytest.mark.parametrize("length", [0, 10])
def test_clips_too_short_to_compare_say_nothing(length):
    mask = MASK.clone()
    mask[:, length:] = False
    assert check_offsets(knows(INPUTS), INPUTS, IDS, mask).passed is None


TABLE = torch.randn(V, V)


def reads_before(ids):
    return TABLE[F.pad(ids, (1, 0))].cumsum(dim=1)


def test_a_causal_model_passes():
    assert check_causality(reads_before, IDS, n_tokens=V).passed


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (lambda ids: TABLE[F.pad(ids, (0, 1))].cumsum(dim=1), "before the token"),
        (lambda ids: TABLE[F.pad(ids, (1, 0))].sum(dim=1, keepdim=True) + 0 * reads_before(ids),
         "before the token"),
        (lambda ids: torch.ones(*ids.shape, V), "aren't read"),
    ],
    ids=["sees its label", "sees all", "reads nothing"],
)  # fmt: skip
def test_a_leak_and_deafness_are_found(outputs, why):
    check = check_causality(outputs, IDS, n_tokens=V)
    assert check.passed is False
    assert why in check.note


def test_random_tokens_are_predicted_by_a_leak_only():
    blind = check_entropy_floor(lambda _: torch.tensor(math.log(V)), (2, T), n_tokens=V)
    leaking = check_entropy_floor(
        lambda ids: F.cross_entropy(knows(ids).transpose(1, 2), ids), (2, T), n_tokens=V
    )
    broken = check_entropy_floor(lambda _: torch.tensor(float("nan")), (2, T), n_tokens=V)
    assert (blind.passed, leaking.passed, broken.passed) == (True, False, False)


def test_training_is_refused_with_the_numbers_in_one_line(caplog):
    checks = [Check("a", None, {"x": 1}, "why"), Check("b", False, {"loss": 0.25}, "bad")]
    with pytest.raises(UserError, match=r"b: FAILED loss 0.25 \(bad\)") as caught:
        require(checks)
    assert "\n" not in str(caught.value)
    assert "a: can't tell  x 1  (why)" in caplog.text
    require([Check("a", None, {}), Check("b", True, {})])
