"""Writes fixtures/: ONNX models with inputs and the outputs that are right for them, one graph with weights outside.

The operator tests of the `onnx` package for LSTM, GRU and RNN (all of them, with weights and states as constants of the
file), and models of our own for what those lack. The expected values of our own are those of ONNX Runtime over the whole
graph; where it does not run a graph (layout 1) those of the same graph in layout 0.

    pip install onnx numpy onnxruntime
    python make_fixtures.py

`axes` of a tensor names its axes: T steps, B rows, - any other.
"""

import base64
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "fixtures"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class Model:
    """An ONNX graph written node by node."""

    def __init__(self, name, opset=17, seed=0):
        self.name, self.opset = name, opset
        self.random = np.random.default_rng([seed, *name.encode()])
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.feeds, self.axes = {}, {}

    def input(self, name, shape, values, axes):
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), shape))
        self.feeds[name], self.axes[name] = values, axes
        return name

    def vectors(self, name="x", steps=5, rows=3, width=4, axes="TB-", shape=None):
        sizes = [{"T": steps, "B": rows, "-": width}[axis] for axis in axes]
        names = [{"T": "seq", "B": "batch", "-": width}[axis] for axis in axes]
        return self.input(name, shape or names, self.random.standard_normal(sizes).astype(np.float32), axes)

    def tokens(self, name="tokens", steps=5, rows=3, count=11, axes="BT"):
        sizes = [{"T": steps, "B": rows}[axis] for axis in axes]
        names = [{"T": "seq", "B": "batch"}[axis] for axis in axes]
        return self.input(name, names, self.random.integers(0, count, sizes), axes)

    def constant(self, values, dtype=None):
        array = np.asarray(values)
        if dtype is None:
            dtype = np.float32 if array.dtype.kind == "f" else np.int64
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(dtype), name))
        return name

    def weights(self, *shape):
        return self.constant(self.random.uniform(-0.6, 0.6, shape))

    def node(self, op, inputs, count=1, **attributes):
        names = [f"n{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if count == 1 else names

    def recurrent(self, op, x, width, hidden, lens="", h0="", c0="", bias=True, peepholes=False, **attributes):
        directions = 2 if attributes.get("direction") == "bidirectional" else 1
        gates = GATES[op]
        inputs = [x, self.weights(directions, gates * hidden, width), self.weights(directions, gates * hidden, hidden)]
        inputs.append(self.weights(directions, 2 * gates * hidden) if bias else "")
        inputs += [lens, h0]
        if op == "LSTM":
            inputs += [c0, self.weights(directions, 3 * hidden) if peepholes else ""]
        while inputs[-1] == "":
            inputs.pop()
        return self.node(op, inputs, 3 if op == "LSTM" else 2, hidden_size=hidden, **attributes)

    def output(self, name, value, axes, kind=TensorProto.FLOAT, shape=None):
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"out_{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape or [None] * len(axes)))
        self.axes[name] = axes

    def proto(self):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets[: 2 if any(n.domain for n in self.nodes) else 1], ir_version=8)


def in_layout_0(proto):
    """The same graph with its recurrent nodes in layout 0."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    nodes = []
    for node in copy.graph.node:
        layout = next((a for a in node.attribute if a.name == "layout"), None)
        if layout is None or layout.i == 0:
            nodes.append(node)
            continue
        node.attribute.remove(layout)
        for i in (0, 5, 6):
            if i < len(node.input) and node.input[i]:
                nodes.append(helper.make_node("Transpose", [node.input[i]], [f"{node.name}_in{i}"], perm=[1, 0, 2]))
                node.input[i] = f"{node.name}_in{i}"
        after = []
        for i, perm in enumerate([[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]):
            if i < len(node.output) and node.output[i]:
                after.append(helper.make_node("Transpose", [f"{node.name}_out{i}"], [node.output[i]], perm=perm))
                node.output[i] = f"{node.name}_out{i}"
        nodes += [node, *after]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def run(proto, feeds):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in proto.graph.output], session.run(None, feeds)))


def tensor(values, axes):
    return {"axes": axes, "type": values.dtype.name, "shape": list(values.shape), "data": np.round(values, 8).ravel().tolist() if values.dtype.kind == "f" else values.ravel().tolist()}


def case(name, proto, feeds, expected, axes, **more):
    return {
        "name": name,
        "model": base64.b64encode(proto.SerializeToString()).decode(),
        "inputs": {key: tensor(value, axes[key]) for key, value in feeds.items()},
        "outputs": {key: tensor(value, axes[key]) for key, value in expected.items()},
        **more,
    }


def operator_tests():
    """Every operator test of the onnx package, its weights and states as constants."""
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases

    for test in collect_testcases(None):
        if test.model is None or not any(n.op_type in GATES for n in test.model.graph.node):
            continue
        inputs, outputs = test.data_sets[0]
        graph = test.model.graph
        node = graph.node[0]
        values = dict(zip([i.name for i in graph.input], inputs))
        layout = next((a.i for a in node.attribute if a.name == "layout"), 0)
        for i in list(graph.input):
            if i.name != "X":
                graph.initializer.append(numpy_helper.from_array(values[i.name], i.name))
                graph.input.remove(i)
        axes = {"X": "BT-", "Y": "BT--", "Y_h": "B--", "Y_c": "B--"} if layout else {"X": "TB-", "Y": "T-B-", "Y_h": "-B-", "Y_c": "-B-"}
        expected = dict(zip([o.name for o in graph.output], outputs))
        yield case(f"onnx {test.name}", test.model, {"X": values["X"]}, expected, axes, source="onnx", layout=layout)


def bare(name, op, rows=3, layout=0, steps=5, initial=None, lens=False, **options):
    """One recurrent node with all its outputs."""
    model = Model(name)
    width, hidden = 4, 5
    directions = 2 if options.get("direction") == "bidirectional" else 1
    x = model.vectors(axes="BT-" if layout else "TB-", rows=rows, steps=steps)
    if initial:
        shape = (rows, directions) if layout else (directions, rows)
        one = model.random.uniform(-0.8, 0.8, (1, directions, hidden) if layout else (directions, 1, hidden))
        options["h0"] = model.constant(np.broadcast_to(one, (*shape, hidden)))
        if op == "LSTM":
            options["c0"] = model.constant(np.broadcast_to(one[..., ::-1], (*shape, hidden)))
    if lens:
        lengths = np.array([steps, 2, steps - 1], dtype=np.int32)
        options["lens"] = model.input("lengths", ["batch"], lengths, "B")
    if layout:
        options["layout"] = layout
    values = model.recurrent(op, x, width, hidden, **options)
    y_axes, h_axes = ("BT--", "B--") if layout else ("T-B-", "-B-")
    for value, key, axes in zip(values, ["Y", "Y_h", "Y_c"], [y_axes, h_axes, h_axes]):
        model.output(key, value, axes)
    return model


def activations():
    for op, spec in {
        "Relu": {},
        "Softsign": {},
        "Softplus": {},
        "Sigmoid": {},
        "Elu": {"activation_alpha": [0.7]},
        "LeakyRelu": {},
        "ThresholdedRelu": {"activation_alpha": [0.3]},
        "HardSigmoid": {},
        "Affine": {"activation_alpha": [0.5], "activation_beta": [0.1]},
        "ScaledTanh": {"activation_alpha": [0.9], "activation_beta": [0.6]},
    }.items():
        yield bare(f"rnn activation {op}", "RNN", activations=[op], **spec)
    yield bare("lstm activations", "LSTM", activations=["HardSigmoid", "ScaledTanh", "Softsign"], activation_alpha=[0.3, 1.2], activation_beta=[0.4, 0.7])
    yield bare("lstm activations of both directions", "LSTM", direction="bidirectional",
               activations=["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Tanh", "Affine"], activation_alpha=[0.2, 0.25, 0.9], activation_beta=[0.45, 0.05])
    yield bare("gru activations", "GRU", activations=["HardSigmoid", "Elu"], linear_before_reset=1)


def nodes():
    yield bare("lstm forward", "LSTM")
    yield bare("lstm without bias", "LSTM", bias=False)
    yield bare("lstm bidirectional", "LSTM", direction="bidirectional")
    yield bare("lstm bidirectional from states with peepholes", "LSTM", direction="bidirectional", initial=True, peepholes=True)
    yield bare("lstm reverse from states", "LSTM", direction="reverse", initial=True)
    yield bare("lstm clip", "LSTM", clip=0.4, peepholes=True)
    yield bare("lstm input_forget", "LSTM", input_forget=1)
    yield bare("lstm layout 1 bidirectional", "LSTM", layout=1, direction="bidirectional", initial=True)
    yield bare("lstm sequence_lens", "LSTM", lens=True)
    yield bare("lstm bidirectional sequence_lens", "LSTM", lens=True, direction="bidirectional")
    yield bare("gru forward reset before", "GRU")
    yield bare("gru forward reset after", "GRU", linear_before_reset=1)
    yield bare("gru bidirectional reset after", "GRU", linear_before_reset=1, direction="bidirectional")
    yield bare("gru bidirectional reset before from states", "GRU", direction="bidirectional", initial=True)
    yield bare("gru clip", "GRU", clip=0.3)
    yield bare("gru clip reset after", "GRU", clip=0.3, linear_before_reset=1)
    yield bare("gru layout 1 reverse", "GRU", layout=1, direction="reverse")
    yield bare("gru reverse sequence_lens", "GRU", lens=True, direction="reverse")
    yield bare("rnn bidirectional from states", "RNN", direction="bidirectional", initial=True)
    yield bare("rnn clip", "RNN", clip=0.5)
    yield bare("rnn layout 1", "RNN", layout=1, initial=True)
    yield bare("lstm one step", "LSTM", steps=1, direction="bidirectional")
    yield from activations()


def squeeze(m, x, axis):
    return m.node("Squeeze", [x], axes=[axis]) if m.opset < 13 else m.node("Squeeze", [x, m.constant([axis])])


def unsqueeze(m, x, axis):
    return m.node("Unsqueeze", [x], axes=[axis]) if m.opset < 13 else m.node("Unsqueeze", [x, m.constant([axis])])


def linear(m, x, width, out):
    return m.node("Add", [m.node("MatMul", [x, m.weights(width, out)]), m.weights(out)])


def torch_bidirectional(m, y, hidden):
    """[T, 2, B, H] to [T, B, 2H], as PyTorch writes it."""
    return m.node("Reshape", [m.node("Transpose", [y], perm=[0, 2, 1, 3]), m.constant([0, 0, 2 * hidden])])


def models():
    m = Model("embedding, lstm, linear on the last state")
    e = m.node("Gather", [m.weights(11, 4), m.tokens()])
    _, h, _ = m.recurrent("LSTM", m.node("Transpose", [e], perm=[1, 0, 2]), 4, 6)
    logits = m.node("Gemm", [squeeze(m, h, 0), m.weights(7, 6), m.weights(7)], transB=1)
    m.output("logits", logits, "B-")
    m.output("best", m.node("ArgMax", [logits], axis=-1, keepdims=0), "B", TensorProto.INT64)
    yield m

    m = Model("embedding, gru, linear and softmax at every step", opset=11)
    e = m.node("Gather", [m.weights(11, 4), m.tokens(axes="TB")])
    y, _ = m.recurrent("GRU", e, 4, 6, linear_before_reset=1)
    m.output("probabilities", m.node("Softmax", [linear(m, squeeze(m, y, 1), 6, 5)], axis=2), "TB-")
    yield m

    m = Model("three stacked lstms as pytorch writes them")
    x = m.vectors(axes="BT-")
    h0 = m.input("h0", [3, "batch", 6], np.zeros((3, 3, 6), np.float32), "-B-")
    c0 = m.input("c0", [3, "batch", 6], np.zeros((3, 3, 6), np.float32), "-B-")
    value, hs, cs = m.node("Transpose", [x], perm=[1, 0, 2]), [], []
    for layer in range(3):
        parts = [m.node("Slice", [state, m.constant([layer]), m.constant([layer + 1]), m.constant([0])]) for state in (h0, c0)]
        y, h, c = m.recurrent("LSTM", value, 4 if layer == 0 else 6, 6, h0=parts[0], c0=parts[1])
        value = squeeze(m, y, 1)
        hs.append(h), cs.append(c)
    m.output("output", m.node("Transpose", [value], perm=[1, 0, 2]), "BT-")
    m.output("hn", m.node("Concat", hs, axis=0), "-B-")
    m.output("cn", m.node("Concat", cs, axis=0), "-B-")
    yield m, {"states": [["h0", "hn"], ["c0", "cn"]]}
    yield m, {"name": "three stacked lstms with all their states"}

    m = Model("zeros from the shape, then two grus of different sizes")
    x = m.vectors()
    batch = m.node("Gather", [m.node("Shape", [x]), m.constant(1)], axis=0)
    shape = m.node("Concat", [m.constant([2]), unsqueeze(m, batch, 0), m.constant([6])], axis=0)
    zeros = m.node("ConstantOfShape", [shape], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0]))
    first = m.node("Slice", [zeros, m.constant([0]), m.constant([1]), m.constant([0])])
    y, h1 = m.recurrent("GRU", x, 4, 6, h0=first, linear_before_reset=1)
    value = m.node("Relu", [squeeze(m, y, 1)])
    y, h2 = m.recurrent("GRU", value, 6, 3)
    m.output("last", m.node("Concat", [squeeze(m, h1, 0), squeeze(m, h2, 0)], axis=1), "B-")
    yield m

    m = Model("two bidirectional lstms, both last states to a classifier")
    value, hs = m.node("Gather", [m.weights(11, 4), m.tokens(axes="TB")]), []
    for layer in range(2):
        y, h, _ = m.recurrent("LSTM", value, 4 if layer == 0 else 10, 5, direction="bidirectional")
        value = torch_bidirectional(m, y, 5)
        hs.append(h)
    hn = m.node("Concat", hs, axis=0)
    last = [m.node("Gather", [hn, m.constant(i)], axis=0) for i in (-2, -1)]
    m.output("logits", m.node("Gemm", [m.node("Concat", last, axis=1), m.weights(10, 3), m.weights(3)]), "B-")
    yield m

    m = Model("bidirectional tagger")
    e = m.node("Gather", [m.weights(11, 4), m.tokens()])
    y, _, _ = m.recurrent("LSTM", m.node("Transpose", [e], perm=[1, 0, 2]), 4, 5, direction="bidirectional")
    value = m.node("Transpose", [torch_bidirectional(m, y, 5)], perm=[1, 0, 2])
    m.output("tags", m.node("LogSoftmax", [linear(m, value, 10, 4)], axis=-1), "BT-")
    yield m

    m = Model("the last step of a bidirectional gru in time")
    y, _ = m.recurrent("GRU", m.vectors(), 4, 5, direction="bidirectional")
    value = torch_bidirectional(m, y, 5)
    m.output("y", linear(m, m.node("Gather", [value, m.constant(-1)], axis=0), 10, 3), "B-")
    yield m

    m = Model("dense, bidirectional gru, gru, last step")
    value = m.node("Relu", [linear(m, m.vectors(axes="BT-"), 4, 6)])
    y, _ = m.recurrent("GRU", m.node("Transpose", [value], perm=[1, 0, 2]), 6, 5, direction="bidirectional")
    y, _ = m.recurrent("GRU", torch_bidirectional(m, y, 5), 10, 4, linear_before_reset=1)
    value = m.node("Slice", [squeeze(m, y, 1), m.constant([-1]), m.constant([2**31 - 1]), m.constant([0])])
    m.output("y", m.node("Sigmoid", [squeeze(m, value, 0)]), "B-")
    yield m

    m = Model("forward and reverse lstms side by side, with a residual")
    x = m.vectors()
    forward, _, _ = m.recurrent("LSTM", x, 4, 4)
    reverse, _, _ = m.recurrent("LSTM", x, 4, 4, direction="reverse")
    value = m.node("Add", [m.node("Add", [squeeze(m, forward, 1), squeeze(m, reverse, 1)]), x])
    scale, bias = m.weights(4), m.weights(4)
    m.output("y", m.node("LayerNormalization", [value, scale, bias], axis=-1), "TB-")
    yield m

    m = Model("forward and reverse lstms side by side, added")
    x = m.vectors()
    sides = [m.recurrent("LSTM", x, 4, 5, **options)[0] for options in ({}, {"direction": "reverse"})]
    m.output("y", m.node("Add", [squeeze(m, side, 1) for side in sides]), "TB-")
    yield m

    m = Model("mean over the steps, then linear")
    y, _, _ = m.recurrent("LSTM", m.vectors(axes="BT-"), 4, 5, layout=1, direction="bidirectional")
    value = m.node("Reshape", [y, m.constant([0, 0, -1])])
    m.output("y", linear(m, m.node("ReduceMean", [value], axes=[1], keepdims=0), 10, 2), "B-")
    yield m

    m = Model("max over the steps of a gru")
    y, _ = m.recurrent("GRU", m.vectors(), 4, 5, linear_before_reset=1)
    m.output("y", m.node("ReduceMax", [squeeze(m, y, 1)], axes=[0], keepdims=0), "B-")
    yield m

    m = Model("two inputs, tokens and values")
    e = m.node("Gather", [m.weights(11, 4), m.tokens(axes="BT")])
    both = m.node("Concat", [e, m.vectors("values", width=2, axes="BT-")], axis=2)
    y, _, c = m.recurrent("LSTM", m.node("Transpose", [both], perm=[1, 0, 2]), 6, 5)
    m.output("y", m.node("Transpose", [y], perm=[2, 0, 1, 3]), "BT--")
    m.output("c", c, "-B-")
    yield m

    m = Model("steps and rows as one axis for a dense layer")
    y, _ = m.recurrent("RNN", m.vectors(), 4, 5)
    flat = m.node("Reshape", [y, m.constant([-1, 5])])
    dense = m.node("Tanh", [m.node("Gemm", [flat, m.weights(5, 3), m.weights(3)], alpha=0.5)])
    shape = m.node("Slice", [m.node("Shape", [y]), m.constant([0]), m.constant([1]), m.constant([0])])
    m.output("y", m.node("Reshape", [dense, m.node("Concat", [shape, m.constant([-1, 3])], axis=0)]), "TB-")
    yield m

    m = Model("without an axis of rows")
    x = m.vectors(axes="T-")
    y, h, _ = m.recurrent("LSTM", unsqueeze(m, x, 1), 4, 5)
    m.output("y", squeeze(m, squeeze(m, y, 1), 1), "T-")
    yield m

    m = Model("weights of half precision, version 7 of the operators", opset=7)
    x = m.vectors(shape=["seq", 1, 4], rows=1)
    half = [m.constant(m.random.uniform(-0.6, 0.6, shape), np.float16) for shape in [(1, 20, 4), (1, 20, 5)]]
    w, r = [m.node("Cast", [k], to=TensorProto.FLOAT) for k in half]
    y, _, _ = m.node("LSTM", [x, w, r], 3, hidden_size=5)
    value = m.node("BatchNormalization", [m.node("Transpose", [squeeze(m, y, 1)], perm=[1, 2, 0]), *[m.constant(m.random.uniform(0.4, 1, 5)) for _ in range(4)]])
    m.output("y", value, "B-T")
    yield m

    m = Model("a convolution of single steps before a reverse gru")
    x = m.vectors(axes="B-T")
    value = m.node("Conv", [x, m.weights(6, 4, 1), m.weights(6)], kernel_shape=[1])
    y, h = m.recurrent("GRU", m.node("Transpose", [value], perm=[2, 0, 1]), 6, 5, direction="reverse")
    m.output("h", m.node("Clip", [squeeze(m, h, 0), m.constant(-0.3), m.constant(0.2)]), "B-")
    yield m


def refused():
    """Graphs that mix steps, with a part of the reason."""
    m = Model("a convolution over steps")
    value = m.node("Conv", [m.vectors(axes="B-T"), m.weights(4, 4, 3)], kernel_shape=[3], pads=[1, 1])
    y, _ = m.recurrent("GRU", m.node("Transpose", [value], perm=[2, 0, 1]), 4, 5)
    m.output("y", y, "T-B-")
    yield m, "Conv_0' (Conv) sees neighbouring steps"

    m = Model("attention over steps")
    y, _ = m.recurrent("GRU", m.vectors(), 4, 5)
    value = squeeze(m, y, 1)
    weights = m.node("Softmax", [linear(m, value, 5, 1)], axis=0)
    m.output("y", m.node("ReduceSum", [m.node("Mul", [weights, value]), m.constant([0])], keepdims=0), "B-")
    yield m, "(Softmax) normalises over the steps"

    m = Model("a decoder that begins from an encoder")
    x = m.vectors()
    _, h = m.recurrent("GRU", x, 4, 5)
    y, _ = m.recurrent("GRU", x, 4, 5, h0=h)
    m.output("y", y, "T-B-")
    yield m, "(GRU) begins from a state"

    m = Model("the last state at every step")
    y, h = m.recurrent("GRU", m.vectors(), 4, 5)
    m.output("y", m.node("Add", [squeeze(m, y, 1), h]), "TB-")
    yield m, "(Add) joins a value of"

    m = Model("an operator nobody knows")
    y, h = m.recurrent("GRU", m.vectors(), 4, 5)
    m.nodes.append(helper.make_node("FancyNorm", [y], ["fancy"], name="fancy", domain="com.microsoft"))
    m.output("y", "fancy", "T-B-")
    yield m, "'fancy' (FancyNorm) is of domain 'com.microsoft'"

    m = Model("a running sum")
    y, h = m.recurrent("GRU", m.vectors(), 4, 5)
    m.output("y", m.node("CumSum", [y, m.constant(0)]), "T-B-")
    yield m, "(CumSum) is not known"

    m = Model("every step with every other")
    y, h = m.recurrent("GRU", m.vectors(), 4, 5)
    m.output("y", m.node("Add", [squeeze(m, y, 1), y]), "TTB-")
    yield m, "(Add) combines every step with every other"

    m = Model("the mean of the rows")
    y, h = m.recurrent("GRU", m.vectors(), 4, 5)
    m.output("y", m.node("ReduceMean", [y], axes=[2], keepdims=1), "T-B-")
    yield m, "(ReduceMean) sums up the rows"

    m = Model("states of the lower of two bidirectional layers")
    y, h1 = m.recurrent("GRU", m.vectors(), 4, 5, direction="bidirectional")
    y, h2 = m.recurrent("GRU", torch_bidirectional(m, y, 5), 10, 5, direction="bidirectional")
    m.output("hn", m.node("Concat", [h1, h2], axis=0), "-B-")
    yield m, "(GRU)"

    m = Model("an initial state that nothing goes on with")
    h0 = m.input("context", [1, "batch", 5], np.zeros((1, 3, 5), np.float32), "-B-")
    y, _ = m.recurrent("GRU", m.vectors(), 4, 5, h0=h0)
    m.output("y", y, "T-B-")
    yield m, "input 'context' is an initial state"


def step_graphs():
    """Graphs of one step, with the axis of rows of every tensor where it is not the first."""
    m = Model("gru step with tokens, a state of two layers and a scalar")
    tokens = m.input("tokens", ["batch"], m.random.integers(0, 9, (4, 3)), "TB")
    h_in = m.input("h_in", [2, "batch", 5], np.zeros((2, 3, 5), np.float32), "-B-")
    scale = m.input("temperature", [], np.array(0.7, np.float32), "")
    x = m.node("Unsqueeze", [m.node("Gather", [m.weights(9, 5), tokens]), m.constant([0])])
    hs = []
    for layer in range(2):
        part = m.node("Slice", [h_in, m.constant([layer]), m.constant([layer + 1]), m.constant([0])])
        _, h = m.recurrent("GRU", x, 5, 5, h0=part, linear_before_reset=1)
        x = h
        hs.append(h)
    logits = m.node("Div", [linear(m, squeeze(m, x, 0), 5, 4), scale])
    m.output("logits", logits, "TB-", shape=["batch", 4])
    m.output("best", m.node("ArgMax", [logits], axis=-1, keepdims=0), "TB", TensorProto.INT64, ["batch"])
    m.output("h_out", m.node("Concat", hs, axis=0), "-B-", shape=[2, "batch", 5])
    yield m, {"constants": {"temperature": 0.7}}, {"h_in": "h_out"}

    m = Model("lstm node with an axis of one step before the rows")
    x = m.input("x", [1, "batch", 4], m.random.standard_normal((4, 1, 3, 4)).astype(np.float32), "T-B-")
    h, c = [m.input(name, [1, "batch", 5], np.zeros((1, 3, 5), np.float32), "-B-") for name in ("h0", "c0")]
    for value, name, axes in zip(m.recurrent("LSTM", x, 4, 5, h0=h, c0=c), ["y", "hn", "cn"], ["T--B-", "-B-", "-B-"]):
        m.output(name, value, axes, shape=[1, 1, "batch", 5] if name == "y" else [1, "batch", 5])
    yield m, {}, {"h0": "hn", "c0": "cn"}

    m = Model("a convolution that keeps its past, a counter of whole numbers")
    x = m.input("x", ["batch", 2, 3], m.random.standard_normal((4, 3, 2, 3)).astype(np.float32), "TB--")
    past = m.input("past_conv", ["batch", 2, 2], np.zeros((3, 2, 2), np.float32), "B--")
    count = m.input("count", ["batch", 1], np.zeros((3, 1), np.int64), "B-")
    both = m.node("Concat", [past, x], axis=2)
    y = m.node("Conv", [both, m.weights(2, 2, 3)])
    after = m.node("Add", [count, m.constant([1])])
    m.output("y", m.node("Mul", [y, m.node("Unsqueeze", [m.node("Cast", [after], to=TensorProto.FLOAT), m.constant([2])])]), "TB--", shape=["batch", 2, 3])
    m.output("present_conv", m.node("Slice", [both, m.constant([-2]), m.constant([9]), m.constant([2])]), "B--", shape=["batch", 2, 2])
    m.output("new_count", after, "B-", TensorProto.INT64, ["batch", 1])
    yield m, {}, {"past_conv": "present_conv", "count": "new_count"}


def run_steps(model, options, states):
    """Runs a step graph over its steps, each from the states of the one before."""
    proto = model.proto()
    feeds = dict(model.feeds)
    steps = next(len(feeds[name]) for name, axes in model.axes.items() if name in feeds and axes.startswith("T"))
    results = []
    for step in range(steps):
        now = {name: value[step] if model.axes[name].startswith("T") else value for name, value in feeds.items()}
        results.append(run(proto, now))
        for before, after in states.items():
            feeds[before] = results[-1][after]
    given = {name: value for name, value in model.feeds.items() if model.axes[name].startswith("T")}
    expected = {name: np.stack([one[name] for one in results]) for name, axes in model.axes.items() if axes.startswith("T") and name not in feeds}
    return case(model.name, proto, given, expected, model.axes, source="own", layout=0, options=options)


def external_data():
    """A graph whose weights lie in a file beside it."""
    m = Model("external")
    e = m.node("Gather", [m.weights(11, 4), m.tokens()])
    y, _, _ = m.recurrent("LSTM", m.node("Transpose", [e], perm=[1, 0, 2]), 4, 5)
    m.output("y", linear(m, squeeze(m, y, 1), 5, 3), "TB-")
    inside = m.proto()
    outside = m.proto()
    (FOLDER / "external.weights").unlink(missing_ok=True)
    onnx.save_model(outside, FOLDER / "external.onnx", save_as_external_data=True, location="external.weights", size_threshold=0)
    return case("weights in a file beside the graph", inside, m.feeds, run(inside, m.feeds), m.axes, source="own", layout=0)


def main():
    FOLDER.mkdir(exist_ok=True)
    cases = list(operator_tests())
    for model in [*nodes(), *models()]:
        model, more = model if isinstance(model, tuple) else (model, {})
        proto = model.proto()
        layout = int(any(a.name == "layout" and a.i for n in proto.graph.node for a in n.attribute))
        expected = run(in_layout_0(proto), model.feeds)
        cases.append(case(**{"name": model.name, **more}, proto=proto, feeds=model.feeds, expected=expected, axes=model.axes, source="own", layout=layout))
    refusals = [
        {"name": model.name, "model": base64.b64encode(model.proto().SerializeToString()).decode(), "why": why}
        for model, why in refused()
    ]
    cases.append(external_data())
    steps = ",\n".join(json.dumps(run_steps(*one), separators=(",", ":")) for one in step_graphs())
    text = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    more = ",\n".join(json.dumps(one, separators=(",", ":")) for one in refusals)
    (FOLDER / "cases.json").write_text(f'{{"cases":[\n{text}\n],"steps":[\n{steps}\n],"refused":[\n{more}\n]}}\n')


if __name__ == "__main__":
    main()
