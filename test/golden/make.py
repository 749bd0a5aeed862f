"""Writes the golden fixtures: what PyTorch says each cell computes.

    pip install torch && python make.py

Weights, inputs and first states are rounded to float32, then everything is computed in
float64: the expected numbers carry no rounding of ours, so a kernel in float32 may be
held to its own error alone. Every array is flat, row-major, with its shape beside it.
"""

import json
import random
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


def nary_tree_lstm(children=3):
    """N-ary tree-LSTM with N = 3 (Tai, Socher and Manning 2015, equations 9 to 14), gates i, f_1, f_2, f_3, o, u; an absent child is zero. `trees` have inputs at every node; `leafTrees` at the leaves only, whose gates are i, o, u."""
    gates = 3 + children
    weights = {
        "node.weight_ih": rounded_tensor(gates * HIDDEN, INPUT),
        "node.weight_hh": rounded_tensor(gates * HIDDEN, children * HIDDEN),
        "node.bias_ih": rounded_tensor(gates * HIDDEN),
        "node.bias_hh": rounded_tensor(gates * HIDDEN),
        **leaf_weights(),
    }

    def node(x, states):
        states = states + [(torch.zeros(HIDDEN).double(),) * 2] * (children - len(states))
        i, *forget, o, u = ordered_gates(x, torch.cat([h for h, _ in states]), weights, "node.", gates)
        c = i.sigmoid() * u.tanh() + sum(f.sigmoid() * c for f, (_, c) in zip(forget, states))
        return o.sigmoid() * c.tanh(), c

    return trees_of(node, weights, most=children)


def child_sum_tree_lstm():
    """Child-sum tree-LSTM (Tai, Socher and Manning 2015, equations 2 to 8). `child` has the forget gate of a child, `node` the gates i, o, u. `trees` have inputs at every node; `leafTrees` at the leaves only, whose gates are i, o, u."""
    weights = {
        "child.weight_ih": rounded_tensor(HIDDEN, INPUT),
        "child.weight_hh": rounded_tensor(HIDDEN, HIDDEN),
        "child.bias_hh": rounded_tensor(HIDDEN),
        "node.weight_ih": rounded_tensor(3 * HIDDEN, INPUT),
        "node.weight_hh": rounded_tensor(3 * HIDDEN, HIDDEN),
        "node.bias_hh": rounded_tensor(3 * HIDDEN),
        **leaf_weights(),
    }

    def node(x, states):
        forget = [ordered_gates(x, h, weights, "child.", 1)[0].sigmoid() for h, _ in states]
        summed = sum((h for h, _ in states), torch.zeros(HIDDEN).double())
        i, o, u = ordered_gates(x, summed, weights, "node.", 3)
        c = i.sigmoid() * u.tanh() + sum(f * c for f, (_, c) in zip(forget, states))
        return o.sigmoid() * c.tanh(), c

    return trees_of(node, weights, most=6)


def leaf_weights():
    return {"leaf.weight_ih": rounded_tensor(3 * HIDDEN, INPUT), "leaf.bias_ih": rounded_tensor(3 * HIDDEN)}


def ordered_gates(x, h, weights, cell, count):
    gates = weights[cell + "weight_hh"] @ h + weights[cell + "bias_hh"] + weights.get(cell + "bias_ih", 0)
    if x is not None:
        gates = gates + weights[cell + "weight_ih"] @ x
    return gates.chunk(count)


def trees_of(node, weights, most):
    """Ten random trees of each form, from one node up; `h` is that of the root."""
    chance = random.Random(SEED)
    trees, leaf_trees = [], []
    for size in (1, 2, 3, 5, 6, 8, 11, 15, 20, 30):
        # Numbers are shuffled, so that parents stand before and after their children.
        names = chance.sample(range(size), size)
        parent, count = [-1] * size, [0] * size
        for one in range(1, size):
            above = chance.choice([other for other in range(one) if count[other] < most])
            count[above] += 1
            parent[names[one]] = names[above]
        inputs = normal(size, INPUT)
        state = lambda one: node(inputs[one], [state(other) for other in range(size) if parent[other] == one])
        trees.append({"parent": parent, "x": array(inputs), "h": array(state(names[0])[0])})

        inputs, children, roots = normal(size, INPUT), [], list(range(size))
        states = [tuple(one[0] for one in leaf_state(x[None], {"weight_ih": weights["leaf.weight_ih"], "bias_ih": weights["leaf.bias_ih"]})) for x in inputs]
        while len(roots) > 1:
            taken = [roots.pop(chance.randrange(len(roots))) for _ in range(chance.randint(1, min(most, len(roots))))]
            children.append(taken)
            roots.append(len(states))
            states.append(node(None, [states[one] for one in taken]))
        leaf_trees.append({"children": children, "x": array(inputs), "h": array(states[-1][0])})
    return {"weights": arrays(weights), "trees": trees, "leafTrees": leaf_trees}


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


FIXTURES = {"lstm": lstm, "gru": gru, "tree-lstm": tree_lstm, "nary-tree-lstm": nary_tree_lstm, "child-sum-tree-lstm": child_sum_tree_lstm, "embedded-lstm": embedded_lstm, "attending-lstm": attending_lstm}

if __name__ == "__main__":
    with torch.no_grad():
        main()
