"""Which numbers of a network are trained, in a line."""

from __future__ import annotations

from torch import nn


def trained_of(module: nn.Module) -> str:
    """ "training 1.20 M of 8.00 M parameters (encoder 1.20 M)", by the module's direct parts."""
    parts = {name: _count(child) for name, child in module.named_children()}
    shown = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parts.items() if count)
    total = sum(p.numel() for p in module.parameters())
    return f"training {_count(module) / 1e6:.2f} M of {total / 1e6:.2f} M parameters ({shown})"


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
