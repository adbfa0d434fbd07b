"""Text and a recording in, speech out: the original's interface on a miniature checkpoint."""

import dataclasses
import inspect
import logging

import numpy as np
import peft
import pytest
import soundfile
import torch

from indextts.config import GptConfig
from indextts.gpt.fixed import FixedVoice
from indextts.gpt.model import UnifiedVoice
from indextts.infer_v2 import IndexTTS2
from indextts.inference import Synthesizer
from indextts.lora import record_base
from indextts.speaker_embeddings import SpeakerEmbeddingStore
from ttscommon.errors import UserError

RATE = 22_050
TEXT = "The cat sat down. Then it slept."
LONG = "One little cat sat down here. Two more came over later. Then all of them slept well."
QUICK = {"diffusion_steps": 2, "num_beams": 1}
SEGMENTS = {**QUICK, "max_text_tokens_per_segment": 20}
HAPPY = [0.7, 0, 0, 0, 0, 0, 0, 0.1]


def recording(path, seed: int = 0):
    """A second of a buzzing voice."""
    random = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    buzz = np.sign(np.sin(2 * np.pi * (110 + 40 * seed) * time))
    soundfile.write(path, 0.2 * buzz + 0.02 * random.standard_normal(RATE), RATE)
    return path


@pytest.fixture(scope="module")
def tts(miniature):
    return IndexTTS2(model_dir=miniature, device="cpu")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("reference") / "me.wav")


@pytest.fixture(scope="module")
def stored(tts, reference):
    return SpeakerEmbeddingStore(tts).extract_embeddings(reference)


def said(tts, *arguments, **options) -> np.ndarray:
    """(S,) int16 of the quickest way to speak."""
    rate, samples = tts.infer(*arguments, **{**QUICK, "seed": 1, **options})
    assert rate == RATE
    assert samples.shape == (len(samples), 1)
    return samples[:, 0]


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    """Largest difference, in steps of 16 bits."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_text_and_a_recording_become_a_wave_file_of_plausible_length(tts, reference, tmp_path):
    path = tmp_path / "out" / "speech.wav"
    assert tts.infer(str(reference), TEXT, str(path), seed=1) == str(path)  # as it is by default
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
    assert 0.2 < info.duration < 10
    samples, _ = soundfile.read(path)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0.01
    assert [file.name for file in path.parent.iterdir()] == ["speech.wav"]


def test_the_originals_arguments_stand_where_they_stood():
    theirs = {
        "__init__": "cfg_path model_dir use_fp16 device use_cuda_kernel use_deepspeed use_accel "
        "use_torch_compile use_qwen_emo aux_paths",
        "infer": "spk_audio_prompt text output_path emo_audio_prompt emo_alpha emo_vector "
        "use_emo_text emo_text use_random interval_silence verbose max_text_tokens_per_segment "
        "stream_return more_segment_before",
    }
    for name, wanted in theirs.items():
        parameters = inspect.signature(getattr(IndexTTS2, name)).parameters.values()
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == ["self", *wanted.split()]


def test_the_same_seed_says_the_same_and_another_something_else(tts, reference):
    for beams in (1, 3):
        one, again, other = (
            said(tts, reference, TEXT, seed=seed, num_beams=beams) for seed in (1, 1, 2)
        )
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)


def test_a_seed_is_drawn_and_reported(tts, reference, caplog):
    caplog.set_level(logging.INFO)
    drawn = tts.speak(tts.request(reference, TEXT, **QUICK))
    assert f"seed {drawn.seed}" in caplog.text
    assert np.array_equal(said(tts, reference, TEXT, seed=drawn.seed), drawn.samples)
    assert tts.request(reference, TEXT).seed != drawn.seed


@pytest.mark.parametrize("beams", [1, 3])
def test_segments_together_are_what_they_are_one_by_one(tts, stored, beams):
    options = {**SEGMENTS, "num_beams": beams, "seed": 1, "speaker_embeddings": stored}
    made = [tts.speak(tts.request(None, LONG, batch_size=size, **options)) for size in (1, 2, 4)]
    assert len(made[0].segments) >= 3
    for other in made[1:]:
        n_codes = [[piece.n_codes for piece in speech.segments] for speech in (made[0], other)]
        assert n_codes[0] == n_codes[1]
        assert furthest(made[0].samples, other.samples) <= 2


def test_a_stream_put_together_is_the_whole(tts, stored):
    options = {**SEGMENTS, "seed": 1, "speaker_embeddings": stored}
    text = f"[pause:0.3]{LONG} [pause:0.5] End."
    pieces = list(tts.infer_stream(None, text, **options))
    _, whole = tts.infer(None, text, **options, batch_size=1)
    assert np.array_equal(np.concatenate(pieces), whole[:, 0])
    assert len(pieces[0]) == round(0.3 * RATE)


def test_streaming_as_in_the_original_ends_with_silence(tts, stored):
    options = {**SEGMENTS, "seed": 1, "speaker_embeddings": stored}
    streamed = list(tts.infer(None, LONG, stream_return=True, interval_silence=100, **options))
    assert all(wav.dtype == torch.float32 and wav.shape[0] == 1 for wav in streamed)
    silences = streamed[1::2]
    assert len(silences) == len(streamed) / 2
    assert all(wav.shape == (1, 2205) and not wav.any() for wav in silences)
    assert streamed[0].abs().max() > 300  # in 16-bit scale


@pytest.mark.parametrize("beams", [1, 3])
def test_every_segment_is_told_of_before_the_batch_it_is_in_is_spoken(tts, stored, beams, caplog):
    caplog.set_level(logging.INFO)
    options = {**SEGMENTS, "num_beams": beams, "seed": 1, "speaker_embeddings": stored}
    request = tts.request(None, LONG, **options, batch_size=8)
    tts.speak(request, lambda n_done, *_: logging.getLogger().info("spoken %d", n_done))
    told = [text for text in caplog.messages if text.startswith(("segment", "spoken"))]
    n = request.n_segments
    assert n >= 3
    assert sorted(" ".join(text.split()[:3]) for text in told[:n]) == [
        f"segment {number} written" for number in range(1, n + 1)
    ]
    assert told[n:] == [f"spoken {number}" for number in range(1, n + 1)]


def test_pauses_are_of_the_length_asked_for(tts, stored):
    options = {"speaker_embeddings": stored}
    speech = tts.speak(tts.request(None, "Yes. [pause:1.25] No.", seed=1, **QUICK, **options))
    lengths = [len(piece.samples) for piece in speech.pieces if piece.segment is None]
    assert len(speech.pieces) == 3
    assert abs(lengths[0] - 1.25 * RATE) <= 1


def test_a_stored_speaker_sounds_as_the_recording(tts, reference, stored, tmp_path):
    wanted = said(tts, reference, TEXT)
    path = tmp_path / "me.pt"
    SpeakerEmbeddingStore().save_embeddings(stored, path)
    for source in (stored, path, str(path), tts.voice(reference)):
        assert np.array_equal(said(tts, None, TEXT, speaker_embeddings=source), wanted)


def test_a_stored_speaker_needs_none_of_the_models_that_read_recordings(miniature, stored):
    tts = IndexTTS2(model_dir=miniature, device="cpu")
    said(tts, None, TEXT, speaker_embeddings=stored, emo_vector=HAPPY)
    assert tts.references.models is None
    assert tts.synthesizer.models.codec.encoder is None


def test_models_that_read_recordings_leave_on_request(miniature, tts, reference):
    small = IndexTTS2(model_dir=miniature, device="cpu", offload=True)
    assert np.array_equal(said(small, reference, TEXT), said(tts, reference, TEXT))
    assert small.references.models is None
    assert tts.references.models is not None


def test_a_recording_replaced_under_its_name_is_noticed(tts, tmp_path):
    path = recording(tmp_path / "me.wav")
    before = said(tts, path, TEXT)
    recording(path, seed=1)
    assert not np.array_equal(said(tts, path, TEXT), before)


def test_moods_change_what_is_said(tts, reference, stored, tmp_path):
    other = recording(tmp_path / "angry.wav", seed=2)
    voice = {"speaker_embeddings": stored}
    moods = [
        {},
        {"emo_vector": HAPPY},
        {"emo_vector": HAPPY, "emo_alpha": 0.5},
        {"emo_vector": HAPPY, "use_random": True},
        {"emo_audio_prompt": other},
        {"emo_audio_prompt": other, "emo_alpha": 0.5},
    ]
    told = [
        tts.synthesizer.conditioning(tts.request(None, TEXT, seed=1, **voice, **m)) for m in moods
    ]
    for i, one in enumerate(told):
        assert torch.equal(one.speaker, told[0].speaker)
        assert all(not torch.equal(one.emotion, another.emotion) for another in told[:i])
    named = tts.request(None, TEXT, emo_audio_prompt=other, emo_vector=HAPPY, seed=1, **voice)
    assert torch.equal(tts.synthesizer.conditioning(named).emotion, told[1].emotion)
    assert tts.normalize_emo_vec(HAPPY, apply_bias=False) == HAPPY


def test_half_of_another_mood_is_in_the_middle(tts, stored, tmp_path):
    other = recording(tmp_path / "angry.wav", seed=2)
    vectors = [
        tts.synthesizer.conditioning(
            tts.request(None, TEXT, speaker_embeddings=stored, emo_audio_prompt=other, emo_alpha=a)
        ).emotion
        for a in (0.0, 0.5, 1.0)
    ]
    assert (vectors[1] - (vectors[0] + vectors[2]) / 2).abs().max() < 1e-6


@pytest.mark.parametrize(("factor", "least", "most"), [(0.5, 0.48, 0.52), (2.0, 1.96, 2.04)])
def test_the_duration_factor_stretches_speech(tts, stored, factor, least, most):
    voice = {"speaker_embeddings": stored}
    plain = len(said(tts, None, "One more cat sat down.", **voice))
    stretched = len(said(tts, None, "One more cat sat down.", duration_factor=factor, **voice))
    assert least < stretched / plain < most


def test_a_short_prompt_for_the_flow_leaves_the_codes_as_they_are(tts, stored):
    def speech(**options):
        return tts.speak(
            tts.request(None, TEXT, seed=1, speaker_embeddings=stored, **QUICK, **options)
        )

    whole, short, all_of_it = speech(), speech(prompt_seconds=0.3), speech(prompt_seconds=60.0)
    assert [p.n_codes for p in whole.segments] == [p.n_codes for p in short.segments]
    assert not np.array_equal(whole.samples, short.samples)
    assert np.array_equal(whole.samples, all_of_it.samples)


@pytest.mark.parametrize(
    "options",
    [
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"flow_dtype": "bf16"},
        {"amp": "bf16", "flow_dtype": "bf16"},
    ],
)
def test_lower_precision_speaks(miniature, stored, options):
    tts = IndexTTS2(model_dir=miniature, device="cpu", **options)
    samples = said(tts, None, TEXT, speaker_embeddings=stored, emo_vector=HAPPY)
    assert np.abs(samples).max() > 100
    assert (
        tts.language_model.fingerprint == IndexTTS2(model_dir=miniature).language_model.fingerprint
    )


def test_arguments_without_effect_are_accepted_and_say_why(miniature, caplog):
    caplog.set_level(logging.INFO)
    IndexTTS2(None, miniature, True, "cpu", True, True, True)
    for name in ("use_cuda_kernel", "use_deepspeed", "use_accel", "use_fp16"):
        assert f"{name} has no effect" in caplog.text


def write_adapter(tts, folder, seed: int = 1):
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=2, target_modules=["attn.c_attn"], init_lora_weights=False)
    model = UnifiedVoice(tts.synthesizer.models.gpt.config)
    model.load_state_dict(tts.synthesizer.models.gpt.state_dict())
    record_base(folder, model)
    peft.get_peft_model(model, config).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


def test_an_adapter_changes_the_speech_and_another_takes_its_place(
    tts, miniature, stored, tmp_path
):
    one, two = (write_adapter(tts, tmp_path / str(seed), seed) for seed in (1, 2))
    adapted = IndexTTS2(model_dir=miniature, device="cpu", lora_path=one)
    voice = {"speaker_embeddings": stored}
    texts = said(tts, None, TEXT, **voice), said(adapted, None, TEXT, **voice)
    assert not np.array_equal(*texts)
    adapted.load_lora(two)
    assert not np.array_equal(said(adapted, None, TEXT, **voice), texts[1])
    adapted.load_lora(one)
    assert np.array_equal(said(adapted, None, TEXT, **voice), texts[1])
    assert adapted.language_model.fingerprint != tts.language_model.fingerprint


def test_an_adapter_of_another_base_is_refused_and_nothing_changed(tts, stored, tmp_path):
    torch.manual_seed(0)
    other = UnifiedVoice(GptConfig.tiny())
    record_base(tmp_path, other)
    config = peft.LoraConfig(r=2, target_modules=["attn.c_attn"], init_lora_weights=False)
    peft.get_peft_model(other, config).save_pretrained(tmp_path)  # type: ignore[arg-type]
    before = said(tts, None, TEXT, speaker_embeddings=stored)
    with pytest.raises(UserError, match="trained on another base"):
        tts.load_lora(tmp_path)
    assert tts.language_model.adapter is None
    assert np.array_equal(said(tts, None, TEXT, speaker_embeddings=stored), before)


def test_a_glossary_beside_the_checkpoint_is_read(miniature, tmp_path, stored):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in miniature.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "glossary.yaml").write_text("zzz: cat\n", encoding="utf-8")
    tts = IndexTTS2(model_dir=folder, device="cpu")
    assert tts.synthesizer.plan("The zzz sat.") == tts.synthesizer.plan("The cat sat.")


@pytest.mark.parametrize("beams", [1, 3])
def test_decoding_in_fixed_shapes_says_the_same(tts, stored, beams):
    options = {**SEGMENTS, "num_beams": beams, "seed": 1, "speaker_embeddings": stored}
    request = tts.request(None, LONG, **options)
    models = dataclasses.replace(tts.synthesizer.models)
    fixed = Synthesizer(models, make_writer=lambda gpt: FixedVoice(gpt, compiler=None))
    assert furthest(fixed.synthesize(request).samples, tts.speak(request).samples) <= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fused_flow_says_the_same(tts, miniature, stored, caplog):
    caplog.set_level(logging.WARNING, logger="torch.__trace")  # writes megabytes
    fused = IndexTTS2(model_dir=miniature, device="cpu", use_torch_compile=True)
    one, other = (said(it, None, TEXT, speaker_embeddings=stored) for it in (fused, tts))
    assert furthest(one, other) <= 8
