"""Writing codes: the original's runs, then what must hold for any of them."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from indextts.config import DecodingConfig
from indextts.gpt.decoding import generate, used_at_the_start
from indextts.gpt.processors import draw, keep_top_k, keep_top_p, keep_typical, process
from tests.indextts.gpt_golden import CLOSE, golden
from ttscommon.errors import UserError

STOP = 41
FOLLOWED = ["greedy", "greedy_rep10", "greedy_nokv", "greedy_batch_leftpad", "greedy_batch3"]


@pytest.fixture(scope="module")
def gold():
    return golden("gpt_generate_greedy")


def config_for(gold, tag: str) -> DecodingConfig:
    run = next(run for run in gold.info["runs"] if run["tag"] == tag)
    return DecodingConfig(
        do_sample=run["do_sample"],
        num_beams=run["num_beams"],
        repetition_penalty=run.get("repetition_penalty", 1.0),
        max_mel_tokens=run["max_generate_length"],
        contiguous_positions=not run["kv_cache"],
    )


def prefix_for(gold, tag: str):
    speaker = gold.model.speaker_latent(gold[f"in.{tag}.spk_cond"])
    return gold.model.prefix(speaker, gold[f"in.{tag}.emo_vec"], gold[f"in.{tag}.text"].tolist())


def padded(written, n_codes: int) -> list[list[int]]:
    return [F.pad(w.codes, (0, n_codes - len(w.codes)), value=STOP).tolist() for w in written]


@pytest.mark.parametrize("tag", [*FOLLOWED, "beam3"])
def test_the_prefix_is_the_originals(gold, tag):
    prefix = prefix_for(gold, tag)
    torch.testing.assert_close(prefix.embeddings, gold[f"out.{tag}.inputs_embeds"], **CLOSE)
    assert prefix.mask.long().tolist() == gold[f"out.{tag}.attention_mask"][:, :-1].tolist()


@pytest.mark.parametrize("tag", [*FOLLOWED, "beam3"])
def test_codes_are_the_originals(gold, tag):
    prefix = prefix_for(gold, tag)
    written = generate(gold.model, prefix, config_for(gold, tag), [0] * len(prefix.mask))
    expected = gold[f"out.{tag}.codes"]
    assert padded(written, expected.shape[1]) == expected.tolist()


@pytest.mark.parametrize("tag", FOLLOWED)
def test_scores_of_every_step_are_the_originals(gold, tag):
    config, codes = config_for(gold, tag), gold[f"out.{tag}.codes"]
    used = used_at_the_start(gold.model, len(codes))
    logits, state = gold.model.start(prefix_for(gold, tag), contiguous=config.contiguous_positions)
    for step, chosen in enumerate(codes.unbind(1)):
        torch.testing.assert_close(logits, gold[f"out.{tag}.raw_logits"][:, step], **CLOSE)
        processed = gold[f"out.{tag}.processed_scores"][:, step]
        limit = CLOSE["atol"] * config.repetition_penalty  # it multiplies what the logits are off
        torch.testing.assert_close(process(logits, used, config), processed, atol=limit, rtol=0)
        used.scatter_(1, chosen[:, None], True)
        logits = gold.model.step(chosen, state)


def test_the_best_beams_score_is_the_originals(gold):
    [written] = generate(gold.model, prefix_for(gold, "beam3"), config_for(gold, "beam3"), [0])
    best = float(gold["out.beam3.sequences_scores"][0])
    assert written.score == pytest.approx(best, abs=CLOSE["atol"])


@pytest.mark.parametrize("texts", [[[5, 9, 13]], [[5, 9, 13, 22, 7], [8, 4], [30]]])
@settings(max_examples=10, deadline=None)
@given(codes=st.lists(st.integers(0, 39), min_size=1, max_size=12))
def test_cached_decoding_gives_what_one_pass_over_everything_gives(texts, codes):
    gold = golden("gpt_generate_greedy")
    model = gold.model
    prefix = model.prefix(gold["out.greedy.spk_latent"], gold["in.greedy.emo_vec"], texts)
    rows = torch.tensor([codes] * len(texts))
    logits, state = model.start(prefix, contiguous=True)
    stepped = [logits]
    for chosen in rows[:, :-1].unbind(1):
        stepped.append(model.step(chosen, state))
    whole = model.mel_head(model.latents(prefix, rows))
    torch.testing.assert_close(torch.stack(stepped, 1), whole, **CLOSE)


def test_the_cache_grows_past_its_first_room(gold):
    config = dataclasses.replace(gold.model.config, max_mel_tokens=300)
    torch.manual_seed(0)
    model = type(gold.model)(config).eval()
    prefix = model.prefix(gold["out.greedy.spk_latent"], gold["in.greedy.emo_vec"], [[5, 6], [7]])
    codes = torch.randint(0, 40, (2, 270))
    logits, state = model.start(prefix, contiguous=True)
    for chosen in codes[:, :-1].unbind(1):
        logits = model.step(chosen, state)
    expected = model.mel_head(model.latents(prefix, codes)[:, -1])
    torch.testing.assert_close(logits, expected.detach(), **CLOSE)


DECODINGS = {
    "greedy": DecodingConfig.greedy(repetition_penalty=3.0, max_mel_tokens=24),
    "sampling": DecodingConfig(num_beams=1, repetition_penalty=1.5, max_mel_tokens=24),
    "beams": DecodingConfig(do_sample=False, repetition_penalty=1.5, max_mel_tokens=24),
    "beam sampling": DecodingConfig(max_mel_tokens=24),
    "warm beams": DecodingConfig(
        temperature=2.0, top_k=0, top_p=1.0, repetition_penalty=1.0, max_mel_tokens=24
    ),
    "typical": DecodingConfig(num_beams=1, typical_sampling=True, max_mel_tokens=24),
}
TEXTS = [[5, 9, 13, 22, 7, 30, 31], [8, 4], [11, 12, 13, 14], [40]]


@pytest.mark.parametrize("name", DECODINGS)
def test_a_batch_of_texts_gives_what_each_text_gives_alone(gold, name):
    model, config = gold.model, DECODINGS[name]
    voice = gold["out.greedy.spk_latent"], gold["in.greedy.emo_vec"]
    seeds = [3, 14, 15, 92]
    together = generate(model, model.prefix(*voice, TEXTS), config, seeds)
    for text, seed, row in zip(TEXTS, seeds, together, strict=True):
        [alone] = generate(model, model.prefix(*voice, [text]), config, [seed])
        assert alone.codes.tolist() == row.codes.tolist()
        assert alone.is_complete == row.is_complete


@pytest.mark.parametrize("name", ["sampling", "beam sampling", "warm beams", "typical"])
def test_a_seed_repeats_and_another_one_differs(gold, name):
    voice = gold["out.greedy.spk_latent"], gold["in.greedy.emo_vec"]
    prefix = gold.model.prefix(*voice, [TEXTS[0]] * 8)
    runs = [
        [w.codes.tolist() for w in generate(gold.model, prefix, DECODINGS[name], seeds)]
        for seeds in (range(8), range(8), range(100, 108))
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len({tuple(row) for row in runs[0]}) > 1


def test_enough_beams_find_the_likeliest_of_all_sequences(gold):
    """With more beams than prefixes nothing is pruned, so the search is exhaustive."""
    config = DecodingConfig(do_sample=False, num_beams=42, repetition_penalty=1.0, max_mel_tokens=2)
    prefix = prefix_for(gold, "greedy")
    [written] = generate(gold.model, prefix, config, [0])
    logits, _ = gold.model.start(prefix)
    first = logits.log_softmax(-1)[0]
    scores = {(): float(first[STOP])}
    for code in range(41):
        logits, state = gold.model.start(prefix)
        second = first[code] + gold.model.step(torch.tensor([code]), state).log_softmax(-1)[0]
        scores |= {(code, then): float(second[then]) for then in range(41)}
        scores[(code,)] = float(second[STOP])
    best = max(scores, key=lambda codes: scores[codes])
    assert tuple(written.codes.tolist()) == best
    assert written.score == pytest.approx(scores[best], abs=1e-4)


@pytest.mark.parametrize(("length_penalty", "n_codes"), [(-1.0, 0), (1.0, 0), (2.0, 1)])
def test_the_length_penalty_counts_the_stop_as_transformers_does(gold, length_penalty, n_codes):
    model = copy.deepcopy(gold.model)
    model.mel_head.bias[STOP] += 4.4  # so that no length is far from being the best
    beams = DecodingConfig(do_sample=False, num_beams=42, repetition_penalty=1.0, max_mel_tokens=2)
    config = dataclasses.replace(beams, length_penalty=length_penalty)
    prefix = prefix_for(gold, "greedy")
    [written] = generate(model, prefix, config, [0])
    first = model.start(prefix)[0].log_softmax(-1)[0]
    scores = {(): float(first[STOP])}
    for code in range(STOP):
        _, state = model.start(prefix)
        second = first[code] + model.step(torch.tensor([code]), state).log_softmax(-1)[0]
        for then, score in enumerate((second / 2**length_penalty).tolist()):
            scores[(code,) if then == STOP else (code, then)] = score
    best = max(scores, key=lambda codes: scores[codes])
    assert tuple(written.codes.tolist()) == best
    assert len(best) == n_codes
    assert written.score == pytest.approx(scores[best], abs=1e-4)


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    n = 20_000
    chances = torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = draw(probabilities.expand(n, 4), chances)
    shares = torch.bincount(drawn[:, 0], minlength=4) / n
    torch.testing.assert_close(shares, probabilities, atol=0.015, rtol=0)
    # Without replacement: p(second = 3 | first = 0) = 0.2 / 0.5
    after_first = drawn[drawn[:, 0] == 0, 1]
    assert (after_first == 3).float().mean() == pytest.approx(0.4, abs=0.02)


@given(
    n_possible=st.integers(1, 5),
    chances=st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6),
)
def test_draws_never_repeat_and_take_the_possible_first(n_possible, chances):
    probabilities = torch.zeros(1, 9)
    probabilities[0, 2 : 2 + n_possible] = torch.rand(n_possible) * 1e-3 + 1e-6
    drawn = draw(probabilities, torch.tensor([chances], dtype=torch.float64))[0].tolist()
    assert len(set(drawn)) == 6
    assert set(drawn[:n_possible]) == set(range(2, 2 + n_possible))


def test_top_k_and_top_p_keep_what_their_papers_say():
    scores = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    assert keep_top_k(scores, 2).isfinite().tolist() == [[False, True, False, True]]
    assert keep_top_p(scores, 0.65).isfinite().tolist() == [[False, True, False, True]]
    assert keep_top_p(scores, 0.05).isfinite().tolist() == [[False, True, False, False]]
    assert keep_top_p(scores, 0.05, n_kept=2).isfinite().tolist() == [[False, True, False, True]]


def test_the_typical_filter_drops_what_surprises_too_much_or_too_little():
    scores = torch.tensor([[0.5, 0.24, 0.2, 0.05, 0.01]]).log()
    # entropy 1.20; surprises 0.69, 1.43, 1.61, 3.00, 4.61: nearest 1.43, then 1.61, then 0.69
    assert keep_typical(scores, 0.4).isfinite().tolist() == [[False, True, True, False, False]]
    assert keep_typical(scores, 0.2).isfinite().tolist() == [[False, True, False, False, False]]
    kept = keep_typical(scores, 0.2, n_kept=2).isfinite().tolist()
    assert kept == [[False, True, True, False, False]]


def test_more_codes_than_positions_are_refused(gold):
    with pytest.raises(UserError, match="positions for 40"):
        generate(gold.model, prefix_for(gold, "greedy"), DecodingConfig(), [0])


def test_a_text_that_is_too_long_is_refused(gold):
    voice = gold["out.greedy.spk_latent"], gold["in.greedy.emo_vec"]
    with pytest.raises(UserError, match="text of 31 tokens"):
        gold.model.prefix(*voice, [[5] * 31])
