"""Values of a parsed schedule text: plain ones, and arithmetic of numbers (+ - * / and parentheses), computed here.
Nothing is executed."""

import ast
import operator

from phases.phase import PhaseError, shown

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
SIGNS = {ast.UAdd: operator.pos, ast.USub: operator.neg}
WORDS = {"true": True, "false": False, "null": None}  # JSON's, beside arithmetic that JSON does not have
LARGEST = 1e12  # of a result; no value of a schedule comes near it
MAX_DEPTH = 50  # operations and brackets inside each other


def plain_value(node: ast.expr, text: str, depth: int = 0) -> object:
    """The value of a node of `text`'s syntax tree. Raises PhaseError."""
    if depth > MAX_DEPTH:
        raise PhaseError(f"more than {MAX_DEPTH} operations inside each other. Write the result itself.")
    match node:
        case ast.Constant():
            return node.value
        case ast.Name(id=name) if name in WORDS:
            return WORDS[name]
        case ast.List() | ast.Tuple():
            values = [plain_value(item, text, depth + 1) for item in node.elts]
            return values if isinstance(node, ast.List) else tuple(values)
        case ast.Dict():
            return dict_value(node, text, depth)
        case ast.UnaryOp() if type(node.op) in SIGNS:
            return bounded(SIGNS[type(node.op)](number(node.operand, text, depth + 1)), node, text)
        case ast.BinOp() if type(node.op) in OPERATIONS or isinstance(node.op, ast.Div):
            return computed(node, text, depth)
    raise PhaseError(f"{part(node, text)} is not a plain value; nothing is executed. Write the result itself.")


def dict_value(node: ast.Dict, text: str, depth: int) -> dict:
    if None in node.keys:
        raise PhaseError(f"{part(node, text)} is not a plain value; nothing is executed. Write the result itself.")
    pairs = zip(node.keys, node.values, strict=True)
    return unique_keys([(plain_value(key, text, depth + 1), plain_value(v, text, depth + 1)) for key, v in pairs])


def unique_keys(pairs: list[tuple]) -> dict:
    """A dict of the pairs; a key given twice is an error (Python and JSON silently keep the last one)."""
    result = {}
    for key, value in pairs:
        if key in result:
            raise PhaseError(f"key {shown(key, 30)} is given twice in one phase. Keep one of them.")
        result[key] = value
    return result


def computed(node: ast.BinOp, text: str, depth: int) -> int | float:
    left, right = number(node.left, text, depth + 1), number(node.right, text, depth + 1)
    if not isinstance(node.op, ast.Div):
        return bounded(OPERATIONS[type(node.op)](left, right), node, text)
    if right == 0:
        raise PhaseError(f"{part(node, text)} divides by zero. Write the number that you mean.")
    if type(left) is type(right) is int and left % right == 0:
        return left // right  # a batch of 1024/4 is 256 images, not 256.0
    return bounded(left / right, node, text)


def number(node: ast.expr, text: str, depth: int) -> int | float:
    value = plain_value(node, text, depth)
    if type(value) not in (int, float):
        raise PhaseError(f"{part(node, text)} is not a number, so nothing can be computed with it. Write the result.")
    return bounded(value, node, text)


def bounded(value: int | float, node: ast.expr, text: str) -> int | float:
    if not abs(value) <= LARGEST:  # NaN fails too
        raise PhaseError(f"{part(node, text)} is more than {LARGEST:g}. Write a smaller number.")
    return value


def part(node: ast.expr, text: str) -> str:
    return shown(ast.get_source_segment(text, node) or type(node).__name__, 50)
