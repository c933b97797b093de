"""`check`: every change to a log is refused and named, a kill is not; entries are measured by DAWNBench's rules."""

import json
import re
import shutil
from pathlib import Path

import pytest
from dawn_script import START, Script, resumed_run, scripted_run
from tiny_run import train

from dawn import RunLog
from dawn.__main__ import main
from dawn.dawnbench.check import check_entry, check_log
from dawn.report import write_reports

AUTHOR = ["--author", "A", "--author-email", "a@example.org"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory, toy) -> dict[str, Path]:
    """Folders with the log of a training run of this repository, and of a scripted one that was killed and resumed."""
    folder = tmp_path_factory.mktemp("logs")
    assert train(toy, folder / "trained", "--print-freq", "2") in (0, 3)
    bare = folder / "bare"
    bare.mkdir()
    shutil.copy(folder / "trained" / "run.jsonl", bare)
    return {"trained": bare, "resumed": resumed_run(folder / "resumed")}


KINDS = pytest.mark.parametrize("kind", ["trained", "resumed"])


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "run.jsonl").read_bytes().splitlines(keepends=True)


def problems(folder: Path, lines: list[bytes]) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "run.jsonl").write_bytes(b"".join(lines))
    return check_log(folder).problems


def names_line(found: list[str], number: int) -> bool:
    return len(found) == 1 and bool(re.search(rf"line {number}\b", found[0]))


@KINDS
def test_untouched_logs_are_accepted(logs, kind):
    verdict = check_log(logs[kind])
    assert verdict.problems == [] and not verdict.unfinished
    assert not [note for note in verdict.notes if "no digest" in note]


@KINDS
def test_deleted_doubled_and_swapped_lines_are_named(logs, kind, tmp_path):
    """The last line alone may be missing: so a killed run looks."""
    lines = lines_of(logs[kind])
    assert len(lines) > 10
    for i in range(len(lines)):
        if i < len(lines) - 1:
            assert names_line(problems(tmp_path, lines[:i] + lines[i + 1 :]), i + 1)
            assert names_line(problems(tmp_path, [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]), i + 1)
        assert names_line(problems(tmp_path, [*lines[: i + 1], *lines[i:]]), i + 2)


@KINDS
def test_edited_lines_are_named(logs, kind, tmp_path):
    """A byte in thirty places of every line, its last 45 bytes (the chain itself) among them."""
    lines = lines_of(logs[kind])
    for i, line in enumerate(lines):
        end = len(line) - 1  # the newline: without it the line is torn, not edited
        for place in {*range(0, end, max(1, end // 25)), *range(end - 45, end, 9)}:
            edited = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
            assert names_line(problems(tmp_path, [*lines[:i], edited, *lines[i + 1 :]]), i + 1), (i, place)


@KINDS
def test_added_lines_are_named(logs, kind, tmp_path):
    lines = lines_of(logs[kind])
    for i in range(1, len(lines) + 1):
        assert names_line(problems(tmp_path, [*lines[:i], b'{"event": "note", "attempt": 0}\n', *lines[i:]]), i + 1)


@KINDS
def test_log_cut_by_a_kill_is_unfinished(logs, kind, tmp_path):
    whole = b"".join(lines_of(logs[kind]))
    first, step = whole.index(b"\n") + 1, max(1, len(whole) // 150)
    cuts = [i + 1 for i, byte in enumerate(whole) if byte == 10 and i + 1 < len(whole)] + [
        *range(first, len(whole), step)
    ]
    for cut in cuts:
        assert problems(tmp_path, [whole[:cut]]) == []
        verdict = check_log(tmp_path)
        assert verdict.unfinished and any("unfinished" in note for note in verdict.notes)


@KINDS
def test_log_that_was_cut_is_gone_on_with(logs, kind, tmp_path):
    """The chain goes on from the last whole line."""
    whole = b"".join(lines_of(logs[kind]))
    for cut in range(whole.index(b"\n") + 1, len(whole), max(1, len(whole) // 40)):
        (tmp_path / "run.jsonl").write_bytes(whole[:cut])
        with RunLog(tmp_path / "run.jsonl") as log:
            log.write("note", attempt=0)
            log.write("note", attempt=0)
        assert check_log(tmp_path).problems == []


def unchained(folder: Path, count: int) -> list[bytes]:
    """The log with the first lines as an older version wrote them."""
    lines = lines_of(folder)
    return [re.sub(rb', "chain": "\w{16}"', b"", line) for line in lines[:count]] + lines[count:]


def test_older_log_without_digests_is_accepted_with_a_note(logs, tmp_path):
    lines = unchained(logs["trained"], 10**6)
    assert problems(tmp_path, lines) == []
    assert any(f"{len(lines)} lines have no digest" in note for note in check_log(tmp_path).notes)


def test_older_log_that_is_gone_on_with_is_chained_from_there(tmp_path):
    script = Script(tmp_path)
    script.epoch(0, (5000, 9000))
    script.log.close()
    (tmp_path / "run.jsonl").write_bytes(b"".join(unchained(tmp_path, 10**6)))
    with RunLog(tmp_path / "run.jsonl") as log:
        log.write("note", attempt=0)
        log.write("note", attempt=0)
    lines = lines_of(tmp_path)
    assert check_log(tmp_path).problems == [] and b"chain" in lines[-1] and b"chain" not in lines[-3]
    assert names_line(problems(tmp_path, [*lines[:-3], *lines[-2:]]), len(lines) - 2)
    assert names_line(problems(tmp_path, [*lines[:-2], lines[-1]]), len(lines) - 1)


@pytest.mark.parametrize("change", [
    lambda line: line.replace(b"\n", b"\r\n"),
    lambda line: json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n",
    lambda line: json.dumps(json.loads(line), sort_keys=True).encode() + b"\n",
])  # fmt: skip
def test_a_log_that_was_written_anew_is_not_taken_for_an_older_one(logs, tmp_path, change):
    """Digests that are there but not as they were written: another program has had the log, line ends or all."""
    assert names_line(problems(tmp_path, [change(line) for line in lines_of(logs["trained"])]), 1)


def test_digest_removed_from_the_first_line_is_named(logs, tmp_path):
    assert names_line(problems(tmp_path, unchained(logs["trained"], 1)), 1)


def test_every_report_of_a_changed_log_is_refused(logs, tmp_path, capsys):
    lines = lines_of(logs["trained"])
    problems(tmp_path, [*lines[:2], *lines[3:]])
    for command in ("tsv", "entry", "summary", "chart", "report", "cost"):
        assert main([command, str(tmp_path)]) == 2
        assert "line 3: was changed, or lines before it are missing" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


# the command


def checked(capsys, *argv: object) -> tuple[int, str]:
    code = main(["check", *map(str, argv)])
    out, err = capsys.readouterr()
    assert err == "" and out
    return code, out


def test_log_says_target_and_margin(tmp_path, capsys):
    code, out = checked(capsys, scripted_run(tmp_path))
    assert code == 0 and out.startswith("ok ")
    assert "94 % top-1: reached in epoch 4, T_total 0.01" in out
    assert "9400 of 10000, 0 images above the line (standard error 24 images)" in out


def test_unfinished_log_is_exit_0_and_broken_log_exit_1(tmp_path, capsys):
    Script(tmp_path / "a").epoch(0, (9500, 9900))
    code, out = checked(capsys, tmp_path / "a" / "run.jsonl")
    assert code == 0 and out.startswith("unfinished ")
    (tmp_path / "a" / "run.jsonl").write_text("{}\n")
    code, out = checked(capsys, tmp_path / "a")
    assert code == 1 and out.startswith("REFUSED ") and "refused: line 1: not an object" in out


def test_reports_beside_the_log_must_say_the_same(tmp_path, capsys):
    write_reports(scripted_run(tmp_path), "A", "a@example.org")
    code, out = checked(capsys, tmp_path)
    assert code == 0 and "result.tsv is what the log says" in out and "entry.json is what the log says" in out
    table, record = tmp_path / "result.tsv", tmp_path / "entry.json"
    good = table.read_text()
    table.write_text(good.replace("94.12", "94.21"))
    code, out = checked(capsys, tmp_path / "entry.json")
    assert code == 1 and "result.tsv is not what the log says" in out
    table.write_text(good)
    for change in ('"epochs": 5,|"epochs": 4,', '"weightDecay": 0.0005|"weightDecay": 0.5', "EPYC|EPYK", "cifarnet|x"):
        before, after = change.split("|")
        good_record = record.read_text()
        record.write_text(good_record.replace(before, after, 1))
        code, out = checked(capsys, tmp_path)
        assert code == 1 and "entry.json:" in out and "is not what the log says" in out
        record.write_text(good_record)


def test_reports_of_a_log_that_was_cut_do_not_fit(tmp_path, capsys):
    write_reports(scripted_run(tmp_path), "A", "a@example.org")
    (tmp_path / "run.jsonl").write_bytes(b"".join(lines_of(tmp_path)[:-2]))
    assert checked(capsys, tmp_path)[0] == 1


@pytest.mark.parametrize("make", ["", "none", "empty", "folder.txt"])
def test_unreadable_input_is_exit_2(tmp_path, capsys, make):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.txt").mkdir()
    assert main(["check", str(tmp_path / make)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_log_flag_needs_one_entry(tmp_path, capsys):
    assert main(["check", str(scripted_run(tmp_path)), "--log", str(tmp_path)]) == 2
    assert "goes with one entry" in capsys.readouterr().err


# entries


def submission(tmp_path: Path, capsys, *flags: str) -> Path:
    (tmp_path / "clone").mkdir(exist_ok=True)
    scripted_run(tmp_path / "run")
    assert main(["entry", str(tmp_path / "run"), "--out", str(tmp_path / "clone"), *AUTHOR, *flags]) == 0
    return Path(capsys.readouterr().out.splitlines()[0])


@pytest.mark.parametrize("clock", ["dawn", "total", "train", "cold"])
def test_what_entry_writes_is_accepted_and_is_what_the_log_says(tmp_path, capsys, clock):
    path = submission(tmp_path, capsys, "--clock", clock, "--cost-per-hour", "3.06")
    code, out = checked(capsys, path, "--log", tmp_path / "run")
    assert code == 0 and f"hours are T_{clock}" in out and "dollars at 3.06 dollars per hour" in out
    assert checked(capsys, tmp_path / "clone")[0] == 0
    path.with_suffix(".tsv").write_text(path.with_suffix(".tsv").read_text().replace("89.0", "89.1"))
    assert checked(capsys, path, "--log", tmp_path / "run")[0] == 1


CHANGES = {
    "no author": (lambda f, t: f.pop("author"), "'author' is missing"),
    "no email": (lambda f, t: f.update(authorEmail=" "), "'authorEmail' is ' '"),
    "version": (lambda f, t: f.update(version="v2"), "it must be 'v1.0'"),
    "day": (lambda f, t: f.update(timestamp="22.11.2026"), "it must be a day"),
    "misc": (lambda f, t: f.update(misc=[]), "'misc' is []"),
    "cost": (lambda f, t: f.update(costPerHour="3"), "'costPerHour' is '3'"),
    "draft": (lambda f, t: f.update(draft=["why"]), "it is a draft: ['why']"),
    "images": (lambda f, t: f["misc"].update(validationImages=[9999]), "misc.validationImages is [9999]"),
    "column gone": (lambda f, t: t.__setitem__(0, "epoch\thours\ttop1"), "the columns are"),
    "no rows": (lambda f, t: t.__delitem__(slice(1, None)), "no rows"),
    "cell gone": (lambda f, t: t.__setitem__(2, "2\t0.0057"), "line 3 is"),
    "no number": (lambda f, t: t.__setitem__(2, "2\t0.0057\tnan"), "line 3 is"),
    "spaces for tabs": (lambda f, t: t.__setitem__(2, "2\t0.0057 77.0"), "line 3 is"),
    "hours back": (lambda f, t: t.__setitem__(2, "2\t0.001\t77.0"), "line 3: hours do not go forward"),
    "row doubled": (lambda f, t: t.insert(2, t[2]), "line 4: hours do not go forward"),
    "epoch back": (lambda f, t: t.__setitem__(3, "1.5\t0.0086875000\t89.0"), "line 4: the epoch goes back"),
    "shares": (lambda f, t: t.__setitem__(slice(1, 6), [f"{i}\t{i}\t0.9{i}" for i in range(1, 6)]), "shares of 1"),
    "too much": (lambda f, t: t.__setitem__(5, "5\t1\t940.0"), "not from 0 to 100"),
    "target hit at a second look": (lambda f, t: t.__setitem__(slice(4, None), ["3\t0.5\t95.0", "4\t1\t92.0"]),
                                    "best is 92 %; line 5: epoch 3 was evaluated again, the first evaluation counts"),
    "target missed": (lambda f, t: t.__delitem__(slice(4, None)), "not reached, the best is 89 %"),
    "endless cell": (lambda f, t: t.__setitem__(2, "2\t0.0057\t" + "7" * 200_000), "line 3 is"),
    "zero byte": (lambda f, t: t.__setitem__(2, "2\t0.0057\t7\0"), "line 3 is"),
    "no such count": (lambda f, t: t.__setitem__(5, "5\t1\t94.12345"), "the digits do not fit 10000 images"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_entry_that_breaks_a_rule_is_refused(tmp_path, capsys, change, reason):
    path = submission(tmp_path, capsys)
    fields, table = json.loads(path.read_text()), path.with_suffix(".tsv").read_text().splitlines()
    change(fields, table)
    path.write_text(json.dumps(fields))
    path.with_suffix(".tsv").write_text("\n".join(table))
    code, out = checked(capsys, path)
    assert code == 1 and reason in out


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"author": NaN}'])
def test_entry_that_is_no_json_is_refused(tmp_path, capsys, data):
    path = submission(tmp_path, capsys)
    path.write_bytes(data)
    assert checked(capsys, path)[0] == 1
    path.with_suffix(".tsv").write_bytes(data)
    assert checked(capsys, path)[0] == 1
    path.with_suffix(".tsv").unlink()
    code, out = checked(capsys, path)
    assert code == 1 and "there is no" in out


FIELDS = {name: "x" for name in ("author", "authorEmail", "framework", "model", "hardware")}
FIELDS |= {"version": "v1.0", "timestamp": "2018-09-07", "usedBlacklist": True}
HEADER = "epoch\thours\ttop1Accuracy\ttop5Accuracy\n"


def published(folder: Path, name: str, rows: str, header: str = HEADER) -> Path:
    """An entry in the layout of dawn-bench-entries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(FIELDS))
    (folder / f"{name}.tsv").write_text(header + rows)
    return folder / f"{name}.json"


FASTAI_8_MACHINES = "0\t0.01241\t4.248\t12.422\n29\t0.31472\t75.812\t93.012\n35\t0.43295\t75.944\t93.186"
HUAWEI = "0\t0\t0.103652712\t0.46021791\n34\t0.038317831\t73.7012456\t92.07676234\n"
HUAWEI += "36\t0.045093458\t75.3265038\t93.10087568\n"
HOURS_FIRST = "hours\tepoch\ttop1Accuracy\ttop5Accuracy\n"


def test_clone_of_dawn_bench_entries_as_it_is(tmp_path, capsys):
    """Old layouts, other tasks, stray files and a blank line at the end; one entry is bad and named."""
    train = tmp_path / "ImageNet" / "train"
    published(train, "fastai_8", FASTAI_8_MACHINES)
    published(train, "huawei", HUAWEI)
    published(train, "ppwwyyxx", "0.71\t1\t19.152\t41.018\n44.474\t61\t77.234\t93.6\n\n", HOURS_FIRST)
    published(train, "google", "18\t0.67\t33.46\t59.36\n18\t0.69\t34.96\t60.96\n41\t2.74\t76.02\t93.18\n")
    (train / "log_of_somebody.tsv").write_text("not\tours")
    for other in ("SQuAD/train", "ImageNet/inference", ".git/ImageNet/train"):
        (tmp_path / other).mkdir(parents=True)
        (tmp_path / other / "x.json").write_text("{")
    code, out = checked(capsys, tmp_path)
    assert code == 0 and out.count("\nok ") + out.startswith("ok ") == 4 and "4 keep the rules, 0 refused" in out
    assert "46506 of 50000, 6 images above the line (standard error 57 images)" in out
    assert "44910 of 48238" in out and "the blacklisted images left out" in out
    assert "44.474 h" in out and "all 50000 images" in out
    published(train, "bad", "1\t0.1\t70\t92.9\n")
    code, out = checked(capsys, train)
    assert code == 1 and "4 keep the rules, 1 refused" in out and "not reached, the best is 92.9 %" in out


def test_a_draft_about_another_dataset_is_not_counted_in_images_of_imagenet(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    scripted_run(tmp_path / "run", ((270, 299), (295, 300)), images=300, task="toy", dataset=START["dataset"] | {
        "name": "toy", "validation_images": 300})  # fmt: skip
    assert main(["entry", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *AUTHOR]) == 0
    code, out = checked(capsys, capsys.readouterr().out.splitlines()[0], "--log", tmp_path / "run")
    assert code == 1 and "'toy' is no DAWNBench task" in out and "the dataset is 'toy'" in out
    assert "50000" not in out and "hours are T_dawn" in out


def test_folder_of_runs(tmp_path, capsys):
    scripted_run(tmp_path / "a")
    Script(tmp_path / "b").epoch(0, (1, 2))
    code, out = checked(capsys, tmp_path)
    assert code == 0 and "2 keep the rules, 0 refused" in out


def test_hostile_paths_and_values_are_printed_harmlessly(tmp_path, capsys):
    path = published(tmp_path / "ImageNet" / "train", "a\tb\x1b[31m", FASTAI_8_MACHINES)
    path.write_text(json.dumps(FIELDS | {"version": "\x1b[31m\n<script>"}))
    code, out = checked(capsys, tmp_path)
    assert code == 1 and "\x1b" not in out and all(line == line.strip("\r") for line in out.splitlines())
    assert check_entry(path, "ImageNet").problems
