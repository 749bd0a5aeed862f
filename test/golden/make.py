"""Writes the golden fixtures: what PyTorch says each cell computes.

    pip install torch && python make.py

Weights, inputs and first states are rounded to float32, then everything is computed in
float64: the expected numbers carry no rounding of ours, so a kernel in float32 may be
held to its own error alone. Every array is flat, row-major, with its shape beside it.
"""

import json
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(__file__).parent
BATCH, INPUT, HIDDEN = 3, 4, 6
SEED = 2
# A chosen symbol must not hang on the last bits of a logit.
SMALLEST_GAP = 0.01


def main():
    for name, make in FIXTURES.items():
        torch.manual_seed(SEED)
        fixture = {"about": make.__doc__, "precision": PRECISION, **make()}
        (FOLDER / f"{name}.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n", encoding="utf-8")


PRECISION = "Weights, inputs and initial states are float32 values; expected values were computed from them in float64."


def lstm(steps=5):
    """torch.nn.LSTMCell, gate order i, f, g, o; states after every step."""
    cell = rounded(nn.LSTMCell(INPUT, HIDDEN))
    inputs, first = normal(steps, BATCH, INPUT), (normal(BATCH, HIDDEN), normal(BATCH, HIDDEN))
    states, state = [], first
    for one in inputs:
        state = cell(one, state)
        states.append(state)
    h, c = (torch.stack(tensors) for tensors in zip(*states))
    assert torch.allclose(same_as_layer(cell, inputs, first), h, atol=1e-14)
    return {
        "weights": arrays(cell.state_dict()),
        "inputs": array(inputs),
        "initial": {"h": array(first[0]), "c": array(first[1])},
        "expected": {"h": array(h), "c": array(c)},
    }


def same_as_layer(cell, inputs, first):
    """nn.LSTM over the whole sequence is the same cell, step by step."""
    layer = nn.LSTM(INPUT, HIDDEN).double()
    layer.load_state_dict({f"{name}_l0": tensor for name, tensor in cell.state_dict().items()})
    return layer(inputs, tuple(tensor[None] for tensor in first))[0]


def gru(steps=5):
    """torch.nn.GRUCell, gate order r, z, n; the reset gate applies after the product: n = tanh(W_in x + b_in + r * (W_hn h + b_hn))."""
    cell = rounded(nn.GRUCell(INPUT, HIDDEN))
    inputs, first = normal(steps, BATCH, INPUT), normal(BATCH, HIDDEN)
    states, h = [], first
    for one in inputs:
        h = cell(one, h)
        states.append(h)
    return {
        "weights": arrays(cell.state_dict()),
        "inputs": array(inputs),
        "initial": {"h": array(first)},
        "expected": {"h": array(torch.stack(states))},
    }


def tree_lstm():
    """Binary tree-LSTM (N-ary with N = 2, Tai et al. 2015). Leaf gates i, o, u from the input; internal gates i, f_left, f_right, o, u from [h_left; h_right]. Every row of the batch is a tree of this one shape, children before parents."""
    weights = {
        "weight_ih": rounded_tensor(3 * HIDDEN, INPUT),
        "bias_ih": rounded_tensor(3 * HIDDEN),
        "weight_hh": rounded_tensor(5 * HIDDEN, 2 * HIDDEN),
        "bias_hh": rounded_tensor(5 * HIDDEN),
    }
    # ((0 1) (2 (3 4))): both sides have a leaf and an internal child somewhere.
    nodes = [{"leaf": leaf} for leaf in range(5)]
    nodes += [{"left": 0, "right": 1}, {"left": 3, "right": 4}, {"left": 2, "right": 6}, {"left": 5, "right": 7}]
    inputs = normal(5, BATCH, INPUT)
    states = []
    for node in nodes:
        if "leaf" in node:
            states.append(leaf_state(inputs[node["leaf"]], weights))
        else:
            states.append(internal_state(states[node["left"]], states[node["right"]], weights))
    h, c = (torch.stack(tensors) for tensors in zip(*states))
    return {
        "weights": arrays(weights),
        "nodes": nodes,
        "inputs": array(inputs),
        "expected": {"h": array(h), "c": array(c)},
    }


def leaf_state(x, weights):
    i, o, u = (x @ weights["weight_ih"].T + weights["bias_ih"]).chunk(3, dim=1)
    c = i.sigmoid() * u.tanh()
    return o.sigmoid() * c.tanh(), c


def internal_state(left, right, weights):
    (h_left, c_left), (h_right, c_right) = left, right
    gates = torch.cat([h_left, h_right], dim=1) @ weights["weight_hh"].T + weights["bias_hh"]
    i, f_left, f_right, o, u = gates.chunk(5, dim=1)
    c = i.sigmoid() * u.tanh() + f_left.sigmoid() * c_left + f_right.sigmoid() * c_right
    return o.sigmoid() * c.tanh(), c


def embedded_lstm(steps=6, symbols=9, embedding=3):
    """An embedding, torch.nn.LSTMCell (gate order i, f, g, o) from a zero state, and a linear head; logits and the best symbol after every step."""
    network = rounded(
        nn.ModuleDict({"embedding": nn.Embedding(symbols, embedding), "cell": nn.LSTMCell(embedding, HIDDEN), "head": nn.Linear(HIDDEN, symbols)})
    )
    read = torch.randint(symbols, (steps, BATCH))
    state = (torch.zeros(BATCH, HIDDEN, dtype=torch.float64),) * 2
    states, logits = [], []
    for one in read:
        state = network["cell"](network["embedding"](one), state)
        states.append(state)
        logits.append(network["head"](state[0]))
    h, c = (torch.stack(tensors) for tensors in zip(*states))
    logits = torch.stack(logits)
    best = logits.topk(2, dim=2)
    assert (best.values[..., 0] - best.values[..., 1]).min() > SMALLEST_GAP, "choose another seed"
    return {
        "weights": arrays({name.replace("cell.", ""): tensor for name, tensor in network.state_dict().items()}),
        "symbols": array(read),
        "expected": {"h": array(h), "c": array(c), "logits": array(logits), "best": array(best.indices[..., 0])},
    }


def attending_lstm(steps=4, symbols=7, embedding=3, memory=5, attended=4, places=6):
    """An embedding, torch.nn.LSTMCell from a zero state, Luong's attention (general score) of its h over a memory of which a mask shows each row a part, tanh of a linear layer over [context; h], and a linear head."""
    network = rounded(
        nn.ModuleDict(
            {
                "embedding": nn.Embedding(symbols, embedding),
                "cell": nn.LSTMCell(embedding, HIDDEN),
                "attention": nn.ModuleDict(
                    {"query": nn.Linear(HIDDEN, memory, bias=False), "combine": nn.Linear(memory + HIDDEN, attended)}
                ),
                "head": nn.Linear(attended, symbols),
            }
        )
    )
    read = torch.randint(symbols, (steps, BATCH))
    held = normal(BATCH, places, memory).float().double()
    lengths = torch.tensor([places, 1, 4])
    shown = torch.arange(places) < lengths[:, None]
    state = (torch.zeros(BATCH, HIDDEN, dtype=torch.float64),) * 2
    states, logits = [], []
    for one in read:
        state = network["cell"](network["embedding"](one), state)
        asking = network["attention"]["query"](state[0])
        # A sequence of one question, against keys that are also the values.
        context = nn.functional.scaled_dot_product_attention(asking[:, None], held, held, attn_mask=shown[:, None], scale=1.0)[:, 0]
        both = torch.cat([context, state[0]], dim=1)
        states.append(state)
        logits.append(network["head"](network["attention"]["combine"](both).tanh()))
    h, c = (torch.stack(tensors) for tensors in zip(*states))
    return {
        "weights": arrays({name.replace("cell.", ""): tensor for name, tensor in network.state_dict().items()}),
        "symbols": array(read),
        "memory": array(held),
        "mask": array(shown.double()),
        "expected": {"h": array(h), "c": array(c), "logits": array(torch.stack(logits))},
    }


def rounded(module):
    """The module's own random weights are float32; only the arithmetic becomes float64."""
    return module.float().double()


def rounded_tensor(*shape):
    # The range PyTorch draws recurrent weights from.
    return ((torch.rand(shape) * 2 - 1) / HIDDEN**0.5).double()


def normal(*shape):
    return torch.randn(shape).double()


def arrays(tensors):
    return {name: array(tensor) for name, tensor in tensors.items()}


def array(tensor):
    return {"shape": list(tensor.shape), "values": tensor.flatten().tolist()}


FIXTURES = {"lstm": lstm, "gru": gru, "tree-lstm": tree_lstm, "embedded-lstm": embedded_lstm, "attending-lstm": attending_lstm}

if __name__ == "__main__":
    with torch.no_grad():
        main()
