"""A training step taken apart: which operation of which module was the first whose result was not finite.

Every operator that PyTorch runs is seen by a TorchDispatchMode, in the forward and in the backward pass. Hooks tell in
which module a forward operation is; a backward operation belongs to the module that made its autograd node, which the
node's sequence number tells.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FINITE, INFINITE, NAN = range(3)
ALLOCATE = ("empty", "resize_", "set_", "new_empty")  # whatever was in that memory
ON_PURPOSE = ("fill", "full", "masked_fill")  # minus infinity as a mask
LOSS = "the loss"
NETWORK = "the network"


class Stats(NamedTuple):
    """Of one tensor or of several together; `low`, `mean` and `high` of its finite values (NaN: there are none)."""

    low: float
    mean: float
    high: float
    odd: float  # share that is not finite, 0 to 1
    smallest: float  # magnitude
    dtype: str

    @property
    def largest(self) -> float:
        """Magnitude."""
        return max(abs(self.low), abs(self.high))


class Operation(NamedTuple):
    """The first whose result was not finite although its inputs were, or NaN although they had none. `call`: the
    module call that it belongs to; None: the loss."""

    name: str  # as torch.NAME
    arguments: list[Stats | float]
    call: "Call | None"
    node: str  # autograd's, in the backward pass; "" in the forward pass
    rows: list[int]  # of its result that are not finite; empty: all of them, or no rows of the batch


@dataclass
class Call:
    """One module called once. `own`: its parameters and buffers, by name."""

    name: str
    kind: str
    depth: int
    number: int  # in the order of beginning
    inputs: Stats | None
    own: dict[str, Stats]
    images: int  # of the network's call that it belongs to
    offset: int  # images of the batch before those: --accumulate
    first_node: int  # sequence number; the call's autograd nodes are from here up to `end_node`
    end_node: int = 0
    outputs: Stats | None = None
    gradients: dict[str, Stats] = field(default_factory=dict)  # of output, input and own parameters

    @property
    def bad_weights(self) -> list[str]:
        """Names of parameters and buffers that were not finite."""
        return [name for name, stats in self.own.items() if stats.odd]


class Trace(TorchDispatchMode):
    """Active inside `with trace.of(model)`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.stack: list[Call] = []
        self.first: Operation | None = None
        self.is_looking = False  # its own arithmetic is not the step's
        self.images = 0  # of the calls of the network before this one
        self.handles: list[Any] = []

    @contextlib.contextmanager
    def of(self, model: nn.Module) -> Iterator["Trace"]:
        for name, module in model.named_modules():
            self.handles.append(module.register_forward_pre_hook(partial(self.enter, name or NETWORK)))
            self.handles.append(module.register_forward_hook(self.leave))
        try:
            with self:
                yield self
        finally:
            for handle in self.handles:
                handle.remove()

    def enter(self, name: str, module: nn.Module, inputs: tuple) -> None:
        with self.looking():
            own = {n: stats_of(t) for n, t in own_tensors(module)}
            tensors = floats(inputs)
            images = self.stack[0].images if self.stack else len(tensors[0]) if tensors else 0
            place = len(self.stack), len(self.calls)
            node = torch.autograd._get_sequence_nr()
            call = Call(name, type(module).__name__, *place, together(tensors), own, images, self.images, node)
            for tensor in tensors:
                self.note_gradient(call, "input", tensor)
        self.calls.append(call)
        self.stack.append(call)

    def leave(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        call = self.stack.pop()
        self.images += 0 if self.stack else call.images
        with self.looking():
            tensors = floats(output)
            call.outputs, call.end_node = together(tensors), torch.autograd._get_sequence_nr()
            for tensor in tensors:
                self.note_gradient(call, "output", tensor)
            for name, parameter in module.named_parameters(recurse=False):
                self.note_gradient(call, name, parameter)

    def note_gradient(self, call: Call, name: str, tensor: Tensor) -> None:
        def note(gradient: Tensor) -> None:
            with self.looking():
                call.gradients[name] = stats_of(gradient)

        if tensor.requires_grad:
            self.handles.append(tensor.register_hook(note))

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        before, self.is_looking = self.is_looking, True
        try:
            yield
        finally:
            self.is_looking = before

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if self.first or self.is_looking or name.startswith(ALLOCATE) or name.strip("_").endswith(ON_PURPOSE):
            return func(*args, **kwargs)
        given = tree_leaves((args, kwargs))
        before = level(floats(given))
        facts = [fact(item) for item in given] if name.endswith("_") else []  # it changes its input
        result = func(*args, **kwargs)
        if level(floats(result)) > before:
            facts = facts or [fact(item) for item in given]
            call, node = self.place()
            rows = [call.offset + row for row in bad_rows(floats(result), call.images)] if call else []
            known = [item for item in facts if item is not None]
            self.first = Operation(name.strip("_"), known, call, node, rows)
        return result

    def place(self) -> tuple[Call | None, str]:
        """The call that the running operation belongs to, and its autograd node."""
        node = torch._C._current_autograd_node()
        if node is None:
            return (self.stack[-1] if self.stack else None), ""
        number = node._sequence_nr()
        around = [call for call in self.calls if call.first_node <= number < call.end_node]
        return max(around, key=lambda call: call.depth, default=None), node.name()


def own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for named in (module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
        yield from ((name, tensor) for name, tensor in named if tensor.is_floating_point() and tensor.numel())


def floats(value: Any) -> list[Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, Tensor) and x.is_floating_point() and x.numel()]


def fact(item: Any) -> Stats | float | None:
    """What is told of an operation's argument."""
    if isinstance(item, Tensor):
        return stats_of(item) if item.is_floating_point() and item.numel() else None
    return float(item) if isinstance(item, int | float) and not isinstance(item, bool) else None


def level(tensors: list[Tensor]) -> int:
    found = FINITE
    for tensor in tensors:
        if bool(tensor.isnan().any()):
            return NAN
        found = INFINITE if bool(tensor.isinf().any()) else found
    return found


def stats_of(tensor: Tensor) -> Stats:
    values = tensor.detach().double().flatten()
    good = values[values.isfinite()]
    low, high = (good.min().item(), good.max().item()) if len(good) else (float("nan"),) * 2
    mean = good.mean().item() if len(good) else float("nan")
    smallest = good.abs().min().item() if len(good) else float("nan")
    return Stats(low, mean, high, 1 - len(good) / len(values), smallest, str(tensor.dtype).removeprefix("torch."))


def together(tensors: list[Tensor]) -> Stats | None:
    return stats_of(torch.cat([t.detach().flatten() for t in tensors])) if tensors else None


def bad_rows(results: list[Tensor], images: int) -> list[int]:
    """Which images of the batch are not finite in a result that has one row each."""
    for result in results:
        if images and result.dim() and len(result) == images:
            odd = ~result.isfinite().reshape(images, -1).all(1)
            return [] if bool(odd.all()) else odd.nonzero().flatten().tolist()
    return []


class Culprit(NamedTuple):
    """Where the first value that is not finite was made. `kind`: operation; output or gradient (of `call`, by an
    operation that PyTorch does not show); weights (of `call`, before the step began); input (the images); or none
    (nothing was found: the fault does not repeat)."""

    kind: str
    call: Call | None  # None: the loss, or the images
    operation: Operation | None

    @property
    def name(self) -> str:
        return {"input": "the images"}.get(self.kind) or (self.call.name if self.call else LOSS)

    @property
    def is_backward(self) -> bool:
        return self.kind == "gradient" or bool(self.operation and self.operation.node)


def culprit_of(trace: Trace) -> Culprit:
    """Weights that were not finite before the step come before an operation that met them."""
    root = next(iter(trace.calls), None)
    if root and root.inputs and root.inputs.odd:
        return Culprit("input", None, None)
    broken = next((call for call in trace.calls if call.bad_weights), None)
    first = trace.first
    met = first and not first.node and first.call and broken and first.call.number < broken.number
    if broken and not met:
        return Culprit("weights", broken, None)
    return Culprit("operation", first.call, first) if first else by_hooks(trace)


def by_hooks(trace: Trace) -> Culprit:
    """What the hooks alone tell, for code that computes outside of PyTorch's dispatcher: the innermost call that made
    finite inputs, or in the backward pass a finite gradient of its output, into others."""
    made = [call for call in trace.calls if is_odd(call.outputs) and not is_odd(call.inputs)]
    if made:
        return Culprit("output", max(made, key=lambda call: (call.depth, -call.number)), None)
    made = [call for call in trace.calls if "output" in call.gradients and not is_odd(call.gradients["output"])]
    made = [call for call in made if any(map(is_odd, call.gradients.values()))]
    if made:
        return Culprit("gradient", max(made, key=lambda call: (call.depth, call.number)), None)
    return Culprit("none", None, None)


def is_odd(stats: Stats | None) -> bool:
    return stats is not None and stats.odd > 0
