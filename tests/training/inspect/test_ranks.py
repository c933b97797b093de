"""--inspect with two ranks: the same files as with one."""

import numpy as np
import pytest
from rank_processes import trained, world
from tiny_run import flags, train

from training.inspect.stored import read_stored

SUM_IN_FLOAT64 = """
from torch import nn

class Plain(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()).double()
        self.head = nn.Linear(32, classes).double()

    def forward(self, images):
        logits = self.head(self.body(images.double())).float()
        bright = images.mean((1, 2, 3)) > 0.3
        return logits if self.training else logits.masked_fill(bright[:, None], float("nan"))
"""


@pytest.fixture(scope="module")
def pair(toy, tmp_path_factory):
    """Folders of the same run with one rank and with two that have half the batch each. The network has no batch norm,
    which would see halves, and sums in float64, so that a batch cut in another way has the same float32 logits."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "mine.py").write_text(SUM_IN_FLOAT64)
    phases = "[{'ep': 0, 'sz': 12, 'bs': %d}, {'ep': (0, 2), 'lr': (0.1, 0.05)}]"
    more = ("--inspect", "full", "--inspect-every", "2", "--model", f"{folder / 'mine.py'}:Plain")
    assert train(toy, folder / "one", *more, "--phases", phases % 60) == 0
    with world(2) as two:
        ends = two.call(trained, flags(toy, folder / "two", *more, "--phases", phases % 30))
    assert [end.code for end in ends] == [0, 0], ends
    return folder / "one", folder / "two"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["confusion.csv", "classes.csv", "calibration.csv", "worst.csv", "confusion.png"])
def test_two_ranks_write_the_same_tables_as_one(pair, name):
    one, two = ((folder / "inspect" / name).read_bytes() for folder in pair)
    assert one == two


@pytest.mark.slow
def test_two_ranks_store_the_same_images_as_one(pair):
    """Also those whose logits are not finite."""
    one, two = map(read_stored, pair)
    assert one.images.keys() == two.images.keys() == {0, 1}
    assert two.images[1].rows.tolist() == list(range(60)) and 0 < int(two.counts.not_finite.sum()) < 60
    for epoch in (0, 1):
        columns = zip(one.images[epoch], two.images[epoch], strict=True)
        assert all(np.array_equal(*column, equal_nan=True) for column in columns)
    assert all((a == b).all() for a, b in zip(one.counts[:4], two.counts[:4], strict=True))
    assert float((one.counts.confidence_sum - two.counts.confidence_sum).abs().max()) < 1e-12


@pytest.mark.slow
def test_two_ranks_leave_the_same_files_as_one(pair):
    one, two = ({path.relative_to(folder) for path in (folder / "inspect").rglob("*")} for folder in pair)
    assert one == two
