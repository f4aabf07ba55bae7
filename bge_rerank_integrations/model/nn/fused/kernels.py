"""Triton's kernels: element-wise passes over memory that are made once instead of two to ten times.

All of them compute in float32 and round once. Only GPUs import this file.
"""

import triton
import triton.language as tl


@triton.jit
def rms_norm_kernel(
    hidden, added, post, weight, out, width, scale, offset, eps,
    ADD: tl.constexpr, POST: tl.constexpr, NORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row: hidden += (norm of) added * scale, if ADD (and POST); then out = norm of hidden, if NORM."""
    start = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(hidden + start + columns, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        y = tl.load(added + start + columns, mask=inside, other=0.0).to(tl.float32)
        if POST:
            factor = tl.load(post + columns, mask=inside, other=0.0).to(tl.float32) + offset
            y = y * (1.0 / tl.sqrt(tl.sum(y * y) / width + eps)) * factor
        x = (x + y * scale).to(hidden.dtype.element_ty)
        tl.store(hidden + start + columns, x, mask=inside)
        x = x.to(tl.float32)
    if NORM:
        factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32) + offset
        normed = x * (1.0 / tl.sqrt(tl.sum(x * x) / width + eps)) * factor
        tl.store(out + start + columns, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm_kernel(added, residual, weight, bias, out, width, eps, BLOCK: tl.constexpr):
    """One row: out = LayerNorm of added + residual."""
    start = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(added + start + columns, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(residual + start + columns, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, x - tl.sum(x) / width, 0.0)
    normed = centred * (1.0 / tl.sqrt(tl.sum(centred * centred) / width + eps))
    factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + start + columns, (normed * factor + shift).to(out.dtype.element_ty), mask=inside)


@triton.jit
def turn_heads(row, count, c, s, HALF: tl.constexpr, BLOCK_HEADS: tl.constexpr, BLOCK_HALF: tl.constexpr):
    """All heads of one token, from `row` on, by its cosines and sines."""
    columns = tl.arange(0, BLOCK_HALF)
    heads = tl.arange(0, BLOCK_HEADS)[:, None]
    place = heads * 2 * HALF + columns[None, :]
    for first in range(0, count, BLOCK_HEADS):
        inside = (heads + first < count) & (columns < HALF)[None, :]
        left = row + first * 2 * HALF + place
        a = tl.load(left, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(left + HALF, mask=inside, other=0.0).to(tl.float32)
        tl.store(left, (a * c - b * s).to(row.dtype.element_ty), mask=inside)
        tl.store(left + HALF, (b * c + a * s).to(row.dtype.element_ty), mask=inside)


@triton.jit
def rotate_kernel(
    some, others, cos, sin, some_row, others_row, some_heads, others_heads,
    HALF: tl.constexpr, BLOCK_HEADS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):  # fmt: skip
    """One token: all of its heads in `some`, then all in `others`, if there are any."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_HALF)
    c = tl.load(cos + token * 2 * HALF + columns, mask=columns < HALF, other=0.0).to(tl.float32)[None, :]
    s = tl.load(sin + token * 2 * HALF + columns, mask=columns < HALF, other=0.0).to(tl.float32)[None, :]
    turn_heads(some + token * some_row, some_heads, c, s, HALF, BLOCK_HEADS, BLOCK_HALF)
    turn_heads(others + token * others_row, others_heads, c, s, HALF, BLOCK_HEADS, BLOCK_HALF)


@triton.jit
def gate_kernel(gate, up, count, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    """gate = activation(gate) * up."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    x = tl.load(gate + places, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(up + places, mask=inside, other=0.0).to(tl.float32)
    if ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":  # tanh(z) = 2 sigmoid(2 z) - 1
        x = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == "silu":
        x = x * tl.sigmoid(x)
    else:
        x = tl.maximum(x, 0.0)
    tl.store(gate + places, (x * y).to(gate.dtype.element_ty), mask=inside)
