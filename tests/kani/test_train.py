"""Experiments: what they leave, that they go on in the same bits, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Lfm2Config, Lfm2ForCausalLM

from kani.config import BALANCED, COMPREHENSIVE, FULL, MINIMAL
from kani.dataset import KaniPlan
from kani.loss import CHUNK, layer_of, token_losses
from kani.outputs import write_model
from kani.tasks import KaniStage, validation_scores
from kani.train import target_layers, train
from kani.weights import load_language_model
from tests.kani.made_up_jobs import EVERYTHING, SPACE, data_of, experiment, job_of, write_base
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.files import read_json


def adapter_of(job) -> dict[str, torch.Tensor]:
    return load_file(job.run.final_checkpoint / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    job = job_of(tmp_path_factory.mktemp("trained"), base, experiment(lora={"r": 4}))
    return job, train(job)


def test_a_trained_model_is_whole_with_its_adapter_and_all_settings(trained, base):
    job, report = trained
    assert report.model == job.models / "tiny"
    model = AutoModelForCausalLM.from_pretrained(report.model)
    told = json.loads((report.model / "experiment.json").read_text())
    assert told["experiment_id"] == "tiny"
    assert told["train_configuration"] == job.description()["train_configuration"]
    assert told["train_configuration"]["lora_args"]["r"] == 4
    assert told["metrics"]["loss"] == report.metrics["loss"]
    assert told["merge"]["largest_difference"] < 1e-4
    adapted = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), report.model / "adapter"
    )
    ids = torch.arange(60)[None]
    with torch.no_grad():
        merged, apart = model(input_ids=ids).logits, adapted(input_ids=ids).logits
        bare = AutoModelForCausalLM.from_pretrained(base)(input_ids=ids).logits
    assert torch.allclose(merged, apart, atol=1e-4)
    assert not torch.allclose(merged, bare, atol=1e-3)
    assert AutoTokenizer.from_pretrained(report.model).encode("a")[0] == 1
    settings = json.loads((report.model / "adapter" / "adapter_config.json").read_text())
    assert settings["use_rslora"]


def test_a_finished_experiment_is_left_alone(trained):
    job, report = trained
    before = (report.model / "experiment.json").stat().st_mtime_ns
    again = train(job)
    assert again.was_finished
    assert again.metrics == report.metrics
    assert (report.model / "experiment.json").stat().st_mtime_ns == before


def test_other_settings_under_the_same_name_are_refused(trained):
    job, _ = trained
    other = dataclasses.replace(job, experiment=experiment(lora={"r": 4}, learning_rate=2e-3))
    with pytest.raises(UserError, match=r"learning_rate: 0\.001 -> 0\.002"):
        train(other)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path, base):
    settings = experiment(lora={"lora_dropout": 0.1}, packing=True, max_steps=5)
    whole = job_of(tmp_path / "whole", base, settings)
    train(whole)
    stopped = job_of(tmp_path / "stopped", base, settings)

    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise RuntimeError("stopped here")

    with pytest.raises(RuntimeError, match="stopped here"):
        train(stopped, stop)
    assert not stopped.output.exists()
    train(stopped)
    one, other = adapter_of(whole), adapter_of(stopped)
    assert {*one} == {*other}
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("packing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_adapted_layer_is_trained(tmp_path, base, packing):
    adapter = {"target_modules": EVERYTHING}
    one = experiment(lora=adapter, loss_on="audio", packing=packing, max_steps=2)
    job = job_of(tmp_path, base, one)
    train(job)
    tensors = adapter_of(job)
    assert len(tensors) == 2 * len(
        target_layers(load_language_model(base, space=SPACE), EVERYTHING)
    )
    assert all(bool(tensor.any()) for name, tensor in tensors.items() if "lora_B" in name)


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(tmp_path, base):
    found = []
    for number, on in enumerate((False, True)):
        job = job_of(
            tmp_path / str(number), base, experiment(gradient_checkpointing=on, max_steps=2)
        )
        train(job)
        found.append(adapter_of(job))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


@pytest.fixture(scope="module")
def released() -> Any:
    """LFM2 in the size of the released models, without numbers."""
    kinds = ["full_attention" if n in (2, 5, 8, 10, 12, 14) else "conv" for n in range(16)]
    sizes: dict[str, Any] = {"block_ff_dim": 6656, "num_attention_heads": 16, "layer_types": kinds}
    sizes |= {"hidden_size": 1024, "num_key_value_heads": 8, "num_hidden_layers": 16}
    with torch.device("meta"):
        return Lfm2ForCausalLM(Lfm2Config(**sizes))


def test_a_rank_stabilised_adapter_is_scaled_by_the_root_of_its_rank(base):
    model = load_language_model(base, space=SPACE)
    lora.inject(model, target_layers(model, MINIMAL), rank=16, alpha=16, use_rslora=True)
    assert next(iter(lora.layers(model).values())).scaling["default"] == 4.0


@pytest.mark.parametrize(
    ("targets", "n_parameters"),
    [
        (MINIMAL, 344_064),
        (("q_proj", "w1", "w2"), 3_080_192),
        (BALANCED, 4_669_440),
        (COMPREHENSIVE, 5_341_184),
        ((*COMPREHENSIVE, "out_proj"), 5_341_184),
        (FULL, 5_996_544),
        (("all-linear",), 5_996_544),
    ],
)
def test_adapters_of_the_released_model_have_the_size_that_is_told(released, targets, n_parameters):
    layers = [released.get_submodule(name) for name in target_layers(released, targets)]
    assert sum(16 * (one.in_features + one.out_features) for one in layers) == n_parameters


def test_a_target_that_means_no_layer_is_refused(tmp_path, base):
    with pytest.raises(UserError, match="no layer of this network is called 'w9'"):
        train(job_of(tmp_path, base, experiment(lora={"target_modules": ("w9",)})))


def test_a_model_without_enough_ids_is_refused(tmp_path, base, miniature):
    job = dataclasses.replace(job_of(tmp_path, base), prepared=_with_space(data_of(base)))
    with pytest.raises(UserError, match="speech needs 80538"):
        train(job)


def _with_space(data):
    from kani.tokens import TokenSpace

    return dataclasses.replace(data, space=TokenSpace())


def test_a_folder_of_something_else_is_not_replaced(tmp_path, base, trained):
    job, _ = trained
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="isn't a model that was trained here"):
        write_model(
            tmp_path / "mine",
            base,
            job.run.best_checkpoint,
            {},
            sample=torch.arange(9),
            space=SPACE,
        )


def test_a_folder_of_something_else_is_refused_before_training(tmp_path, trained):
    job = dataclasses.replace(trained[0], models=tmp_path)
    job.output.mkdir()
    with pytest.raises(UserError, match="isn't a model that was trained here"):
        train(job)


@torch.no_grad()
def test_scores_are_means_over_all_held_out_clips(base):
    data, stage = data_of(base), KaniStage(load_language_model(base, space=SPACE), SPACE)
    one, many = (
        validation_scores(stage, KaniPlan(data.rows, SPACE, batch_size=n, packing=packing))
        for n, packing in ((1, False), (5, True))
    )
    assert one == pytest.approx(many, abs=1e-4)
    layers = [one[f"layer{n}"] for n in (1, 2, 3, 4)]
    assert sum(layers) / 4 == pytest.approx(one["audio"], abs=1e-5)


@pytest.mark.parametrize("is_trained", [False, True])
@pytest.mark.parametrize("n_places", [3, CHUNK + 5])
def test_losses_and_gradients_are_those_of_autograd(n_places, is_trained):
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 9, bias=False).requires_grad_(is_trained)
    hidden = torch.randn(n_places, 4, requires_grad=True)
    targets, weights = torch.randint(0, 9, (n_places,)), torch.rand(n_places)
    whole = torch.nn.functional.cross_entropy(head(hidden), targets, reduction="none")
    parts = token_losses(hidden, head, targets)
    assert torch.allclose(whole, parts, atol=1e-6)
    wanted = [hidden, head.weight] if is_trained else [hidden]
    for one, other in zip(
        torch.autograd.grad((whole * weights).sum(), wanted),
        torch.autograd.grad((parts * weights).sum(), wanted),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_extreme_logits_keep_losses_and_gradients_finite():
    head = torch.nn.Linear(2, 3, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[300.0, 0.0], [0.0, 300.0], [-300.0, 0.0]]))
    hidden = torch.tensor([[1.0, 0.0], [1.0, 1.0]], requires_grad=True)
    losses = token_losses(hidden, head, torch.tensor([2, 1]))
    assert losses.tolist() == pytest.approx([600.0, math.log(2)])
    losses.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.tolist() == [[600.0, 0.0], [150.0, -150.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_nearly_certain_is_still_learned_in_bfloat16(dtype):
    torch.manual_seed(0)
    rows, targets = torch.randn(4000, 256).bfloat16(), torch.arange(60)
    hidden = (0.06 * rows[:60] + 0.02 * torch.randn(60, 256)).bfloat16()
    exact = hidden.double().requires_grad_()
    torch.nn.functional.cross_entropy(exact @ rows.double().T, targets, reduction="sum").backward()
    head = torch.nn.Linear(256, 4000, bias=False).requires_grad_(False).to(dtype)
    head.weight.copy_(rows)
    rough = hidden.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        losses = token_losses(rough, head, targets)
    losses.sum().backward()
    assert 0.001 < float(losses.detach().mean()) < 0.02  # nats
    assert exact.grad is not None
    assert rough.grad is not None
    errors = (rough.grad.double() - exact.grad).norm(dim=1) / exact.grad.norm(dim=1)
    assert float(errors.max()) < 0.06


def test_a_head_in_bfloat16_has_losses_in_float32():
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 500, bias=False).requires_grad_(False)
    hidden, targets = torch.randn(40, 64), torch.randint(0, 500, (40,))
    leaves = hidden.clone().requires_grad_(), hidden.bfloat16().requires_grad_()
    exact = token_losses(leaves[0], head, targets)
    rough = token_losses(leaves[1], head.bfloat16(), targets)
    assert rough.dtype == torch.float32
    assert torch.allclose(exact, rough, atol=0.05)
    assert len(set((rough * 256 % 1).tolist())) > 20  # not rounded to bfloat16
    gradients = [
        torch.autograd.grad(x.sum(), leaf)[0]
        for x, leaf in zip((exact, rough), leaves, strict=True)
    ]
    assert gradients[1].dtype == torch.bfloat16
    assert torch.allclose(gradients[0], gradients[1].float(), atol=0.02)


def test_ids_know_their_layer():
    ids = torch.tensor([5, SPACE.end_of_speech, *(SPACE.audio_id(n, 31) for n in range(4))])
    assert layer_of(ids, SPACE).clamp(min=-1).tolist() == [-1, -1, 0, 1, 2, 3]


def test_another_base_has_another_adapter_run(tmp_path, base):
    other = write_base(tmp_path / "other", seed=1)
    job = job_of(tmp_path, base, experiment(max_steps=1))
    train(job)
    with pytest.raises(UserError, match="base_fingerprint"):
        train(dataclasses.replace(job, base=other))
    assert read_json(job.output / "experiment.json")["base_model"] == "made up"
