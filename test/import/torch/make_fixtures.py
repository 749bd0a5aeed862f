"""Writes state dicts of small random PyTorch models as safetensors, with inputs and PyTorch's own outputs.

    pip install torch numpy safetensors
    python make_fixtures.py
"""

import base64
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

HIDDEN, INPUT, SYMBOLS, CLASSES = 5, 3, 7, 4
LENGTHS = (1, 4, 6)


class Model(nn.Module):
    def __init__(self, module, embedded, classes):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, INPUT) if embedded else None
        self.encoder = module
        size = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
        self.classifier = nn.Linear(size, CLASSES) if classes else None

    def forward(self, values, collect):
        values = self.embedding(values) if self.embedding else values
        outputs, last = self.encoder(values)
        if collect == "last":
            last = last[0] if isinstance(last, tuple) else last
            outputs = last[-2:].flatten() if self.encoder.bidirectional else last[-1]
        return self.classifier(outputs) if self.classifier else outputs


def case(name, module, embedded=False, classes=False, collect="last", dtype=torch.float32, **options):
    model = Model(module, embedded, classes).to(dtype).to(torch.float32)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
        parameter.data = parameter.data.to(dtype).float()
    inputs, outputs = [], []
    for length in LENGTHS:
        given = torch.randint(SYMBOLS, (length,)) if embedded else torch.randn(length, INPUT)
        inputs.append(given.tolist())
        outputs.append(model(given, collect).tolist())
    state = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    return {
        "name": name,
        "file": base64.b64encode(save(state)).decode(),
        "options": {"collect": collect, **options},
        "input": "token" if embedded else "x",
        "inputs": inputs,
        "outputs": outputs,
    }


def cell_case(name, cell):
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.7)
    inputs, outputs = [], []
    for length in LENGTHS:
        given, state = torch.randn(length, INPUT), None
        for step in given:
            state = cell(step[None], state)
        inputs.append(given.tolist())
        outputs.append((state[0] if isinstance(state, tuple) else state)[0].tolist())
    file = base64.b64encode(save(cell.state_dict())).decode()
    return {"name": name, "file": file, "options": {}, "input": "x", "inputs": inputs, "outputs": outputs}


@torch.no_grad()
def main():
    torch.manual_seed(1)
    cases = []
    for kind, module in (("LSTM", nn.LSTM), ("GRU", nn.GRU), ("RNN", nn.RNN)):
        for layers in (1, 2):
            for both in (False, True):
                shape = f"{kind}, {layers} layers{', both directions' if both else ''}"
                make = lambda **more: module(INPUT, HIDDEN, layers, bidirectional=both, **more)
                cases.append(case(shape, make()))
                cases.append(case(f"{shape}, all steps, embedding and linear", make(), True, True, "all"))
        cases.append(case(f"{kind} without biases, linear", module(INPUT, HIDDEN, 1, bias=False), False, True))
        cases.append(cell_case(f"{kind}Cell", {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}[kind](INPUT, HIDDEN)))
    cases.append(case("RNN with ReLU", nn.RNN(INPUT, HIDDEN, nonlinearity="relu"), nonlinearity="relu"))
    for layers in (1, 3):
        projected = nn.LSTM(INPUT, HIDDEN, layers, proj_size=2)
        cases.append(case(f"LSTM with a projection, {layers} layers, embedding and linear", projected, True, True))
    cases.append(case("LSTM with a projection, all steps", nn.LSTM(INPUT, HIDDEN, proj_size=2), collect="all"))
    cases.append(case("LSTM in bfloat16", nn.LSTM(INPUT, HIDDEN), dtype=torch.bfloat16))
    cases.append(case("GRU in float16", nn.GRU(INPUT, HIDDEN), dtype=torch.float16))
    path = Path(__file__).parent / "fixtures" / "cases.json"
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
