"""Trains the marker and writes weights, vocabulary and fixture.

    python train.py --dictionary index.js --out .
"""

import argparse
import json
import random
import time
from pathlib import Path
from zlib import crc32

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from measure import by_vowel, mark, on_first_vowel, shares, without_relatives
from network import Marker
from words import read_words, split

# Another kernel rounds differently; a fixture word must not hang on the last bits.
FIXTURE_GAP = 0.05
# The cells of `model.json`, by what PyTorch puts behind a weight's name.
CELLS = {"_l0": "first.ahead.", "_l0_reverse": "first.back.", "_l1": "second.ahead.", "_l1_reverse": "second.back."}


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    training, development, held_out = split(read_words(options.dictionary))
    print(f"{len(training)} words to train on, {len(development)} watched, {len(held_out)} held out", flush=True)
    vocabulary = make_vocabulary(training)
    marker = make_marker(vocabulary, options, options.dropout)
    train(marker, training, development, vocabulary, options)
    out = Path(options.out)
    store(marker, out)
    write_json(out / "vocabulary.json", vocabulary)
    report(out, vocabulary, training, held_out, options)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dictionary", required=True, help="index.js of cmu-pronouncing-dictionary")
    parser.add_argument("--out", required=True, help="folder for the weights, vocabulary and fixture")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--embedding", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rows", type=int, default=256, help="words in a batch")
    parser.add_argument("--rate", type=float, default=5e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def make_vocabulary(words):
    marked = sorted({symbol for _, ways in words for way in ways for symbol in way})
    return {"input": sorted({symbol.rstrip("012") for symbol in marked}), "output": marked}


def make_marker(vocabulary, options, dropout=0.0):
    return Marker(len(vocabulary["input"]), options.embedding, options.hidden, len(vocabulary["output"]), dropout)


def batches_of(words, rows, chance):
    """Shuffled batches of words of one length, which need no padding."""
    words = sorted(chance.sample(words, len(words)), key=lambda word: len(word[0]))
    batches, batch = [], []
    for word in words:
        if batch and (len(batch) == rows or len(batch[0][0]) != len(word[0])):
            batches.append(batch)
            batch = []
        batch.append(word)
    batches.append(batch)
    chance.shuffle(batches)
    return batches


def train(marker, training, development, vocabulary, options):
    chance = random.Random(options.seed)
    number = {side: {symbol: at for at, symbol in enumerate(vocabulary[side])} for side in ("input", "output")}
    optimizer = torch.optim.AdamW(marker.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    epochs = [batches_of(training, options.rows, chance) for _ in range(options.epochs)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=sum(map(len, epochs)), pct_start=0.1, cycle_momentum=False
    )
    began = time.monotonic()
    for epoch, batches in enumerate(epochs, 1):
        marker.train()
        total = 0.0
        for batch in batches:
            read = torch.tensor([[number["input"][one] for one in phonemes] for phonemes, _ in batch]).T
            # A word with several ways is taught one of them, drawn anew each time.
            wanted = torch.tensor([[number["output"][one] for one in chance.choice(ways)] for _, ways in batch]).T
            loss = cross_entropy(marker(read).flatten(0, 1), wanted.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(marker.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        right, vowels = shares(mark(marker, [phonemes for phonemes, _ in development], vocabulary)[0], development)
        print(
            f"epoch {epoch} {time.monotonic() - began:.0f} s loss {total / len(batches):.4f}"
            f" development words {right:.4f} vowels {vowels:.4f}",
            flush=True,
        )


def store(marker, out):
    tensors = marker.state_dict()
    cells = {}
    for name, tensor in tensors.items():
        if not name.startswith("gru."):
            continue
        plain = name.removeprefix("gru.")
        suffix = plain[plain.index("_l") :]
        cells[CELLS[suffix] + plain.removesuffix(suffix)] = tensor.half().contiguous()
    for cell in ("first.ahead.", "first.back."):
        cells[cell + "embedding.weight"] = tensors["embedding.weight"].half().clone()
    save_file(cells, out / "weights.safetensors")
    onnx.save(head_graph(tensors["head.weight"], tensors["head.bias"]), out / "head.onnx")


def head_graph(weight, bias):
    """The likeliest marked phoneme: `h [rows, 2 * hidden]` to `token [rows]`."""
    nodes = [
        helper.make_node("Gemm", ["h", "weight", "bias"], ["logits"], transB=1),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["token"], to=TensorProto.INT32),
    ]
    given = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["rows", weight.shape[1]])
    wanted = helper.make_tensor_value_info("token", TensorProto.INT32, ["rows"])
    weights = [numpy_helper.from_array(weight.numpy(), "weight"), numpy_helper.from_array(bias.numpy(), "bias")]
    graph = helper.make_graph(nodes, "head", [given], [wanted], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def read_stored(out, vocabulary, options):
    """What was stored, not what was trained."""
    cells = load_file(out / "weights.safetensors")
    head = {one.name: torch.tensor(numpy_helper.to_array(one)) for one in onnx.load(out / "head.onnx").graph.initializer}
    tensors = {"embedding.weight": cells["first.ahead.embedding.weight"].float()}
    tensors |= {f"head.{name}": tensor for name, tensor in head.items()}
    for suffix, cell in CELLS.items():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            tensors[f"gru.{name}{suffix}"] = cells[cell + name].float()
    marker = make_marker(vocabulary, options)
    marker.load_state_dict(tensors)
    return marker


def report(out, vocabulary, training, held_out, options):
    marker = read_stored(out, vocabulary, options)
    apart = without_relatives(held_out, training)
    for title, words in (("held out", held_out), ("held out, without near relatives", apart)):
        several = [one for one in words if sum(symbol[-1].isdigit() for symbol in one[1][0]) > 1]
        said, _ = mark(marker, [phonemes for phonemes, _ in words], vocabulary)
        for subset, some in (("", words), (" of two vowels or more", several)):
            print(f"{title}: {len(some)} words{subset}")
            for name, by in (("model", said), ("first vowel", on_first_vowel(some)), ("by vowel", by_vowel(some, training))):
                right, vowels = shares(by, some)
                print(f"  {name}: words {right:.4f}, vowels {vowels:.4f}")
    write_json(out / "expected.json", fixture(marker, vocabulary, held_out))


def fixture(marker, vocabulary, held_out, size=50):
    """The first words in order of their hash: any order that does not look at the answers would do."""
    words = sorted((phonemes for phonemes, _ in held_out), key=lambda phonemes: (crc32(" ".join(phonemes).encode()), phonemes))
    said, leads = mark(marker, words, vocabulary)
    clear = [phonemes for phonemes in words if leads[phonemes] > FIXTURE_GAP][:size]
    return {"words": [{"text": " ".join(phonemes), "marked": " ".join(said[phonemes])} for phonemes in clear]}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
