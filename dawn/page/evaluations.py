"""The panel of finished weights in other ways of validation, as `python -m training evaluate` left them in the run
folders."""

from collections.abc import Sequence

from dawn.page.data import Shown
from dawn.page.html import Cell, note, section, table
from dawn.runlog.evaluations import Evaluation, read_evaluations

HEADER = (
    *(
        "size (px)",
        "shape",
        "test-time augmentation",
        "weights",
        "top-1 %",
        "top-5 %",
        "correct top-1, top-5",
        "of images",
    ),
    *("GFLOP per image", "seconds", "measured on"),
)
WORDS = "Evaluated after the run"


def evaluations_section(shown: Sequence[Shown]) -> str:
    """Empty where no run was evaluated afterwards. RunError for a damaged evaluations.json."""
    found = [(item, read_evaluations(item.run.path.parent)) for item in shown]
    groups = [(item.name if len(shown) > 1 else "", [row(one) for one in rows]) for item, rows in found if rows]
    if not groups:
        return ""
    inside = note(
        "The finished weights, counted in fp32 by python -m training evaluate. No clock of the run counts this time. "
        "An asterisk marks the setting that the run itself validates with."
    )
    return section("evaluations", WORDS, inside + table(HEADER, groups, WORDS))


def row(item: Evaluation) -> list[Cell]:
    seen = item.seen
    return [
        f"{item.size}{' *' * item.own}",
        item.shape,
        "mirror images added" if item.tta == "flip" else item.tta,
        weights(item),
        f"{seen.percent('top1'):.3f}",
        f"{seen.percent('top5'):.3f}",
        f"{item.correct1}, {item.correct5}",
        f"{item.images} held out of training" if item.holdout else item.images,
        f"{item.flops_per_image / 1e9:.4g}",
        f"{item.seconds:.2f}",
        f"{item.dataset} {item.dataset_sha256[:8]}, {loading(item)}",
    ]


def weights(item: Evaluation) -> str:
    inside = f" and {item.step} steps" if item.step else ""
    return f"{'average' if item.weights == 'ema' else 'trained'}, {item.epoch} epochs{inside}"


def loading(item: Evaluation) -> str:
    """As in `threads loader, short side 1.14 sizes, cpu`."""
    resize = "" if item.resize is None else f", short side {item.resize:.4g} sizes"
    return f"{item.loader} loader{resize}, {item.device}"
