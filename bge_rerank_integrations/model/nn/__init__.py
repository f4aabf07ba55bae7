"""Transformer blocks for packed sequences. They need torch only, and know no model."""
