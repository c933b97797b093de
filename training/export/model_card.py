"""The model card: one Markdown file that says what the weights are, how good, how they came to be, how to load them."""

from typing import NamedTuple

from data_prep.formats.file_names import printable
from dawn.runlog.records import CLOCKS, Row, Validation
from dawn.tables import counted
from training.data.crops import short_side
from training.evaluation.trained import Trained
from training.export.formats import OPSET
from training.export.networks import Network

MARK = "# Model card: "


class Handover(NamedTuple):
    """The file that the card stands beside."""

    file: str
    format: str
    network: Network
    sha256: str
    bytes: int
    difference: float  # of the logits, relative
    more: str  # how the file itself was checked
    utc: str

    def checks(self) -> str:
        return (
            f"loaded with strict=True into {self.network.library}'s network, whose logits (random images, eager, fp32, "
            f"evaluation mode) differ by at most {self.difference:.1e} of the largest; {self.more}"
        )


class Remeasured(NamedTuple):
    """Measured for the card."""

    shape: str  # square | rectangular
    seen: Validation
    where: str  # dataset, device


def card(trained: Trained, handover: Handover, rows: list[Remeasured]) -> str:
    """Markdown. Times in seconds, accuracies in percent."""
    title = f"{MARK}{line(trained.config.model)}, {trained.classes} classes, {line(dataset_name(trained))}"
    parts = [title, about(trained, handover), loading(handover), network_input(trained, handover)]
    parts += [accuracy(trained, rows), times(trained), training(trained), machine(trained), licence(trained)]
    return "\n\n".join(part for part in parts if part) + "\n"


def about(trained: Trained, handover: Handover) -> str:
    parameters = sum(parameter.numel() for parameter in handover.network.module.parameters())
    counters, kind = trained.counters, "averaged (EMA)" if trained.weights == "ema" else "trained"
    inside = f", step {counters['step']}" if counters["step"] else ""
    return table(
        ("file", ""),
        [
            (f"`{line(handover.file)}`", f"{handover.format}, {handover.bytes:,} bytes, made {handover.utc}"),
            ("SHA-256", f"`{handover.sha256}`"),
            ("weights", f"{kind}, after {counters['epoch']} epochs{inside}, {parameters:,} parameters, fp32"),
            ("checked", handover.checks()),
        ],
    )


def loading(handover: Handover) -> str:
    return f"## How to load\n\n```python\n{code(handover)}\n```"


def code(handover: Handover) -> str:
    """Three lines; run them where the file lies. `model` is then in evaluation mode; with onnx it is a session."""
    file = repr(handover.file)
    if handover.format == "onnx":
        return (
            "import numpy, onnxruntime\n"
            f"model = onnxruntime.InferenceSession({file})\n"
            "logits = lambda images: model.run(None, {'images': numpy.asarray(images, numpy.float32)})[0]"
        )
    network = handover.network
    module, read = (
        ("safetensors.torch", f"safetensors.torch.load_file({file})")
        if handover.format == "safetensors"
        else ("torch", f"torch.load({file}, weights_only=True)")
    )
    return f"import {module}; {network.imports}\nmodel = {network.make}.eval()\nmodel.load_state_dict({read})"


def network_input(trained: Trained, handover: Handover) -> str:
    size = trained.phase.val_sz
    shape = f"(batch, 3, {size}, {size})" if handover.format == "onnx" else "(batch, 3, height, width)"
    lines = [f"Images `{shape}` float32, RGB. Validated at {size} px{cut(trained)}."]
    if handover.format == "onnx":
        lines.append(f"ONNX opset {OPSET}; input `images` of any batch, output `logits`.")
    if trained.mean:
        mean, std = (", ".join(f"{value / 255:.5f}" for value in values) for values in (trained.mean, trained.std))
        lines.append(f"Pixels from 0 to 1, minus ({mean}), divided by ({std}).")
    else:
        lines.append(
            "Normalised with the mean and deviation of the dataset's first 10,000 training images; the dataset was not "
            "there when this card was made, so the numbers are missing."
        )
    if trained.names:
        shown = ", ".join(line(name) for name in trained.names[:1000])
        lines.append(f"Classes, by label: {shown}.")
    return "## Input and output\n\n" + " ".join(lines)


def cut(trained: Trained) -> str:
    """How an image tree's pictures come to their size in square validation; the memory loader has them at theirs."""
    if trained.loader == "memory":
        return ""
    short = short_side(trained.phase.val_resize or trained.config.val_resize, trained.phase.val_sz)
    how = f"{trained.config.val_interpolation}, antialiased"
    return f": the short side resized to {short} px ({how}), the centre cut out"


def accuracy(trained: Trained, rows: list[Remeasured]) -> str:
    """By every way of validation: as the run logged it, and as measured now."""
    entries = [logged_row(trained, row) for row in last_of_each_mode(trained)]
    for row in rows:
        entries.append(measured_row(row.shape, row.seen, f"these weights, fp32, {row.where}"))
    head = ("shape", "size", "test-time augmentation", "top-1", "top-5", "measured")
    text = table(head, entries) if entries else "Not measured: the run had no validation."
    if trained.row is None:
        text += "\n\nThe run did not validate exactly these weights; logged rows are of other weights of the same run."
    for trial in trained.run.start.trials:
        text += f"\n\nA trial, no result: {trial}."
    return f"## Accuracy\n\n{text}"


def last_of_each_mode(trained: Trained) -> list[Row]:
    found = {}
    for row in trained.run.rows:
        if row.validation:
            found[is_rectangular(trained, row), row.validation.size, row.validation.tta, row.validation.weights] = row
    return list(found.values())


def is_rectangular(trained: Trained, row: Row) -> bool:
    phases = [phase for phase in trained.run.phases if phase["epoch"] < row.until]
    return bool(phases and phases[-1].get("rect_val"))


def logged_row(trained: Trained, row: Row) -> tuple[str, ...]:
    seen = row.validation
    shape = "rectangular" if is_rectangular(trained, row) else "square"
    own = ", these weights" if row is trained.row else ""
    where = f"logged after epoch {row.until}, weights: {line(seen.weights)}, {trained.run.start.precision}{own}"
    return measured_row(shape, seen, where)


def measured_row(shape: str, seen: Validation, where: str) -> tuple[str, ...]:
    tta = "mirror images added" if seen.tta == "flip" else line(seen.tta)
    first = f"{seen.percent('top1'):.3f} % ({seen.correct1} of {seen.images})"
    fifth = f"{seen.percent('top5'):.3f} % (of {seen.k5})" if seen.k5 < 5 else f"{seen.percent('top5'):.3f} %"
    return shape, f"{seen.size} px", tta, first, fifth, where


def times(trained: Trained) -> str:
    run, hit = trained.run, trained.run.hit()
    end = run.stop.clock if run.stop else (run.rows[-1].clock if run.rows else None)
    if not end:
        return "## Time\n\nThe run has not finished an epoch."
    columns = [("at the end", end)] + ([("when it reached its target", hit.clock)] if hit else [])
    head = ("clock", *(name for name, _ in columns), "what it counts")
    rows = [(f"`T_{name}`", *(f"{clock[name]:.1f} s" for _, clock in columns), what) for name, what in CLOCKS.items()]
    ended = f"Outcome: {run.stop.outcome}. " if run.stop else "The log has no end. "
    wanted = f"Target: {run.start.target:g} % {run.start.metric}." if run.start.target else "No target was set."
    return f"## Time\n\n{table(head, rows)}\n\n{ended}{wanted} {counted(len(run.attempts), 'attempt')}."


def training(trained: Trained) -> str:
    """The settings that make the experiment, as resolved."""
    start = trained.run.start
    head = f"Recipe: {line(start.recipe) or 'none'}. Seed {start.seed}. Settings hash `{line(start.config_hash)}`."
    rows = [(f"`{line(name)}`", line(value)) for name, value in sorted(start.config.items()) if name != "phases"]
    phases = "\n".join(line(phase) for phase in start.phases)
    return f"## Training\n\n{head}\n\n{table(('setting', 'value'), rows)}\n\nPhases:\n\n```\n{phases}\n```"


def machine(trained: Trained) -> str:
    latest = trained.run.latest
    commit = (latest.commit or "unknown") + (", with changes that were not committed" if latest.dirty else "")
    rows = [(line(name), line(value)) for name, value in latest.hardware.items()]
    rows += [("precision", latest.precision), ("commit of the code", line(commit))]
    rows += [(f"version of {line(name)}", line(value)) for name, value in latest.versions.items() if value]
    return f"## Hardware and software\n\n{table(('what', 'value'), rows)}"


def licence(trained: Trained) -> str:
    dataset = trained.run.start.dataset
    rows = [(line(name).replace("_", " "), line(value)) for name, value in dataset.items()]
    return (
        f"## Dataset and licence\n\n{table(('dataset', ''), rows)}\n\n"
        "The training code is under Apache-2.0. It gives these weights no licence: the terms of the dataset apply to "
        "them (ImageNet, for example, is for non-commercial research and education), and whoever publishes them adds "
        "their own here."
    )


def dataset_name(trained: Trained) -> str:
    return str(trained.run.start.dataset.get("name", "unknown dataset"))


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def line(value: object) -> str:
    """Text from a log or a dataset, harmless in a table."""
    return printable(str(value)).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
