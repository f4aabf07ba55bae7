"""Layers for GPUs: what lies between two matrix products is one kernel, where that builds and agrees."""
