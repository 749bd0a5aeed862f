"""Writes fixtures/transformer.json: a small transformer encoder as PyTorch exports it, and what it says to requests one by one.

    python make_transformer.py        (torch 2.13, onnx 1.23)
"""

import base64
import io
import json
from pathlib import Path

import torch
from torch import nn

SYMBOLS, WIDTH = 20, 16


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dense = nn.Sequential(nn.Linear(WIDTH, 24), nn.GELU(), nn.Linear(24, WIDTH))

    def forward(self, hidden, mask):
        normal = self.first(hidden)
        scores = self.queries(normal) @ self.keys(normal).transpose(1, 2) / WIDTH**0.5
        weights = scores.masked_fill(mask[:, None] == 0, float("-inf")).softmax(-1)
        hidden = hidden + weights @ self.values(normal)
        return hidden + self.dense(self.second(hidden))


class Encoder(nn.Module):
    """Tokens and their mask in; a vector per token, and one per request, out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, input_ids, attention_mask):
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask)
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return hidden, (hidden * weights).sum(1) / weights.sum(1)


@torch.no_grad()
def main():
    torch.manual_seed(3)
    encoder = Encoder().eval()
    file = io.BytesIO()
    axes = {0: "batch", 1: "sequence"}
    tokens = torch.randint(SYMBOLS, (2, 7))
    torch.onnx.export(
        encoder,
        (tokens, torch.ones_like(tokens)),
        file,
        dynamo=False,
        opset_version=17,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden", "pooled"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes, "pooled": {0: "batch"}},
    )
    requests = []
    for steps in (1, 9, 4, 4, 13, 2, 9, 30):
        tokens = torch.randint(SYMBOLS, (1, steps))
        hidden, pooled = encoder(tokens, torch.ones_like(tokens))
        requests.append({"tokens": tokens[0].tolist(), "hidden": hidden.flatten().tolist(), "pooled": pooled.flatten().tolist()})
    out = {"model": base64.b64encode(file.getvalue()).decode(), "width": WIDTH, "requests": requests}
    path = Path(__file__).parent / "fixtures" / "transformer.json"
    path.write_text(json.dumps(out) + "\n", encoding="utf-8")
    print(len(file.getvalue()), "bytes of ONNX,", path.stat().st_size, "in all")


if __name__ == "__main__":
    main()
