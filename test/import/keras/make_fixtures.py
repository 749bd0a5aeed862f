"""Writes small random Keras models with inputs and Keras's own outputs.

    pip install keras torch h5py numpy
    python make_fixtures.py

Each case holds the same model as Keras 3 saves it (`.keras`) and as `tensorflowjs_converter` writes it: from Keras 2 and,
for some, from Keras 3. The converter and TensorFlow are not needed: `keras2` and `layers_model` below follow its sources
(tfjs-converter/python/tensorflowjs/converters/keras_h5_conversion.py and write_weights.py) and the configs of TensorFlow 2.15.
What TensorFlow.js itself writes is in make_tfjs_fixtures.mjs.
"""

import base64
import io
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers as L  # noqa: E402

INPUT, UNITS, SYMBOLS, CLASSES = 3, 4, 7, 3
LENGTHS = (1, 4, 6)
random = np.random.default_rng(1)


def hard_sigmoid_2(x):
    """As Keras 2 and TensorFlow.js define it; Keras 3 has another."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# ---- files


def packed(content):
    return base64.b64encode(zlib.compress(content, 9)).decode()


def archive(model):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def old_archive(content):
    """The same with its weights as TensorFlow 2.13 laid them out: layers are counted once more where they have weights."""
    source = zipfile.ZipFile(io.BytesIO(content))
    weights = io.BytesIO()
    with h5py.File(io.BytesIO(source.read("model.weights.h5"))) as new, h5py.File(weights, "w") as old:
        counts = {}
        for name in new["layers"]:
            kind = name.rstrip("0123456789").rstrip("_")
            counts[kind] = counts.get(kind, -1) + 1
            group = f"_layer_checkpoint_dependencies/{kind}" + (f"_{2 * counts[kind]}" if counts[kind] else "")
            new.copy(new[f"layers/{name}"], old, group)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("metadata.json", json.dumps({"keras_version": "2.13.1"}))
        written.writestr("config.json", json.dumps(keras2(json.loads(source.read("config.json")))))
        written.writestr("model.weights.h5", weights.getvalue())
    return target.getvalue()


def legacy(model):
    """Config and named weights of an HDF5 file that the converter would read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        model.save(path)
        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"])
            weights = []
            for layer in file["model_weights"].values():
                names = layer.attrs["weight_names"]
                weights += [(str(name), np.array(layer[name])) for name in names]
    return config, weights


def keras2(value):
    """A config of Keras 3 as Keras 2 would have written it."""
    if isinstance(value, list):
        return [keras2(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    if value.get("class_name") == "function":
        return value["config"].removesuffix("_2")
    if "inbound_nodes" in value:
        nodes = [
            [[*argument["config"]["keras_history"], {}] for argument in node["args"]]
            for node in value["inbound_nodes"]
        ]
        value = {**value, "inbound_nodes": nodes}
    dropped = ("module", "registered_name", "build_config", "compile_config", "shared_object_id", "optional", "seed")
    kept = {key: keras2(one) for key, one in value.items() if key not in dropped}
    if value.get("class_name") == "Bidirectional" and kept["config"]["layer"]["config"]["name"].startswith("forward_"):
        # Keras 2 gives the prefix to copies of the layer, and keeps the other one only where it was given.
        config = kept["config"]
        forward, backward = config["layer"]["config"], config["backward_layer"]["config"]
        for one in (forward, backward):
            one["name"] = one["name"].split("_", 1)[1]
        if {**backward, "go_backwards": False} == forward:
            del config["backward_layer"]
    if value.get("class_name") == "InputLayer":
        kept["config"]["batch_input_shape"] = kept["config"].pop("batch_shape")
    for key in ("input_layers", "output_layers"):
        if key in kept:
            kept[key] = [kept[key]]
    return kept


def name2(name):
    """A weight's name as Keras 2 has it: without the model and without the layer in a TimeDistributed."""
    parts = name.split("/")
    parts = parts[1:] if parts[0] == "sequential" else parts
    return "/".join([parts[0], parts[-1]] if parts[0].startswith("time_distributed") else parts)


def quantised(values, kind):
    """As the converter's quantization.py: the range is moved so that 0 is one of the values."""
    if kind == "float16":
        half = values.astype(np.float16)
        return half, {"dtype": kind, "original_dtype": "float32"}, half.astype(np.float32)
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    steps = np.iinfo(kind).max
    scale = float(high - low) / steps
    offset = round(-float(low) / scale)
    low = -offset * scale
    stored = np.clip(np.round((values - low) / scale), 0, steps).astype(kind)
    restored = (stored.astype(np.float64) * scale + low).astype(np.float32)
    return stored, {"dtype": kind, "min": low, "scale": scale, "original_dtype": "float32"}, restored


def layers_model(config, weights, version, quantisation=None, shard=4 * 2**20, groups=1):
    entries, files, manifest = [], {}, []
    for name, values in weights:
        entry = {"name": name, "shape": list(values.shape), "dtype": "float32"}
        if quantisation:
            values, entry["quantization"], _ = quantised(values, quantisation)
        entries.append((entry, values.tobytes()))
    for group in range(groups):
        own = entries[group::groups]
        content = b"".join(values for _, values in own)
        parts = [content[at : at + shard] for at in range(0, len(content), shard)]
        paths = [f"group{group + 1}-shard{i + 1}of{len(parts)}.bin" for i in range(len(parts))]
        files.update(zip(paths, parts, strict=True))
        manifest.append({"paths": paths, "weights": [entry for entry, _ in own]})
    model = {
        "format": "layers-model",
        "generatedBy": f"keras v{version}",
        "convertedBy": "TensorFlow.js Converter v4.22.0",
        "modelTopology": {"keras_version": version, "backend": "tensorflow", "model_config": config},
        "weightsManifest": manifest,
    }
    return {"model.json": json.dumps(model).encode(), **files}


# ---- models


def randomise(model, scale=0.7):
    for layer in model.layers:
        layer.set_weights([random.normal(size=one.shape, scale=scale).astype("float32") for one in layer.get_weights()])


def flat(values):
    return [float(str(one)) for one in np.asarray(values, dtype="float32").ravel()]


def run(model, takes_tokens):
    inputs, outputs = [], []
    for length in LENGTHS:
        if takes_tokens:
            given = random.integers(1, SYMBOLS, (1, length))
        else:
            given = random.normal(size=(1, length, INPUT)).astype("float32")
        inputs.append([int(one) for one in given.ravel()] if takes_tokens else flat(given))
        outputs.append(flat(keras.ops.convert_to_numpy(model(given, training=False))))
    return {"input": "token" if takes_tokens else "x", "inputs": inputs, "outputs": outputs}


cases = []


def case(name, *layers, tokens=False, functional=False, formats=("tfjs2",), note=None, turned=False, **options):
    """`turned` says that Keras answers the last step first. Files come by format: to name, to content."""
    keras.utils.clear_session()
    layers = [build() for build in layers]
    first = keras.Input((None,), dtype="int32") if tokens else keras.Input((None, INPUT))
    if functional:
        values = first
        for layer in layers:
            values = layer(values)
        model = keras.Model(first, values)
    else:
        model = keras.Sequential([first, *layers])
    randomise(model)
    kind = options.pop("quantisation", None)
    if kind:
        for layer in model.layers:
            layer.set_weights([quantised(one, kind)[2] for one in layer.get_weights()])
    files = {}
    for form in formats:
        if form == "keras":
            files[form] = {"model.keras": packed(archive(model))}
        elif form == "old":
            files[form] = {"model.keras": packed(old_archive(archive(model)))}
        else:
            config, weights = legacy(model)
            if form == "tfjs2":
                config, weights = keras2(config), [(name2(key), value) for key, value in weights]
            version = "2.15.0" if form == "tfjs2" else keras.__version__
            written = layers_model(config, weights, version, kind, **options)
            files[form] = {key: packed(content) for key, content in written.items()}
    outcome = run(model, tokens)
    if turned:
        width = model.output_shape[-1]
        outcome["outputs"] = [flat(np.reshape(one, (-1, width))[::-1]) for one in outcome["outputs"]]
    cases.append({"name": name, "files": files, **({"note": note} if note else {}), **outcome})


def recurrent_cases(name, make):
    rnn = lambda **more: lambda: make(UNITS, **more)
    both = lambda merge, **more: lambda: L.Bidirectional(make(UNITS, **more), merge_mode=merge)
    embedding = lambda: L.Embedding(SYMBOLS, INPUT)
    dense = lambda: L.Dense(CLASSES)
    case(f"{name}, last step", rnn(), formats=("keras", "tfjs2", "tfjs3"))
    case(f"{name}, all steps", rnn(return_sequences=True))
    case(f"{name} without biases, linear", rnn(use_bias=False), dense)
    case(
        f"{name}, embedding, all steps, TimeDistributed",
        embedding,
        rnn(return_sequences=True),
        lambda: L.TimeDistributed(L.Dense(CLASSES)),
        tokens=True,
        formats=("keras", "tfjs2", "tfjs3"),
    )
    case(
        f"{name}, two layers, softmax",
        rnn(return_sequences=True),
        lambda: L.Dropout(0.5),
        rnn(),
        lambda: L.Dense(CLASSES, activation="softmax"),
        functional=True,
        formats=("keras", "tfjs2", "tfjs3", "old"),
    )
    case(f"{name}, go_backwards", rnn(go_backwards=True), dense)
    case(f"{name}, go_backwards, all steps", rnn(go_backwards=True, return_sequences=True), turned=True)
    case(f"{name}, go_backwards before a layer", rnn(go_backwards=True, return_sequences=True), rnn(), dense)
    case(f"{name}, go_backwards twice", *[rnn(go_backwards=True, return_sequences=True)] * 2)
    for merge in ("concat", "sum", "mul", "ave"):
        formats = ("keras", "tfjs2", "tfjs3", "old") if merge == "concat" else ("tfjs2",)
        case(f"{name}, both ways ({merge}), last step", both(merge), dense, formats=formats)
        case(f"{name}, both ways ({merge}), all steps", both(merge, return_sequences=True), formats=formats[:2])
    case(
        f"{name}, both ways after go_backwards",
        rnn(go_backwards=True, return_sequences=True),
        both("concat", return_sequences=True),
        lambda: L.Bidirectional(make(UNITS)),
        dense,
        formats=("keras",),
    )
    case(
        f"{name}, two layers both ways, embedding",
        embedding,
        both("concat", return_sequences=True),
        both("concat", return_sequences=True),
        dense,
        tokens=True,
    )


def other_cases():
    lstm = lambda **more: lambda: L.LSTM(UNITS, **more)
    for recurrent in ("hard_sigmoid", "relu", "softsign", "linear"):
        for activation in ("relu", "elu", "softplus", "leaky_relu"):
            if activation != "relu" and recurrent != "hard_sigmoid":
                continue
            case(
                f"LSTM with {activation} and {recurrent}",
                lstm(activation=activation, recurrent_activation=recurrent),
                formats=("tfjs3",),
            )
    for make in (L.LSTM, L.GRU):
        case(
            f"{make.__name__} with hard_sigmoid of Keras 2",
            lambda make=make: make(UNITS, recurrent_activation=hard_sigmoid_2),
            formats=("tfjs2",),
        )
    case("SimpleRNN with hard_sigmoid", lambda: L.SimpleRNN(UNITS, activation="hard_sigmoid"), formats=("keras", "tfjs3"))
    names = "relu relu6 elu selu softplus softsign tanh sigmoid exponential silu gelu mish leaky_relu hard_silu log_softmax"
    for name in names.split():
        case(f"Dense with {name}", lstm(), lambda name=name: L.Dense(CLASSES, activation=name), formats=("tfjs3",))
    case("Activation after a layer", lstm(return_sequences=True), lambda: L.Activation("softmax"))
    cells = {"LSTM": L.LSTMCell, "GRU": L.GRUCell, "SimpleRNN": L.SimpleRNNCell}
    for name, cell in cells.items():
        case(f"RNN of {name}Cell", lambda cell=cell: L.RNN(cell(UNITS), return_sequences=True), formats=("keras", "tfjs2", "tfjs3"))
    case(
        "Embedding that masks",
        lambda: L.Embedding(SYMBOLS, INPUT, mask_zero=True),
        lambda: L.Bidirectional(L.GRU(UNITS)),
        tokens=True,
        formats=("keras", "tfjs2"),
        note="skips steps of token 0",
    )
    case("Masking", lambda: L.Masking(-1.0), lstm(), formats=("keras", "tfjs2", "tfjs3"), note="skips steps of value -1")
    for pool in (L.GlobalAveragePooling1D, L.GlobalMaxPooling1D):
        case(pool.__name__, lambda: L.Bidirectional(L.LSTM(UNITS, return_sequences=True)), pool, lambda: L.Dense(CLASSES))
    case(
        "Bidirectional with layers that differ",
        lambda: L.Bidirectional(
            L.LSTM(UNITS, recurrent_activation="hard_sigmoid"),
            backward_layer=L.LSTM(UNITS, activation="relu", go_backwards=True),
        ),
        formats=("keras", "tfjs3"),
    )
    case("layers of several widths", lambda: L.Dense(5, activation="tanh"), lstm(return_sequences=True), lambda: L.GRU(2), lambda: L.Dense(6, activation="relu"), lambda: L.Dropout(0.1), lambda: L.Dense(1, activation="sigmoid"), formats=("keras", "tfjs2"))
    for kind in ("uint8", "uint16", "float16"):
        case(f"weights of {kind}", lstm(), lambda: L.Dense(CLASSES), formats=("tfjs2",), quantisation=kind)
    case("weights in many files", lstm(), lambda: L.Dense(CLASSES), formats=("tfjs2",), shard=101, groups=2)
    for policy in ("float64", "bfloat16"):
        keras.config.set_dtype_policy(policy)
        case(f"weights of {policy}", lstm(), formats=("keras",))
        keras.config.set_dtype_policy("float32")


def main():
    recurrent_cases("LSTM", L.LSTM)
    recurrent_cases("GRU, reset after", L.GRU)
    recurrent_cases("GRU, reset before", lambda units, **more: L.GRU(units, reset_after=False, **more))
    recurrent_cases("SimpleRNN", L.SimpleRNN)
    other_cases()
    path = Path(__file__).parent / "fixtures" / "cases.json"
    text = "[\n" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases) + "\n]\n"
    path.write_text(text, encoding="utf-8")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
