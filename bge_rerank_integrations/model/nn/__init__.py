"""Transformer blocks over packed sequences; torch only, no knowledge of any model's name."""
