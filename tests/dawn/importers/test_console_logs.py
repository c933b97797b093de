"""What training scripts print: torchvision's references, DeiT, the ImageNet example of PyTorch; and DeiT's log.txt."""

import json

import pytest

from dawn.importers.options import Options
from dawn.importers.read import read_curve, read_curves
from dawn.runlog.writer import RunError

TORCHVISION = """Namespace(data_path='/data', model='resnet50', epochs=2)
Loading data
Start training
Epoch: [0]  [   0/5004]  eta: 1:01:01  lr: 0.1  img/s: 185.48  loss: 7.2180 (7.2180)  acc1: 0.0000 (0.0000)
Epoch: [0] Total time: 0:09:00
Test:   [   0/1563]  eta: 0:10:18  loss: 0.8479 (0.8479)  acc1: 74.6094 (74.6094)  acc5: 95.3125 (95.3125)
Test:  Total time: 0:01:00
Test:  Acc@1 20.300 Acc@5 45.820
Epoch: [1] Total time: 1 day, 0:09:00
Test:  Total time: 0:01:00
Test:  Acc@1 30.300 Acc@5 55.820
Test: EMA Total time: 0:01:00
Test: EMA Acc@1 70.300 Acc@5 89.820
Training time 1 day, 0:22:53
"""


def read(tmp_path, text: str, options: Options | None = None):
    (tmp_path / "log").write_text(text)
    return read_curve(tmp_path / "log", options or Options())


def rows(curve) -> list[tuple]:
    return [(point.epoch, round(point.hours, 9), point.top1, point.top5) for point in curve.points]


def test_the_console_of_torchvision(tmp_path):
    curve = read(tmp_path, TORCHVISION)
    assert curve.kind == "console" and curve.counts_evaluation and not curve.counts_setup
    assert rows(curve) == [(1, round(1 / 6, 9), 20.3, 45.82), (2, round(24 + 1 / 3, 9), 30.3, 55.82)]
    assert len(curve.notes) == 1 and "1 evaluation of averaged weights (EMA) left out" in curve.notes[0]


def test_a_resumed_console_counts_the_time_of_the_lost_work(tmp_path):
    again = TORCHVISION.replace("45.820", "46.820")
    curve = read(tmp_path, TORCHVISION + again)
    assert [row[3] for row in rows(curve)] == [46.82, 55.82]
    assert curve.points[0].hours == pytest.approx(24 + 1 / 3 + 1 / 60 + 1 / 6) and "resumed" in curve.notes[0]


def test_the_console_of_deit_and_of_the_example_without_totals(tmp_path):
    deit = TORCHVISION.replace("Test:  Acc@1", "* Acc@1").replace("time: 0:09:00", "time: 0:09:00 (0.1 s / it)")
    assert rows(read(tmp_path, deit)) == rows(read(tmp_path, TORCHVISION))
    example = "Epoch: [0][   1/5005]\tTime  0.5 (  0.6)\n *   Acc@1 20.300 Acc@5 45.820\n"
    assert rows(read(tmp_path, example, Options(hours_per_epoch=0.25))) == [(1, 0.25, 20.3, 45.82)]
    with pytest.raises(RunError, match="holds no times"):
        read(tmp_path, example)


def test_log_txt_of_deit(tmp_path):
    lines = [
        {
            "train_lr": 1e-6,
            "train_loss": 6.9,
            "test_loss": 6.7,
            "test_acc1": a,
            "test_acc5": b,
            "epoch": e,
            "n_parameters": 5,
        }
        for e, a, b in ((0, 1.5, 5.25), (1, 7.5, 20.5), (2, 9.0, 22.0), (1, 8.5, 21.5))
    ]
    (tmp_path / "log.txt").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = read_curve(tmp_path, Options(hours_per_epoch=2.0))
    assert curve.kind == "deit" and rows(curve) == [(1, 2.0, 1.5, 5.25), (2, 4.0, 8.5, 21.5)]
    assert "resumed: epoch 2" in curve.notes[0] and curve.name == tmp_path.name
    with pytest.raises(RunError, match="--hours-per-epoch"):
        read_curve(tmp_path)


HEAD = "|  run     |  epoch  |  train_loss  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |"
AIRBENCH = [
    "-" * len(HEAD),
    HEAD,
    "|       0  |      0  |      1.5000  |     0.5000  |   0.6250  |               |        0.3600  |",
    "|          |   eval  |      1.1000  |     0.9000  |   0.6250  |       0.9401  |        0.7200  |",
]
PREFIXES = {
    "ts": "May 01 12:00:0{} ",
    "ts -Iseconds": "2024-05-01T12:00:0{}+02:00 ",
    "ts %.s": "1714557600.12345{} ",
    "brackets": "[2024-05-01 12:00:0{}] ",
    "logging": "2024-05-01 12:00:0{},123 - INFO - ",
    "root": "INFO:root:",
    "srun -l": "{}: ",
    "mpirun --tag-output": "[1,{}]<stdout>:",
    "docker compose": "trainer-1  | ",
}


@pytest.mark.parametrize("tool", PREFIXES)
def test_a_log_through_a_tool_that_puts_something_before_each_line(tmp_path, tool):
    texts = {"airbench": "\n".join(AIRBENCH), "console": TORCHVISION, "event.log": "~~epoch\thours\ttop1\ttop5\n"
             "~~0\t0.01241\t\t4.248\t\t12.422\n"}  # fmt: skip
    for kind, text in texts.items():
        (tmp_path / "plain").write_text(text)
        lines = [PREFIXES[tool].format(number % 10) + line for number, line in enumerate(text.splitlines())]
        (tmp_path / "stamped").write_text("\n".join(lines) + "\n")
        plain, stamped = (read_curves(tmp_path / name)[0] for name in ("plain", "stamped"))
        assert plain.points == stamped.points and stamped.kind == kind


def test_text_in_utf_16_and_a_tail_of_zeros_are_read_and_told(tmp_path):
    whole = read(tmp_path, TORCHVISION)
    for data, words in (
        (TORCHVISION.encode("utf-16"), "UTF-16"),
        (TORCHVISION.encode("utf-16-le"), "UTF-16"),
        (TORCHVISION.encode() + bytes(4096), "its last 4096 bytes are zeros"),
    ):
        (tmp_path / "odd").write_bytes(data)
        curve = read_curve(tmp_path / "odd")
        assert curve.points == whole.points and words in curve.notes[0]
