"""Makes ListOps expressions (Nangia and Bowman 2018), their values and their binary trees."""

from dataclasses import dataclass
from zlib import crc32

DIGITS = [str(digit) for digit in range(10)]
OPERATORS = ["[MAX", "[MIN", "[MED", "[SM"]
SYMBOLS = [*DIGITS, *OPERATORS, "]"]
NUMBER = {symbol: number for number, symbol in enumerate(SYMBOLS)}

MAX_ARGUMENTS = 5
MAX_DEPTH = 6
MAX_SYMBOLS = 60
# How often an argument is an expression of its own, as in the published data.
NESTED = 0.25
HELD_OUT_ONE_IN = 10


def expression(chance, depth):
    """A nested list `[operator, argument, ...]` of exactly this depth and at most 60 symbols; a digit is an int."""
    while True:
        made = grow(chance, depth)
        if depth_of(made) == depth and len(symbols_of(made)) <= MAX_SYMBOLS:
            return made


def grow(chance, depth):
    arguments = []
    for _ in range(chance.randint(2, MAX_ARGUMENTS)):
        nested = depth > 1 and chance.random() < NESTED
        arguments.append(grow(chance, depth - 1) if nested else chance.randrange(10))
    return [chance.choice(OPERATORS), *arguments]


def depth_of(made):
    return 0 if isinstance(made, int) else 1 + max(map(depth_of, made[1:]))


def symbols_of(made):
    if isinstance(made, int):
        return [str(made)]
    return [made[0], *(symbol for argument in made[1:] for symbol in symbols_of(argument)), "]"]


def text_of(made):
    return " ".join(symbols_of(made))


def value_of(made):
    if isinstance(made, int):
        return made
    return apply(made[0], sorted(map(value_of, made[1:])))


def apply(operator, values):
    """`values` in ascending order. The median of an even number of values is the mean of the middle two, rounded down."""
    middle = len(values) // 2
    if operator == "[MAX":
        return values[-1]
    if operator == "[MIN":
        return values[0]
    if operator == "[SM":
        return sum(values) % 10
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) // 2


@dataclass
class Tree:
    """The binary tree of an expression: a number below `len(leaves)` is a leaf, the others are nodes in their order."""

    leaves: list
    children: list
    # (node, value of the expression that it closes)
    closed: list


def tree_of(made):
    """Every expression is joined from the left: `( ( ( [MAX 2 ) 9 ) ] )`, operator and closing bracket being leaves.

    Leaves count from 0; node `i` is written as `~i` until the number of leaves is known.
    """
    tree = Tree([], [], [])

    def leaf(symbol):
        tree.leaves.append(NUMBER[symbol])
        return len(tree.leaves) - 1

    def join(left, right):
        tree.children.append((left, right))
        return ~(len(tree.children) - 1)

    def add(part):
        if isinstance(part, int):
            return leaf(str(part)), part
        joined, values = leaf(part[0]), []
        for argument in part[1:]:
            right, value = add(argument)
            values.append(value)
            joined = join(joined, right)
        joined = join(joined, leaf("]"))
        value = apply(part[0], sorted(values))
        tree.closed.append((~joined, value))
        return joined, value

    add(made)
    count = len(tree.leaves)
    number = lambda one: one if one >= 0 else count + ~one
    tree.children = [(number(left), number(right)) for left, right in tree.children]
    return tree


def is_held_out(text):
    """By the CRC-32 of the text: the rule needs nothing else, so any language can repeat it."""
    return crc32(text.encode()) % HELD_OUT_ONE_IN == 0


def expressions(chance, count, held_out):
    """`count` distinct expressions whose depths are 1 to 6 in turn, all held out or none."""
    seen, depth = set(), 0
    while len(seen) < count:
        depth = depth % MAX_DEPTH + 1
        while True:
            made = expression(chance, depth)
            text = text_of(made)
            if is_held_out(text) == held_out and text not in seen:
                break
        seen.add(text)
        yield made
