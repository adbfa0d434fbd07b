"""A speaker's embedding is read behind the first id, in training as in speaking."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from kani.dataset import IGNORED, KaniPlan, LearnedClip, collate
from kani.generation import Reader, spoken, steps
from kani.projection import PROJECTION, dim_in
from kani.sampling import Sampling
from kani.speaking import invalid_frames
from kani.tasks import KaniStage
from kani.tokens import frame_positions, prompt_ids, with_place
from kani.weights import load_language_model, load_tokenizer
from tests.kani.made_up_jobs import SPACE, data_of
from tests.kani.made_up_speakers import DIM, embeddings, with_projection
from ttscommon.errors import UserError


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    return with_projection(base, tmp_path_factory.mktemp("second") / "model")


@pytest.fixture(scope="module")
def stage(folder) -> KaniStage:
    torch.set_num_threads(1)
    return KaniStage(load_language_model(folder, space=SPACE).requires_grad_(True), SPACE)


def count(ids: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(frame_positions(ids.numpy(), SPACE, 1.0))


def plain_clips(*lengths: int) -> list[torch.Tensor]:
    """Some text and then frames."""
    chance = torch.Generator().manual_seed(1)
    clips = []
    for length in lengths:
        text = torch.randint(8, 264, (6,), generator=chance)
        low = torch.from_numpy(SPACE.layer_starts).repeat(length)
        codes = low + torch.randint(0, 32, (4 * length,), generator=chance)
        clips.append(torch.cat([torch.tensor([SPACE.start_of_human]), text, codes]))
    return clips


def learned_clip(ids: torch.Tensor, embedding: torch.Tensor | None, name: str) -> LearnedClip:
    if embedding is None:
        return LearnedClip(name, ids, 0)
    return LearnedClip(name, torch.tensor(with_place(ids.tolist(), SPACE)), 0, embedding)


def learned(stage: KaniStage, batch: Any) -> tuple[float, torch.Tensor]:
    return backward(stage, stage(batch).total)


def backward(stage: KaniStage, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
    stage.zero_grad()
    loss.backward()
    gradients = [p.grad.flatten() for p in stage.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(gradients)


def by_hand(model: Any, ids: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """(T + 1, V) logits, written from the public program's description."""
    rows = model.model.embed_tokens(ids)
    vector = embedding @ model.get_parameter(PROJECTION).T
    n_text = int((ids < SPACE.audio_tokens_start).sum())
    frames = torch.arange(len(ids) - n_text) // 4
    positions = torch.cat([torch.arange(n_text + 1).float(), n_text + 1.0 + frames])
    return model(
        inputs_embeds=torch.cat([rows[:1], vector[None], rows[1:]])[None],
        position_ids=positions[None],
        attention_mask=torch.ones(1, len(ids) + 1, dtype=torch.long),
        use_cache=False,
    ).logits[0]


def test_the_projection_keeps_its_name_and_its_numbers(folder, tmp_path, caplog):
    model = load_language_model(folder, space=SPACE)
    assert not [line for line in caplog.messages if "used" in line or "UNEXPECTED" in line]
    model.save_pretrained(tmp_path / "saved")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "saved"))
    assert PROJECTION == "model.speaker_emb_projection.weight"
    assert {*after} == {*before}
    assert torch.equal(after[PROJECTION], before[PROJECTION])
    assert not model.get_parameter(PROJECTION).requires_grad


def test_a_step_learns_what_the_sequence_written_out_learns(stage):
    (ids,), embedding = plain_clips(5), embeddings(1)[0]
    batch = collate([learned_clip(ids, embedding, "a")], 0, packed=False, positions_of=count)
    assert batch.labels[0, :3].tolist() == [IGNORED, IGNORED, int(ids[1])]
    labels = torch.cat([ids[:1], torch.tensor([IGNORED]), ids[1:]])
    expected = F.cross_entropy(by_hand(stage.model, ids, embedding)[:-1], labels[1:])
    (loss, gradient), (other, others) = learned(stage, batch), backward(stage, expected)
    assert loss == pytest.approx(other, abs=1e-6)
    assert float((gradient - others).norm() / others.norm()) < 1e-5
    plain, _ = learned(stage, collate([LearnedClip("a", ids, 0)], 0, packed=False))
    assert abs(plain - loss) > 1e-4


@pytest.mark.parametrize("positions_of", [count, None])
def test_packed_clips_with_speakers_learn_what_padded_ones_learn(stage, positions_of):
    some = [
        learned_clip(ids, embedding, str(n))
        for n, (ids, embedding) in enumerate(
            zip(plain_clips(5, 2, 9, 1), [*embeddings(2), None, embeddings(3)[2]], strict=True)
        )
    ]
    (loss, gradient), (other, others) = (
        learned(
            stage,
            collate(some, SPACE.pad_token, packed=packed, positions_of=positions_of),
        )
        for packed in (False, True)
    )
    assert other == pytest.approx(loss, abs=1e-6)
    assert float((gradient - others).norm() / gradient.norm()) < 1e-5


def test_each_clip_is_read_with_its_own_embedding(stage):
    ids, voices = plain_clips(3, 6), embeddings(2)
    pair = [learned_clip(*one, "a") for one in zip(ids, voices, strict=True)]
    swapped = [learned_clip(*one, "a") for one in zip(ids, voices.flip(0), strict=True)]
    losses = [
        learned(stage, collate(clips, SPACE.pad_token, packed=True, positions_of=count))[0]
        for clips in (pair, swapped)
    ]
    assert abs(losses[0] - losses[1]) > 1e-5


@torch.no_grad()
def test_without_an_embedding_nothing_changes(stage, base):
    plain = KaniStage(load_language_model(base, space=SPACE), SPACE)
    clips = [LearnedClip(str(n), ids, 0) for n, ids in enumerate(plain_clips(4, 7))]
    for packed in (False, True):
        batch = collate(clips, SPACE.pad_token, packed=packed)
        assert torch.equal(stage.hidden(batch), plain.hidden(batch))
    readers = [Reader(one.model, SPACE, 1.0) for one in (stage, plain)]
    greedy = Sampling.greedy(max_new_tokens=14)
    found = [list(steps(one, [[SPACE.start_of_human, 9]], greedy, [0])) for one in readers]
    assert torch.equal(torch.stack(found[0]), torch.stack(found[1]))


@pytest.mark.parametrize("audio_step", [1.0, None])
def test_codes_are_those_of_a_loop_without_batches_or_memory(stage, folder, audio_step):
    tokenizer, embedding = load_tokenizer(folder), embeddings(1)[0]
    prompts = [prompt_ids(text, "en_us", tokenizer, SPACE) for text in ("Good morning.", "Hi")]
    reader = Reader(stage.model, SPACE, audio_step).speaking_as(embedding)
    found = spoken(reader, prompts, Sampling.greedy(max_new_tokens=26), [0, 0])
    without = spoken(Reader(stage.model, SPACE, audio_step), prompts,
                     Sampling.greedy(max_new_tokens=26), [0, 0])  # fmt: skip
    assert (found[0].codes != without[0].codes).any()
    for prompt, one in zip(prompts, found, strict=True):
        n = one.codes.shape[1]
        assert n == 6
        expected = greedy_by_hand(stage.model, prompt, embedding, 4 * n, audio_step)
        assert one.codes.T.flatten().tolist() == expected


@torch.no_grad()
def greedy_by_hand(model, prompt, embedding, n_codes, audio_step) -> list[int]:
    ids, codes = torch.tensor([*prompt, SPACE.start_of_ai, SPACE.start_of_speech]), []
    for step in range(n_codes):
        if audio_step is None:
            rows = model.model.embed_tokens(ids)
            vector = embedding @ model.get_parameter(PROJECTION).T
            whole = torch.cat([rows[:1], vector[None], rows[1:]])[None]
            last = model(inputs_embeds=whole, use_cache=False).logits[0, -1]
        else:
            last = by_hand(model, ids, embedding)[-1]
        layer = SPACE.layer_ids(step % 4)
        allowed = last[layer.start : layer.stop]
        assert step % 4 or step == 0 or float(allowed.max()) > float(last[SPACE.end_of_speech])
        codes.append(int(allowed.argmax()))
        ids = torch.cat([ids, torch.tensor([layer.start + codes[-1]])])
    return codes


def test_a_voice_is_read_where_frames_are_judged_too(stage):
    prompt = [SPACE.start_of_human, 1, 40, 41, SPACE.end_of_text, SPACE.end_of_human]
    reader = Reader(stage.model, SPACE, 1.0)
    seen = []

    def look(module: Any, args: Any, given: dict[str, Any]) -> None:
        seen.append(given.get("inputs_embeds"))

    handle = stage.model.model.register_forward_pre_hook(look, with_kwargs=True)
    codes = np.zeros((4, 2), dtype=np.int64)
    invalid_frames(reader, prompt, codes)
    invalid_frames(reader.speaking_as(embeddings(1)[0]), prompt, codes)
    handle.remove()
    assert seen[0] is None
    assert seen[1].shape[1] == len(prompt) + 1 + 2 + 8


def test_a_voice_that_does_not_fit_the_model_is_refused(stage, base, folder):
    assert dim_in(folder) == DIM
    with pytest.raises(UserError, match="takes no speaker embeddings"):
        dim_in(base)
    with pytest.raises(UserError, match="no such folder"):
        dim_in(base / "nowhere")
    plain: Any = SimpleNamespace(model=SimpleNamespace())
    with pytest.raises(UserError, match="takes no speaker embeddings"):
        Reader(plain, SPACE).speaking_as(embeddings(1)[0])
    with pytest.raises(UserError, match=f"has {DIM} numbers for this model, got"):
        Reader(stage.model, SPACE).speaking_as(torch.ones(DIM + 1))


def test_a_projection_of_another_width_is_refused(folder, tmp_path):
    broken = with_projection(folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors[PROJECTION] = torch.zeros(8, DIM)
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"is \[8, 16\], it must be \[64"):
        load_language_model(broken, space=SPACE)


def test_a_plan_without_embeddings_has_no_speakers(base):
    plan = KaniPlan(data_of(base).rows, SPACE, batch_size=2)
    assert not plan.has_speakers
    assert plan.batch([0, 1]).speaker_embeddings is None
