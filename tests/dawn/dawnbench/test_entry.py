"""The files of a pull request to dawn-bench-entries, measured by that repository's own tests; hostile names."""

import csv
import json
from datetime import datetime
from pathlib import Path

import pytest
from dawn_script import CORRECT, older_log, scripted_run

from dawn import read_run
from dawn.__main__ import main
from dawn.dawnbench.entry import Details, entry, file_stem, safe
from dawn.runlog.records import CLOCKS

AUTHOR = ["--author", "A. Author", "--author-email", "a@example.org"]
IMAGENET = {"task": "ImageNet", "metric": "top5", "target": 93.0, "model": "resnet50"}
COLUMNS = {
    "CIFAR10": (["epoch", "hours", "top1Accuracy"], "top1Accuracy", 94.0),
    "ImageNet": (["epoch", "hours", "top1Accuracy", "top5Accuracy"], "top5Accuracy", 93.0),
}


def imagenet_run(folder: Path, **start) -> Path:
    return scripted_run(folder, ((16667, 33333), None, (38006, 46500)), images=50000, **IMAGENET | start)


def submission_rules(root: Path) -> list[Path]:
    """What stanford-futuredata/dawn-bench-entries demands of a checkout at `root` (README; tests/test_submissions.py),
    in our words: every JSON in TASK/train. Returns the JSON files."""
    found = sorted(root.glob("*/train/*.json"))
    for path in found:
        record = json.loads(path.read_text())
        for name in ("version", "author", "authorEmail", "framework", "model", "hardware", "timestamp"):
            assert isinstance(record[name], str) and record[name].strip()
        assert record["version"] == "v1.0" and datetime.strptime(record["timestamp"], "%Y-%m-%d")
        columns, metric, threshold = COLUMNS[path.parents[1].name]
        with open(path.with_suffix(".tsv"), newline="") as file:
            header, *rows = csv.reader(file, delimiter="\t")
        assert sorted(header) == sorted(columns) and rows and all(len(row) == len(header) for row in rows)
        values = [dict(zip(header, map(float, row), strict=True)) for row in rows]
        assert max(row[metric] for row in values) >= threshold
        assert len(path.stem.split("_")) == 4
    return found


def written(capsys, run: Path, out: Path, *flags: str) -> list[Path]:
    """Paths that the command says, which must be all that it made."""
    out.mkdir(exist_ok=True)
    assert main(["entry", str(run), "--out", str(out), *flags]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(paths) == sorted(path for path in out.rglob("*") if path.is_file())
    assert all(path.resolve().is_relative_to(out.resolve()) for path in paths)
    return paths


def test_entries_pass_the_tests_of_dawn_bench_entries(tmp_path, capsys):
    cifar, imagenet = scripted_run(tmp_path / "cifar"), imagenet_run(tmp_path / "imagenet")
    paths = written(
        capsys, cifar, tmp_path / "a", *AUTHOR, "--hardware-tag", "2-cores", "--code-url", "https://e.org/c"
    )
    assert [str(p.relative_to(tmp_path / "a")) for p in paths] == [
        "CIFAR10/train/A.-Author_cifarnet_2-cores_pytorch.json",
        "CIFAR10/train/A.-Author_cifarnet_2-cores_pytorch.tsv",
    ]
    assert submission_rules(tmp_path / "a") == paths[:1]
    paths = written(capsys, imagenet, tmp_path / "b", *AUTHOR, "--cost-per-hour", "24.48")
    assert str(paths[0].relative_to(tmp_path / "b")) == (
        "ImageNet/train/A.-Author_resnet50_1xAMD-EPYC-9B14_pytorch.json"
    )
    assert submission_rules(tmp_path / "b") == paths[:1]


def test_entry_tells_what_reviewers_ask_for(tmp_path, capsys):
    flags = ["--cost-per-hour", "24.48", "--code-url", "https://e.org/c", "--log-url", "https://e.org/run.jsonl"]
    path, _ = written(capsys, imagenet_run(tmp_path / "run"), tmp_path / "out", *AUTHOR, *flags)
    fields = json.loads(path.read_text())
    assert (fields["costPerHour"], fields["codeURL"], fields["logFilename"]) == (24.48, *flags[3::2])
    assert (fields["usedBlacklist"], fields["commitHash"], fields["timestamp"]) == (False, "0123abc", "2026-11-22")
    misc = fields["misc"]
    for name in ("schedule", "imageSize", "batchSize", "optimizer", "momentum", "weightDecay", "versions", "commit"):
        assert misc[name]
    assert misc["configHash"] == "ab" * 32 and misc["validationImages"] == [50000]
    assert misc["clockDefinition"].startswith("hours in the TSV are T_dawn.")
    assert (misc["pageCache"], misc["compileCache"]) == ("unknown", "not used")


@pytest.mark.parametrize("clock", ["dawn", "total", "train", "cold"])
def test_clock_of_the_hours_can_be_chosen(tmp_path, capsys, clock):
    path, table = written(capsys, scripted_run(tmp_path / "run"), tmp_path / "out", *AUTHOR, "--clock", clock)
    run = read_run(tmp_path / "run")
    hours = [float(line.split("\t")[1]) for line in table.read_text().splitlines()[1:]]
    assert hours == pytest.approx([run.hours(row, clock) for row in run.evaluations], abs=1e-10)
    assert f"hours in the TSV are T_{clock}." in json.loads(path.read_text())["misc"]["clockDefinition"]


def test_same_bytes_when_made_again(tmp_path, capsys):
    first = [path.read_bytes() for path in written(capsys, scripted_run(tmp_path / "run"), tmp_path / "out", *AUTHOR)]
    assert [path.read_bytes() for path in written(capsys, tmp_path / "run", tmp_path / "out", *AUTHOR)] == first


def test_draft_says_why_and_stays_out_of_the_tasks_folders(tmp_path, capsys):
    run = scripted_run(tmp_path / "run", ((8600, 9000),), target=85.0)
    (tmp_path / "out").mkdir()
    assert main(["entry", str(run), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    names = [Path(line).name for line in out.splitlines()]
    assert names == [f"unknown_cifarnet_1xAMD-EPYC-9B14_pytorch.draft.{kind}" for kind in ("json", "tsv")]
    assert err.splitlines() == [
        "draft: author unknown",
        "draft: author's e-mail address unknown",
        "draft: target 94 % top-1 not reached",
        "draft: the task's target in DAWNBench is 94 % top-1, this run's was 85 % top-1",
    ]
    assert submission_rules(tmp_path / "out") == []


@pytest.mark.parametrize("command", ["entry", pytest.param("report", marks=pytest.mark.slow)])
def test_reasons_are_printed_beside_the_log_too(tmp_path, capsys, command):
    scripted_run(tmp_path)
    assert main([command, str(tmp_path)]) == 0
    assert capsys.readouterr().err == "draft: author unknown\ndraft: author's e-mail address unknown\n"
    assert main([command, str(tmp_path), *AUTHOR]) == 0
    assert capsys.readouterr().err == ""


HOSTILE = [
    "../../etc/passwd",
    "..",
    "/root",
    "a\tb\nc",
    "<script>alert(1)</script>",
    "\ud800\x00\x1b[31m",
    "x" * 5000,
    ".git",
    "-rf",
    "C:\\con",
    "名前",
    "",
    " _ ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_in_the_folder(tmp_path, capsys, name):
    run = imagenet_run(tmp_path / "run", model=name, hardware={"name": name})
    paths = written(capsys, run, tmp_path / "out", f"--author=A{name}", "--author-email=e", f"--hardware-tag={name}")
    folder = tmp_path / "out" / "ImageNet" / "train"
    assert [path.parent for path in paths] == [folder, folder]
    assert len(paths[0].name) < 255 and set(paths[0].name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-+"
    )
    table = paths[1].read_text().splitlines()
    assert len(table) == 3 and all(line.count("\t") == 3 for line in table)
    assert json.loads(paths[0].read_text())["model"] == name


@pytest.mark.parametrize("task", ["../x", "CIFAR10/../../x", "toy\tset", "ImageNet\n"])
def test_hostile_task_is_a_draft_in_the_folder_itself(tmp_path, capsys, task):
    (tmp_path / "out").mkdir()
    assert main(["entry", str(scripted_run(tmp_path / "run", task=task)), "--out", str(tmp_path / "out"), *AUTHOR]) == 0
    assert {path.parent for path in tmp_path.rglob("*_*")} == {tmp_path / "out"}
    assert "is no DAWNBench task" in capsys.readouterr().err


@pytest.mark.parametrize("text", HOSTILE)
def test_safe_is_never_empty_and_never_a_path(text):
    part = safe(text)
    assert part and part == safe(part) and "_" not in part and not part.startswith((".", "-"))


@pytest.mark.parametrize(("text", "part"), [
    ("Jörg Weiß", "Jorg-Weis"), ("Łukasz Ørsted", "Lukasz-Orsted"), ("김민준", "gimminjun"), ("さくら", "sakura"),
    ("A. Author", "A.-Author"), ("a/b", "a-b"), ("", "unknown"), ("!?", "unknown"),
])  # fmt: skip
def test_a_name_keeps_readable_in_ascii(text, part):
    assert safe(text) == part


def test_names_that_ascii_cannot_hold_or_that_are_too_long_stay_apart():
    names = ["名前", "别人", "Иван Petrov", "Олег Petrov", "x" * 60, "x" * 61]
    parts = [safe(name) for name in names]
    assert len(set(parts)) == 6 and parts[2].startswith("Petrov-") and all(len(part) <= 48 for part in parts)


def stems(capsys, out: Path, *runs: tuple[Path, str]) -> list[str]:
    """Of the entries that are written for these (run, author), one after the other."""
    for run, author in runs:
        assert main(["entry", str(run), "--out", str(out), "--author", author, "--author-email", "a@e.org"]) == 0
    return [Path(line).stem for line in capsys.readouterr().out.splitlines()[::2]]


def test_entries_of_two_authors_two_seeds_and_two_runs_stand_side_by_side(tmp_path, capsys):
    """A second author without an ASCII letter, another seed, the same seed again: nothing of another run is lost."""
    starts = ({"run_id": "a", "seed": 0}, {"run_id": "b", "seed": 1}, {"run_id": "c", "seed": 1})
    runs = [scripted_run(tmp_path / str(number), **start) for number, start in enumerate(starts)]
    (tmp_path / "out").mkdir()
    given = [(runs[0], "名前"), (runs[0], "别人"), *((run, "A") for run in runs)]
    first = stems(capsys, tmp_path / "out", *given)
    assert len(set(first)) == 5 and first[3] == f"{first[2]}-seed1" and len(list(tmp_path.glob("out/*/*/*"))) == 10
    before = {path: path.read_bytes() for path in tmp_path.glob("out/*/*/*")}
    assert stems(capsys, tmp_path / "out", *reversed(given)) == first[::-1]
    assert {path: path.read_bytes() for path in tmp_path.glob("out/*/*/*")} == before
    assert len(submission_rules(tmp_path / "out")) == 5


def test_an_entry_of_other_code_is_never_replaced(tmp_path, capsys):
    run, place = scripted_run(tmp_path / "run"), tmp_path / "out" / "CIFAR10" / "train"
    place.mkdir(parents=True)
    (place / "A_cifarnet_x_pytorch.tsv").write_text("theirs")
    flags = ["--author", "A", "--author-email", "a@e.org", "--hardware-tag", "x"]
    assert main(["entry", str(run), "--out", str(tmp_path / "out"), *flags]) == 0
    assert "A_cifarnet_x_pytorch-seed0.json" in capsys.readouterr().out
    for path in place.glob("*.json"):
        path.write_text("{}")
    assert main(["entry", str(run), "--out", str(tmp_path / "out"), *flags]) == 0
    for path in place.glob("*.json"):
        path.write_text("{}")
    assert main(["entry", str(run), "--out", str(tmp_path / "out"), *flags]) == 2
    assert "Give another --hardware-tag" in capsys.readouterr().err
    assert (place / "A_cifarnet_x_pytorch.tsv").read_text() == "theirs"


def test_hardware_tag_counts_devices(tmp_path):
    run = read_run(scripted_run(tmp_path, hardware={"name": "NVIDIA H100", "count": 8}))
    assert file_stem(run, Details("Some Body")) == "Some-Body_cifarnet_8xNVIDIA-H100_pytorch"


@pytest.mark.parametrize("flags", [["--clock", "total"], ["--hardware-tag", "x"], ["--log-url", "u"]])
def test_flags_of_out_need_it(tmp_path, capsys, flags):
    scripted_run(tmp_path, CORRECT)
    assert main(["entry", str(tmp_path), *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {flags[0]}: goes with --out")


def test_place_that_cannot_be_made_is_one_line(tmp_path, capsys):
    run, out = scripted_run(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    (out / "CIFAR10").write_text("a file")
    assert main(["entry", str(run), "--out", str(out), *AUTHOR]) == 2
    err = capsys.readouterr().err
    assert "cannot be made" in err and err.count("\n") == 1


def test_the_entry_of_an_older_log_has_the_four_clocks_of_its_time(tmp_path):
    new = entry(read_run(scripted_run(tmp_path)))["misc"]["lastEvaluation"]["hours"]
    old = entry(read_run(older_log(tmp_path)))["misc"]["lastEvaluation"]["hours"]
    assert list(old) == ["T_total", "T_dawn", "T_train", "T_cold"]
    assert old == {name: new[name] for name in old} and list(new) == [f"T_{clock}" for clock in CLOCKS]
