"""Generation: a row's latents depend on its own request and on nothing else."""

import numpy as np
import pytest
import torch

from lewm.alignment import alignment_map, measure_alignment
from lewm.decoding import encode_texts
from lewm.generation import GenerationSettings, Request, generate, row_for
from lewm.static_decoding import StaticDecoder
from lewm.weights import CheckpointInfo
from tests.lewm.random_voice import INFO, random_voice
from ttscommon.errors import UserError

TEXTS = ("hello there", "hm", "what a long way to go", "no, not now", "yes")
# Among the stop probabilities of the random network, so that some rows stop and some run away.
SETTINGS = GenerationSettings(stop_threshold=0.7)


def speak(model, texts=TEXTS, settings=SETTINGS, info=INFO, **kwargs):
    requests = [Request(text=text, seed=seed) for seed, text in enumerate(texts)]
    return generate(model, info, requests, settings, **kwargs)


def one_by_one(model, settings=SETTINGS, texts=TEXTS):
    requests = [Request(text=text, seed=seed) for seed, text in enumerate(texts)]
    return [generate(model, INFO, [request], settings)[0] for request in requests]


def assert_same(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.ran_away == b.ran_away
        torch.testing.assert_close(a.latents, b.latents, atol=tolerance, rtol=0)


@pytest.fixture(scope="module", params=["mse", "flow"])
def model(request):
    return random_voice(head=request.param)


def test_a_batch_says_what_each_text_alone_would(model):
    alone = one_by_one(model)
    assert {g.ran_away for g in alone} == {True, False}  # or this test would prove little
    assert len({len(g.latents) for g in alone}) > 2
    assert_same(speak(model), alone)


def test_rows_that_enter_a_running_batch_say_what_they_would_alone(model):
    settings = GenerationSettings(stop_threshold=0.7, batch_size=2)
    assert_same(speak(model, settings=settings), one_by_one(model))


def test_a_long_row_may_end_among_many_that_came_later():
    model = random_voice()
    texts = ["twenty bytes of text", *["no" * (2 + i % 3) for i in range(100)]]
    settings = GenerationSettings(stop_threshold=1.0, batch_size=16)
    spoken = speak(model, texts, settings)
    assert_same(spoken[:3], one_by_one(model, settings, texts[:3]))


def test_fixed_shapes_say_the_same(model):
    decoder = StaticDecoder(model)
    settings = GenerationSettings(stop_threshold=0.7, batch_size=3)
    assert_same(speak(model, settings=settings, run=decoder.run), one_by_one(model))
    # And again through the loops that were built for the first call.
    assert_same(speak(model, settings=settings, run=decoder.run), one_by_one(model))


def test_the_same_seed_gives_the_same_bits(model):
    for a, b in zip(speak(model), speak(model), strict=True):
        assert torch.equal(a.latents, b.latents)


def test_another_seed_changes_the_flow_head_alone():
    requests = [Request(text="hello there", seed=seed) for seed in (0, 1)]
    settings = GenerationSettings(stop_threshold=1.0)
    for head, is_same in (("mse", True), ("flow", False)):
        a, b = generate(random_voice(head=head), INFO, requests, settings)
        assert torch.allclose(a.latents, b.latents, atol=1e-5) == is_same


def test_temperature_zero_takes_the_noise_away():
    requests = [Request(text="hello there", seed=seed) for seed in (0, 1)]
    settings = GenerationSettings(stop_threshold=1.0, temperature=0.0)
    a, b = generate(random_voice(head="flow"), INFO, requests, settings)
    torch.testing.assert_close(a.latents, b.latents, atol=1e-5, rtol=0)


def test_rows_end_at_the_threshold_but_not_before_the_minimum():
    model = random_voice()
    eager = speak(model, settings=GenerationSettings(stop_threshold=0.0, min_frames=9))
    assert all(len(g.latents) == 9 and not g.ran_away for g in eager)


def test_a_row_that_never_stops_is_cut_at_the_maximum_and_says_so():
    settings = GenerationSettings(stop_threshold=1.0, max_ratio=1.6)
    for text, generation in zip(TEXTS, speak(random_voice(), settings=settings), strict=True):
        assert generation.ran_away
        assert len(generation.latents) == max(8, np.ceil(1.6 * len(text) * 1.5))


def test_the_maximum_counts_bytes_not_letters():
    settings = GenerationSettings(stop_threshold=1.0)
    (generation,) = speak(random_voice(), texts=["नमस्ते"], settings=settings)
    assert len(generation.latents) == np.ceil(1.6 * len("नमस्ते".encode()) * 1.5)


def prompted(text, seconds=1.0):
    t = np.arange(round(24_000 * seconds)) / 24_000
    audio = (0.1 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)
    return Request(text=text, prompt_audio=audio, prompt_text="so it goes")


def test_a_voice_prompt_is_read_and_left_out_of_the_result(model):
    settings = GenerationSettings(stop_threshold=1.0)
    plain = Request(text="hello there")
    with_prompt = prompted("hello there")
    a, b = generate(model, INFO, [plain, with_prompt], settings)
    assert a.latents.shape == b.latents.shape
    assert not torch.allclose(a.latents, b.latents, atol=1e-2)


def test_a_voice_prompt_goes_on_where_teacher_forcing_would(model):
    request = prompted("hello there")
    settings = GenerationSettings(stop_threshold=1.0, max_frames=6, temperature=0.0)
    (said,) = generate(model, INFO, [request], settings)
    row = row_for(model, INFO, request, settings)
    assert row.prefix is not None
    text, mask = encode_texts(model, [row], len(row.ids))
    history = torch.cat([row.prefix, said.latents])
    hidden = model.predictor(history[None], text, mask).hidden[0, len(row.prefix) :]
    expected = model.predictor.head.sample(hidden, None, 0.0)
    torch.testing.assert_close(said.latents, expected, atol=1e-5, rtol=0)


def test_prompted_and_plain_rows_share_a_batch(model):
    requests = [Request(text="yes"), prompted("hello there"), prompted("no", seconds=0.5)]
    settings = GenerationSettings(stop_threshold=0.7, batch_size=2)
    alone = [generate(model, INFO, [request], settings)[0] for request in requests]
    assert_same(generate(model, INFO, requests, settings), alone)
    static = generate(model, INFO, requests, settings, run=StaticDecoder(model).run)
    assert_same(static, alone)


def test_half_a_voice_prompt_is_refused():
    whole = prompted("hello")
    for half in (
        Request(text="hello", prompt_text="so it goes"),
        Request(text="hello", prompt_audio=whole.prompt_audio),
    ):
        with pytest.raises(UserError, match="both its audio and its text"):
            generate(random_voice(), INFO, [half])


def test_attention_is_kept_for_the_frames_that_were_generated(model):
    settings = GenerationSettings(stop_threshold=0.7, keep_attention=True)
    plain, with_prompt = generate(
        model, INFO, [Request(text="hello there"), prompted("no")], settings
    )
    assert plain.attention is not None
    assert with_prompt.attention is not None
    assert plain.attention.shape == (len(plain.latents), len("hello there") + 2)
    n_ids = len("so it goes no") + 2
    assert with_prompt.attention.shape == (len(with_prompt.latents), n_ids)
    torch.testing.assert_close(plain.attention.sum(1), torch.ones(len(plain.latents)))


def test_speakers_are_chosen_by_name_and_a_wrong_name_gets_the_nearest():
    model = random_voice(speakers=("anna", "otto"))
    settings = GenerationSettings(stop_threshold=1.0)
    a, b = generate(
        model, INFO, [Request(text="hi", speaker=name) for name in ("anna", "otto")], settings
    )
    assert not torch.allclose(a.latents, b.latents, atol=1e-3)
    with pytest.raises(UserError, match=r"no speaker 'ana'.*did you mean 'anna'"):
        generate(model, INFO, [Request(text="hi", speaker="ana")])
    with pytest.raises(UserError, match="say which one: anna, otto"):
        generate(model, INFO, [Request(text="hi")])
    with pytest.raises(UserError, match="no choice of speaker"):
        generate(random_voice(), INFO, [Request(text="hi", speaker="anna")])


def test_an_empty_text_is_refused_before_anything_is_generated():
    with pytest.raises(UserError, match="the text is empty"):
        speak(random_voice(), texts=["hello", " \n"])


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"min_frames": 0}, {"temperature": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        GenerationSettings(**wrong)


def test_no_request_gives_no_speech():
    assert generate(random_voice(), CheckpointInfo(), []) == []


def diagonal(n_frames, n_ids):
    path = torch.linspace(0, n_ids - 1, n_frames).round().long()
    return torch.nn.functional.one_hot(path, n_ids).float()


def test_a_straight_reading_is_a_perfect_alignment():
    found = measure_alignment(diagonal(50, 30))
    assert found.diagonality > 0.99
    assert found.monotonicity == 1
    assert found.coverage == 1


def test_a_loop_and_a_skip_are_measured():
    straight = diagonal(40, 40)
    loop = torch.cat([straight[:20], straight[5:20], straight[5:]])
    assert measure_alignment(loop).monotonicity == pytest.approx(1 - 2 / (len(loop) - 1))
    skipped = torch.cat([straight[:10], straight[30:]])
    assert measure_alignment(skipped).coverage == pytest.approx(1 - 16 / 38, abs=0.06)
    backwards = measure_alignment(straight.flip(0)[::3])
    assert backwards.diagonality < -0.99
    assert backwards.monotonicity == 0


def test_staring_at_one_byte_is_no_alignment():
    stare = torch.zeros(20, 30)
    stare[:, 3] = 1
    found = measure_alignment(stare)
    assert found.diagonality == 0
    assert found.coverage < 0.2


def test_the_alignment_map_averages_the_guided_heads_of_all_layers():
    guided, other = diagonal(6, 5), diagonal(6, 5).flip(0)
    layers = [torch.stack([guided, guided, other, other])] * 3
    torch.testing.assert_close(alignment_map(layers), guided)
