"""Reads the pronouncing dictionary and says which of its words are held out."""

import json
import re
from pathlib import Path

# A line of the package's module: `"word(2)": "W ER1 D",`.
ENTRY = re.compile(r'^\s*("(?:[^"\\]|\\.)+"):\s*("(?:[^"\\]|\\.)*"),?\s*$')
# Later pronunciations of a word carry a number: `word(2)`.
ALTERNATIVE = re.compile(r"\(\d+\)$")
# Abbreviations with points, digits and hyphens are dropped: their reading is not spelled out.
SPELLING = re.compile(r"^[a-z']+$")
STRESS = re.compile(r"\d")

LETTERS = ["'", *"abcdefghijklmnopqrstuvwxyz"]
HELD_OUT_ONE_IN = 10
# A small part of the rest steers the choice of settings, so that held-out words never do.
DEVELOPMENT_ONE_IN, DEVELOPMENT_REMAINDER = 100, 1


def read_pronunciations(path):
    """Returns word -> tuple of distinct pronunciations, each a tuple of phonemes without stress."""
    words = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        entry = ENTRY.match(line)
        if not entry:
            continue
        key, value = (json.loads(text) for text in entry.groups())
        word = ALTERNATIVE.sub("", key.lower())
        if not SPELLING.match(word):
            continue
        # Some entries end in a remark: `AO1 L B AO0 R G # place, danish`.
        phonemes = tuple(STRESS.sub("", value.split("#")[0]).split())
        known = words.setdefault(word, [])
        if phonemes and phonemes not in known:
            known.append(phonemes)
    return {word: tuple(known) for word, known in words.items() if known}


def split(words):
    """Returns (training, development, held_out), each word -> pronunciations.

    The rule needs only the spelling, so any language can repeat it.
    """
    training, development, held_out = {}, {}, {}
    for word, known in words.items():
        code = fnv1a(word)
        if code % HELD_OUT_ONE_IN == 0:
            held_out[word] = known
        elif code % DEVELOPMENT_ONE_IN == DEVELOPMENT_REMAINDER:
            development[word] = known
        else:
            training[word] = known
    return training, development, held_out


def fnv1a(text):
    """FNV-1a, 32 bits, over the UTF-8 bytes of the text."""
    code = 0x811C9DC5
    for byte in text.encode("utf-8"):
        code = ((code ^ byte) * 0x01000193) & 0xFFFFFFFF
    return code
