"""Higgs-Audio v2: a LoRA trainer aligned with inference."""
