"""`python -m phases`: the numbers of the table, the list, the picture, and that it stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

from phases import PRESETS, Schedule, load_preset
from phases.__main__ import main
from phases.parts import epoch_parts
from phases.table import segments

ROOT = Path(__file__).resolve().parents[2]


def shown(capsys, *argv: str) -> tuple[list[list[str]], str]:
    """Rows of the table (cells are two or more blanks apart) and the line of totals."""
    assert main(["show", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    end = lines.index("")
    return [[cell.strip() for cell in line.split("  ") if cell] for line in lines[2:end]], lines[end + 1]


def test_show_prints_the_steps_that_will_run(capsys):
    rows, total = shown(capsys, "imagenet18-1", "--images", "1281167", "--world-size", "8")
    assert [row[0] for row in rows] == ["0-7", "7-13", "13-22", "22-25", "25-28"]
    assert [row[1:4] for row in rows] == [["128", "512", "4096"]] * 2 + [["224", "224", "1792"]] * 2 + [
        ["288", "128", "1024"]
    ]
    per_epoch = [1281167 // 4096, 1281167 // 4096, 1281167 // 1792, 1281167 // 1792, 1281167 // 1024]
    assert per_epoch == [312, 312, 714, 714, 1251]
    assert [row[8] for row in rows] == [f"{steps:,}" for steps in per_epoch]
    assert [row[9] for row in rows] == ["2,184", "1,872", "6,426", "2,142", "3,753"]
    assert rows[0][10] == f"{2184 * 4096:,}"
    assert rows[0][4] == "1.00046 -> 2"  # 1 + 1 / (7 * 312)
    assert rows[4][4] == "0.0024994 -> 0.00025"
    assert [row[6] for row in rows] == ["DATA-sz/160"] * 2 + ["DATA-sz/352"] * 2 + ["DATA"]
    assert [row[7] for row in rows] == ["128", "128", "224", "224", "288 rect"]
    images = (2184 + 1872) * 4096 + (6426 + 2142) * 1792 + 3753 * 1024
    assert total == f"total: 28 epochs, 16,377 steps, {images:,} images, as costly as 21.2 epochs at 224 px"


def test_strength_and_resize_are_shown_where_a_schedule_names_them(capsys):
    data = "{'ep': 0, 'sz': 24, 'bs': 50, 'aug': 0.25}, {'ep': 1, 'sz': 32, 'bs': 50, 'val_resize': 1.125}"
    rows, _ = shown(capsys, f"[{data}, {{'ep': (0, 3), 'lr': 0.1}}]")
    assert [row[7:] for row in rows] == [["24", "0.25", "-", "-", "-"], ["32 x1.125", "1", "-", "-", "-"]]
    assert main(["show", "toy"]) == 0
    assert " aug" not in capsys.readouterr().out


def test_without_images_steps_are_left_out(capsys):
    rows, total = shown(capsys, "alibaba-1")
    assert all(row[8:] == ["-", "-", "-"] for row in rows)
    assert rows[0][4:6] == ["0 -> 1.2", "0.96 -> 0.9"]
    assert total == "total: 21 epochs, as costly as 7.8 epochs at 224 px"


def test_small_images_have_no_cost_at_224(capsys):
    _, total = shown(capsys, "[{'ep': 0, 'sz': 24, 'bs': 50}, {'ep': (0, 3), 'lr': (0.1, 0)}]", "--images", "120")
    assert total == "total: 3 epochs, 6 steps, 300 images"


def test_another_world_size_warns_on_stderr(capsys):
    assert main(["show", "imagenet18-1", "--world-size", "2"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: ") and err.count("\n") == 1
    assert "4096" in err and "1024" in err and "--scale-lr" in err
    assert "1024" in out
    assert main(["show", "imagenet18-1", "--world-size", "8"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", PRESETS)
def test_segments_add_up_to_the_run(name):
    whole, images = Schedule.parse(name), load_preset(name)["images"]
    for schedule in (whole, *(whole.compressed(epochs) for epochs in (1, 5, 13))):
        devices, epochs = schedule.world_size, schedule.total_epochs
        found = segments(schedule, devices, images)
        parts = [part for epoch in range(schedule.epochs) for part in epoch_parts(schedule, epoch, images, devices)]
        if epochs == schedule.epochs:
            whole_epochs = [images // (schedule.data_at(epoch).bs * devices) for epoch in range(epochs)]
            assert [part.steps for part in parts] == whole_epochs
        assert sum(item.steps for item in found) == sum(part.steps for part in parts), epochs
        assert found[0].start == 0 and found[-1].end == epochs
        assert found[-1].lr[1] == schedule.lr_at(epochs), epochs


def test_list_has_one_line_for_each_preset(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    for name, line in zip(PRESETS, lines, strict=True):
        preset = load_preset(name)
        assert preset["source"] in line and preset["hardware"] in line and preset["result"] in line
        assert f"{Schedule.parse(name).total_epochs} epochs" in line


# ---- picture


@pytest.mark.parametrize(
    "name", [pytest.param("imagenet18-16", marks=pytest.mark.slow), "alibaba-1"]
)  # without and with momentum
def test_png_is_written_whole(capsys, tmp_path, name):
    file = tmp_path / "schedule.png"
    assert main(["show", name, "--png", str(file)]) == 0
    assert f"picture: {file}" in capsys.readouterr().out
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    assert [path.name for path in tmp_path.iterdir()] == ["schedule.png"]


def test_png_that_cannot_be_written(capsys, tmp_path):
    file = tmp_path / "missing" / "schedule.png"
    assert main(["show", "imagenet18-1", "--png", str(file)]) == 2
    assert f"error: {file}: cannot write" in capsys.readouterr().err
    (tmp_path / "folder.png").mkdir()
    assert main(["show", "imagenet18-1", "--png", str(tmp_path / "folder.png")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    capsys.readouterr()
    assert main(["show", "imagenet18-1", "--png", "."]) == 2
    assert capsys.readouterr().err == "error: .: is a folder. Name a .png file.\n"


# ---- light


@pytest.mark.parametrize("argv", [["show", "imagenet18-1", "--images", "1281167"], ["list"], ["--help"]])
def test_no_third_party_import(argv):
    code = (
        "import sys; before = set(sys.modules); from phases.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print('FOREIGN', sorted(new - set(sys.stdlib_module_names) - {'phases', 'dawn'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "FOREIGN []"


def test_exit_code_of_the_module():
    done = subprocess.run(
        [sys.executable, "-m", "phases", "show", "nothing-like-it"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
