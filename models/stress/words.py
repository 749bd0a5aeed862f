"""Reads the pronouncing dictionary with its stress marks, and says which words are held out."""

import json
import re
from pathlib import Path
from zlib import crc32

# A line of the package's module: `"word(2)": "W ER1 D",`. Some entries end in a remark: `# place, danish`.
ENTRY = re.compile(r'^\s*("(?:[^"\\]|\\.)+"):\s*("(?:[^"\\]|\\.)*"),?\s*$')
ALTERNATIVE = re.compile(r"\(\d+\)$")
HELD_OUT_ONE_IN = 10
# A small part of the rest steers the choice of settings, so that held-out words never do.
DEVELOPMENT_ONE_IN, DEVELOPMENT_REMAINDER = 100, 1


def read_words(path):
    """Word -> {phonemes without stress: the ways they are stressed}, both as tuples of symbols."""
    words = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        entry = ENTRY.match(line)
        if not entry:
            continue
        key, value = (json.loads(text) for text in entry.groups())
        marked = tuple(value.split("#")[0].split())
        if marked:
            ways = words.setdefault(ALTERNATIVE.sub("", key.lower()), {})
            ways.setdefault(unmarked(marked), set()).add(marked)
    return words


def unmarked(marked):
    return tuple(symbol.rstrip("012") for symbol in marked)


def split(words):
    """Returns (training, development, held_out), each a list of (phonemes, the ways they are stressed).

    Words that sound alike fall together, or a held-out word could be learned from its twin: the rule looks at the
    phonemes, not at the spelling, and sounds that several words share are one example with the ways of all of them.
    """
    ways = {}
    for known in words.values():
        for phonemes, marked in known.items():
            ways.setdefault(phonemes, set()).update(marked)
    parts = [], [], []
    for phonemes, marked in ways.items():
        code = crc32(" ".join(phonemes).encode())
        held_out = code % HELD_OUT_ONE_IN == 0
        development = code % DEVELOPMENT_ONE_IN == DEVELOPMENT_REMAINDER
        parts[2 if held_out else 1 if development else 0].append((phonemes, sorted(marked)))
    return parts
