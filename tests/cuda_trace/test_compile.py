"""Every kernel is compiled for every kind of card that is common, which needs no card."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytestmark = [
    pytest.mark.cuda_trace,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="an interpreted kernel is not compiled"),
]
NORMED = ("hidden", "added", "post", "weight", "out")
NORM = {"width": "i32", "scale": "fp32", "offset": "fp32", "eps": "fp32"}
ROTATE = {"some_row": "i32", "others_row": "i32", "some_heads": "i32", "others_heads": "i32"}
CASES: dict[str, tuple[str, tuple[str, ...], dict[str, str], dict[str, Any]]] = {
    "rms_norm": (
        "rms_norm_kernel",
        NORMED,
        NORM,
        {"ADD": False, "POST": False, "NORM": True, "BLOCK": 4096},
    ),
    "add_rms_norm": (
        "rms_norm_kernel",
        NORMED,
        NORM,
        {"ADD": True, "POST": True, "NORM": True, "BLOCK": 4096},
    ),
    "add_norm": (
        "rms_norm_kernel",
        NORMED,
        NORM,
        {"ADD": True, "POST": True, "NORM": False, "BLOCK": 2048},
    ),
    "add_layer_norm": (
        "layer_norm_kernel",
        ("added", "residual", "weight", "bias", "out"),
        {"width": "i32", "eps": "fp32"},
        {"BLOCK": 1024},
    ),
    "rotate": (
        "rotate_kernel",
        ("some", "others", "cos", "sin"),
        ROTATE,
        {"HALF": 128, "BLOCK_HEADS": 8, "BLOCK_HALF": 128},
    ),
    **{
        f"gate_{activation}": (
            "gate_kernel",
            ("gate", "up"),
            {"count": "i32"},
            {"ACTIVATION": activation, "BLOCK": 1024},
        )
        for activation in ("gelu", "gelu_tanh", "silu", "relu")
    },
}


@pytest.mark.parametrize("pointer", ["*bf16", "*fp16"])
@pytest.mark.parametrize("capability", [80, 86, 89, 90])
@pytest.mark.parametrize("case", CASES)
def test_a_kernel_compiles(case: str, capability: int, pointer: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bge_rerank_integrations.model.nn.fused import kernels

    name, pointers, numbers, constants = CASES[case]
    kernel = getattr(kernels, name)
    types = dict.fromkeys(pointers, pointer) | numbers | dict.fromkeys(constants, "constexpr")
    signature = {argument: types[argument] for argument in kernel.arg_names}
    compiled = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants), target=GPUTarget("cuda", capability, 32)
    )
    assert compiled.asm["cubin"]
