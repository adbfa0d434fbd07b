"""Adapters on any network: found by name, injected, saved, loaded, scaled, merged, taken out."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

from ttscommon import lora
from ttscommon.errors import UserError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.mlp(torch.tanh(self.attn(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = nn.Embedding(5, 8)
        self.h = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        x = self.names(ids)
        for block in self.h:
            x = block(x)
        return self.head(x)


IDS = torch.tensor([[0, 1, 4]])


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().eval()


def adapted(*patterns: str, **options) -> Net:
    """With an update that isn't zero."""
    module = net()
    targets = lora.find_targets(module, patterns or ("h.*.attn", "head", "names"))
    lora.inject(module, targets, **{"rank": 2, "alpha": 4, **options})
    torch.manual_seed(1)
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["h.*.attn"], ["h.0.attn", "h.1.attn"]),
        (["attn", "head"], ["h.0.attn", "h.1.attn", "head"]),
        (["1.*"], ["h.1.attn", "h.1.mlp"]),
        (["h.1.mlp", "names"], ["names", "h.1.mlp"]),
        ([r"re:h\.\d+\.(attn|mlp)"], ["h.0.attn", "h.0.mlp", "h.1.attn", "h.1.mlp"]),
    ],
)
def test_layers_are_found_by_name(patterns, found):
    assert lora.find_targets(net(), patterns) == found


@pytest.mark.parametrize("pattern", ["h.*.atn", "h.*", "ttn", "re:attn", ""])
def test_a_pattern_that_means_nothing_is_an_error_that_lists_the_layers(pattern):
    with pytest.raises(UserError, match=r"no layer .*h\.\*\.attn.*head"):
        lora.find_targets(net(), ["head", pattern])


def test_a_broken_regular_expression_is_one_line():
    with pytest.raises(UserError, match="no regular expression"):
        lora.find_targets(net(), ["re:("])


def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained():
    module = net()
    before = module(IDS)
    lora.inject(module, ["h.0.attn", "head"], rank=2, alpha=4)
    assert torch.equal(module(IDS), before)
    assert lora.trainable_counts(module) == {"h.*.attn": 32, "head": 22}


def test_what_is_saved_loads_with_plain_peft(tmp_path):
    module = adapted()
    lora.save_adapter(module, tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(net(), str(tmp_path / "adapter"))  # type: ignore[arg-type]
    assert torch.equal(loaded(IDS), module(IDS))


def test_what_peft_saved_is_attached(tmp_path):
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["attn", "names"], init_lora_weights=False
    )
    theirs = peft.get_peft_model(net(), config).eval()  # type: ignore[arg-type]
    theirs.save_pretrained(str(tmp_path))
    module = net()
    info = lora.attach(module, lora.read_adapter(module, tmp_path))
    assert torch.equal(module(IDS), theirs(IDS))
    assert (info.rank, info.n_layers) == (2, 3)
    assert info.mean_change > 0


def test_an_attached_adapter_drops_nothing_out_in_a_network_that_speaks(tmp_path):
    lora.save_adapter(adapted(dropout=0.5), tmp_path / "adapter")
    module = net()
    lora.attach(module, lora.read_adapter(module, tmp_path / "adapter"))
    assert not any(part.training for part in module.modules())
    assert torch.equal(module(IDS), module(IDS))


def test_scale_0_is_the_base_and_detaching_leaves_its_bits(tmp_path):
    lora.save_adapter(adapted(), tmp_path / "adapter")
    base, module = net(), net()
    lora.attach(module, lora.read_adapter(module, tmp_path / "adapter"))
    full = module(IDS)
    lora.set_scale(module, 0.0)
    assert torch.equal(module(IDS), base(IDS))
    lora.set_scale(module, 0.5)
    with lora.switched_off(module):
        assert torch.equal(module(IDS), base(IDS))
    half = module(IDS)
    assert not torch.equal(half, full)
    assert not torch.equal(half, base(IDS))
    lora.detach(module)
    assert [*module.state_dict()] == [*base.state_dict()]
    assert all(
        torch.equal(a, b)
        for a, b in zip(module.state_dict().values(), base.state_dict().values(), strict=True)
    )


def test_merging_says_what_the_adapter_said():
    module = adapted()
    lora.set_scale(module, 0.7)
    said = module(IDS)
    lora.merge(module)
    assert lora.layers(module) == {}
    assert (module(IDS) - said).abs().max() < 1e-5


def test_an_adapter_with_nan_is_not_merged():
    module = adapted()
    with torch.no_grad():
        module.get_parameter("head.lora_B.default.weight").fill_(float("nan"))
    with pytest.raises(UserError, match="NaN or infinity in head"):
        lora.merge(module)


def test_a_broken_adapter_leaves_the_present_one_in_place(tmp_path):
    module = adapted()
    lora.save_adapter(module, tmp_path / "one")
    lora.save_adapter(adapted("mlp"), tmp_path / "two")
    tensors = lora.read_tensors(tmp_path / "two" / "adapter_model.safetensors")
    found = lora.read_adapter(module, tmp_path / "two")
    said = module(IDS)
    found.tensors.pop(next(iter(tensors)))
    with pytest.raises(UserError, match="missing adapter keys"):
        lora.attach(module, found)
    assert torch.equal(module(IDS), said)


@pytest.mark.parametrize("change", [{"modules_to_save": ["head"]}, {"bias": "lora_only"}])
def test_an_adapter_with_whole_layers_is_refused(tmp_path, change):
    config = peft.LoraConfig(r=2, target_modules=["attn"], **change)
    peft.get_peft_model(net(), config).save_pretrained(str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="whole layers or biases"):
        lora.read_adapter(net(), tmp_path)


def test_another_kind_of_adapter_is_refused(tmp_path):
    config = peft.IA3Config(target_modules=["attn"], feedforward_modules=[])
    peft.get_peft_model(net(), config).save_pretrained(str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="IA3 adapter, not LoRA"):
        lora.read_adapter(net(), tmp_path)


def test_a_full_disk_keeps_the_old_adapter(tmp_path, monkeypatch):
    lora.save_adapter(adapted(), tmp_path / "adapter")
    before = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lora, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        lora.save_adapter(adapted("mlp"), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
