"""Trains the reckoner and writes weights, vocabulary and fixture. Needs no data: the expressions are made here.

    python train.py --out .
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from expressions import DIGITS, SYMBOLS, depth_of, expressions, symbols_of, text_of
from levels import batch_of
from measure import accuracy, answers, commonest
from network import Reckoner, stored

# Another kernel rounds differently; a fixture must not hang on the last bits.
FIXTURE_GAP = 0.1


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    development = list(expressions(random.Random(options.seed + 2), 600, held_out=True))
    reckoner = Reckoner(len(SYMBOLS), options.embedding, options.hidden, len(DIGITS))
    train(reckoner, development, options)
    out = Path(options.out)
    tensors, _ = stored(reckoner)
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, out / "weights.safetensors")
    write_json(out / "vocabulary.json", {"input": SYMBOLS, "output": DIGITS})
    report(out, development, options)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the weights, vocabulary and fixture")
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--embedding", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1400, help="batches")
    parser.add_argument("--rows", type=int, default=128, help="expressions in a batch")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def train(reckoner, development, options):
    chance = random.Random(options.seed)
    optimizer = torch.optim.AdamW(reckoner.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.steps, pct_start=0.05, cycle_momentum=False
    )
    began, total = time.monotonic(), 0.0
    for step in range(1, options.steps + 1):
        reckoner.train()
        batch = batch_of(list(expressions(chance, options.rows, held_out=False)))
        # Every expression inside an expression is a lesson too.
        loss = cross_entropy(reckoner(batch), batch.values)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reckoner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            right, _ = accuracy(answers(reckoner, development), development)
            print(f"step {step} {time.monotonic() - began:.0f} s loss {total / 100:.4f} development {right:.4f}", flush=True)
            total = 0.0


def report(out, development, options):
    """Measures what was stored, not what was trained: the file is read back first."""
    reckoner = Reckoner(len(SYMBOLS), options.embedding, options.hidden, len(DIGITS))
    tensors, names = load_file(out / "weights.safetensors"), stored(reckoner)[1]
    reckoner.load_state_dict({name: tensors[names.get(name, name)].float() for name in reckoner.state_dict()})
    known = set(map(text_of, development))
    chance = random.Random(options.seed + 1)
    held_out = [one for one in expressions(chance, 12_000, held_out=True) if text_of(one) not in known]
    given = answers(reckoner, held_out)
    right, by_depth = accuracy(given, held_out)
    lengths = sorted(len(symbols_of(one)) for one in held_out)
    print(
        f"held out: {len(held_out)} expressions, accuracy {right:.4f}, commonest value {commonest(held_out):.4f};"
        f" symbols from {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}"
    )
    for depth, share in by_depth.items():
        count = sum(depth_of(one) == depth for one in held_out)
        print(f"  depth {depth}: {count} expressions, accuracy {share:.4f}")
    clear = [(one, answer) for one, (answer, gap) in zip(held_out, given) if gap > FIXTURE_GAP][:60]
    fixture = {"expressions": [{"text": text_of(one), "value": str(answer)} for one, answer in clear]}
    write_json(out / "expected.json", fixture)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
