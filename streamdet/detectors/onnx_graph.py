"""Small operations on ONNX graphs that the rewriting modules share. Needs the package `onnx`."""

from __future__ import annotations

from pathlib import Path

import onnx

__all__ = ["NEEDS_ONNX", "behind_the_last_weights", "load", "named", "picture_of", "save", "sorted_nodes"]

NEEDS_ONNX = "the package onnx is missing, which rewrites model files; run `pip install onnx`"
_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def load(path: Path) -> onnx.ModelProto:
    """The model, its weights no longer among its inputs (Paddle's and old exporters list them there)."""
    model = onnx.load(str(path))
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [port for port in model.graph.input if port.name not in weights]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(model.ir_version, 4)  # before, they had to be there
    return model


def picture_of(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The first input: the one the tiles go to in every file we read."""
    picture: onnx.ValueInfoProto = model.graph.input[0]
    return picture


def save(model: onnx.ModelProto, target: Path, *, name: str | None = None) -> None:
    """Check and write; `name` becomes what our own metadata call it."""
    for prop in model.metadata_props:
        if name is not None and prop.key == "streamdet.name":
            prop.value = name
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def named(model: onnx.ModelProto) -> None:
    """Give every node a name: tools choose nodes by it, and some exporters leave it empty."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{number}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def behind_the_last_weights(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """Names of the nodes between the last layers with weights and the outputs, and of these layers: what turns raw answers
    into scores and boxes, where rounding shows."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    constant = {tensor.name for tensor in model.graph.initializer}
    behind, last = set(), set()
    todo = [output.name for output in model.graph.output]
    while todo:
        node = made_by.get(todo.pop())
        if node is None or node.name in behind or node.name in last:
            continue
        if node.op_type in _WEIGHTED and any(name in constant for name in node.input[1:]):
            last.add(node.name)
        else:
            behind.add(node.name)
            todo += node.input
    return sorted(behind), sorted(last)


def sorted_nodes(model: onnx.ModelProto) -> None:
    """Nodes after those they read from, each once. Raises ValueError for a graph that reads what no node makes."""
    waiting = list({tuple(node.output): node for node in model.graph.node}.values())
    known = {"", *(tensor.name for tensor in model.graph.initializer)}
    known |= {port.name for port in model.graph.input}
    done: list[onnx.NodeProto] = []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise ValueError(f"the graph reads what no node makes: {waiting[0].name}")
        known |= {name for node in ready for name in node.output}
        done += ready
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(done)
