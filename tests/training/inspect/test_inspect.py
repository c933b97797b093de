"""--inspect: the same weights with any setting, the same files for loaders and ranks, and what is in them."""

import csv
import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import events, train

from data_prep import load_manifest
from dawn.importers.tfevents_file import read_file
from dawn.page.inside import inside
from training.__main__ import main
from training.config.saved import read_config
from training.engine.checkpoint import load
from training.engine.state import fingerprint
from training.inspect.history import suspects, worst_images
from training.inspect.pictures import SMALL_SIDE
from training.inspect.predictions import Images
from training.inspect.sheets import IN_STRIP
from training.inspect.stored import names_of, read_stored
from training.inspect.views import views

FULL = ("--inspect", "full", "--inspect-every", "2")


def rows_of(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """A run of two epochs with everything that is looked at. Read only."""
    folder = tmp_path_factory.mktemp("inspected") / "run"
    assert train(toy, folder, *FULL, "--tensorboard") == 0
    return folder


@pytest.mark.parametrize("level", ["off", pytest.param("light", marks=pytest.mark.slow)])
def test_weights_are_the_same_bits_with_any_setting(run, toy, tmp_path, level):
    assert train(toy, tmp_path / "run", "--inspect", level) == 0
    states = [load(folder, pytest.fail)["state"] for folder in (run, tmp_path / "run")]
    assert fingerprint(states[0]["model"]) == fingerprint(states[1]["model"])
    assert (tmp_path / "run" / "inspect").exists() == (level == "light")
    assert [row["validation"] for row in events(run)] == [row["validation"] for row in events(tmp_path / "run")]


def test_what_is_looked_at_counts_on_its_own_label(run):
    for row in events(run):
        assert row["seconds"]["inspect"] > 0
    assert "inspect" in (run / "summary.txt").read_text()


def test_counts_are_those_of_the_validation(run, toy):
    stored, last = read_stored(run), events(run)[-1]["validation"]
    assert int(stored.counts.confusion.sum()) == last["images"] == 60
    assert int(stored.counts.confusion.diagonal().sum()) == last["correct1"]
    assert sorted(stored.images) == [0, 1] and stored.images[1].rows.tolist() == list(range(60))
    classes = rows_of(run / "inspect" / "classes.csv")
    assert sum(int(row["images"]) for row in classes) == sum(int(row["predicted"]) for row in classes) == 60
    f1 = [float(row["f1"]) for row in classes if row["f1"]]
    assert f1 == sorted(f1) and {row["class"] for row in classes} == set(load_manifest(toy).classes)
    worst = rows_of(run / "inspect" / "worst.csv")
    assert [row["rank_epoch_2"] for row in worst[:3]] == ["1", "2", "3"] and worst[0]["file"].startswith("validation/")


def test_the_loss_is_the_cross_entropy_of_the_evaluated_network(run):
    images = read_stored(run).images[1]
    assert np.isfinite(images.loss).all()
    right = images.predicted == images.labels
    np.testing.assert_allclose(np.exp(-images.loss[right]), images.probability[right], rtol=1e-5)


def test_gradients_of_every_layer_are_stored(run):
    with np.load(run / "inspect" / "gradients.npz", allow_pickle=False) as file:
        names, seen, facts = file["names"].tolist(), file["images_seen"].tolist(), file["facts"]
    assert facts.shape == (len(seen), len(names), 8) and np.isfinite(facts).all()
    assert seen == [0, 120, 240, 320, 400]  # every other step of 4 and of 6
    least, mean, most, norm = facts[0, -1, :4]
    assert least < mean < most and norm > 0 and 0 < facts[0, -1, 7] < 1


def test_a_run_that_diverges_shows_its_gradients(toy, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(toy, run, *FULL, "--phases", "[{'ep': 0, 'sz': 16, 'bs': 40}, {'ep': (0, 2), 'lr': (1e9, 1e9)}]") == 4
    out = capsys.readouterr().out
    assert "epoch 1: gradients explode in" in out
    assert f"{run / 'inspect'}: gradients.png; the run has no validation" in out and "no inspection" not in out
    with np.load(run / "inspect" / "gradients.npz", allow_pickle=False) as file:
        assert file["images_seen"][0] == 0
    assert (run / "inspect" / "gradients.png").is_file()
    assert "no validation that was inspected" in refused(capsys, "suspects", str(run))


@pytest.mark.slow
def test_an_interrupted_run_keeps_the_gradients_of_the_steps_before(toy, tmp_path):
    """They were lost: the checkpoint has the steps, so that the next attempt does not look at them again."""
    run, stop = tmp_path / "run", json.dumps({"kind": "term", "epoch": 1, "step": 3})
    assert train(toy, run, *FULL, "--inject-fault", stop) == 75
    assert main(["--resume", str(run)]) == 0
    with np.load(run / "inspect" / "gradients.npz", allow_pickle=False) as file:
        assert file["images_seen"].tolist() == [0, 120, 240, 320, 400]


def test_light_says_nothing_of_a_run_that_diverges_before_its_first_validation(toy, tmp_path, capsys):
    said = {}
    for level in ("off", "light"):
        phases = "[{'ep': 0, 'sz': 16, 'bs': 40}, {'ep': (0, 2), 'lr': (1e9, 1e9)}]"
        assert train(toy, tmp_path / level, "--inspect", level, "--phases", phases) == 4
        said[level] = capsys.readouterr().out.replace(str(tmp_path / level), "RUN").partition("diverged: ")[2]
    assert said["light"] == said["off"] and "diagnose RUN" in said["off"]


def test_the_confused_pairs_of_the_last_validation_have_their_images(run):
    images = read_stored(run).images[1]
    wrong = Counter(zip(images.labels.tolist(), images.predicted.tolist(), strict=True))
    pairs = {f"{label}-{predicted}.png": n for (label, predicted), n in wrong.items() if label != predicted}
    found = {path.name: Image.open(path).size for path in (run / "inspect" / "pairs").iterdir()}
    assert found == {name: (min(n, IN_STRIP) * (SMALL_SIDE + 2), SMALL_SIDE) for name, n in pairs.items()}
    assert inside(run / "inspect", 10**7).count("data-images=") == len(pairs) > 0


def test_sheets_of_every_epoch_are_there(run):
    names = {path.name for path in (run / "inspect" / "sheets").iterdir()}
    kinds = [f"{split}-{kind}-loss" for split in ("training", "validation") for kind in ("largest", "smallest")]
    assert names == {f"{kind}-{epoch:04d}.png" for kind in (*kinds, "grad-cam", "grad-cam-worst") for epoch in (1, 2)}


@pytest.fixture(scope="module")
def board(run) -> dict[str, list]:
    """The values of the run's only event file by tag, each with its step in front."""
    (path,) = run.glob("events.out.tfevents.*")
    found: dict[str, list] = {}
    for event in read_file(path):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
    return found


def test_tensorboard_compares_runs_by_their_settings_and_final_metrics(board, run):
    """In the run's own event file: TensorBoard joins settings and scalars of one folder only."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    (_, start), (_, experiment) = (board[f"_hparams_/{name}"][0] for name in ("session_start_info", "experiment"))
    data = HParamsPluginData.FromString(start.metadata.plugin_data.content).session_start_info.hparams
    assert data["width"].number_value == 0.125 and data["inspect"].string_value == "full" and "seed" in data
    assert "logdir" not in data and "weight_decay" not in data  # a path; at its default
    infos = HParamsPluginData.FromString(experiment.metadata.plugin_data.content).experiment.metric_infos
    assert {info.name.tag for info in infos} <= board.keys()
    step, value = board["final/total_seconds"][0]
    assert step == 480 and value.simple_value == pytest.approx(events(run, "stop")[0]["clock"]["total"])


def test_tensorboard_has_what_every_group_trains_with_at_each_epoch(board):
    rates = board["groups/0 weights/learning rate"]
    assert [step for step, _ in rates] == [240, 480] and rates[0][1].simple_value > rates[1][1].simple_value
    assert board["groups/0 weights/momentum"][0][1].simple_value == pytest.approx(0.9)
    assert "groups/1 norms and biases/weight decay" in board


def test_tensorboard_has_curves_histograms_and_pictures(board, run):
    counts = read_stored(run).counts
    curves = {tag: found[0][1] for tag, found in board.items() if tag.startswith("precision-recall/")}
    assert len(curves) == 1 + int((counts.confusion.sum(1) > 0).sum())  # the micro average, too
    points = torch.tensor(np.frombuffer(curves["precision-recall/micro average"].tensor.tensor_content, np.float32))
    points = points if len(points) else torch.tensor(curves["precision-recall/micro average"].tensor.float_val)
    assert points.reshape(6, -1)[:2, 0].tolist() == [60, 300]  # at threshold 0 everything of 6 classes is positive
    images = read_stored(run).images
    seen = board["highest probability/wrong images"]
    assert [value.histo.num for _, value in seen] == [(i.predicted != i.labels).sum() for i in images.values()]
    assert [step for step, _ in board["sheets/grad-cam"]] == [240, 480]
    assert board["inspect/gradients"][0][1].image.encoded_image_string == (run / "inspect/gradients.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["packed", "processes", "threads", "dali"])
def test_loaders_of_image_trees_are_inspected(toy, tmp_path, loader):
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    more = ("--loader", loader, "--shift", "0", "--workers", "1", "--epochs", "1")
    assert train(toy, tmp_path / "run", *FULL, *more) == 0
    assert read_stored(tmp_path / "run").images[0].rows.tolist() == list(range(60))
    assert len(list((tmp_path / "run" / "inspect" / "sheets").iterdir())) == 6
    assert (tmp_path / "run" / "inspect" / "confusion.png").is_file()  # with --no-tensorboard, as here
    assert not list((tmp_path / "run").glob("events.*"))


# suspects


def history(predicted, probability, labels) -> dict[int, Images]:
    rows = np.arange(len(labels))
    return {
        epoch: Images(rows, np.array(labels), np.array(p), np.array(x, np.float32), np.ones(len(labels), np.float32))
        for epoch, (p, x) in enumerate(zip(predicted, probability, strict=True))
    }


def test_a_suspect_is_wrong_with_confidence_late_in_the_run():
    """Image 0 is wrong early only, 1 is wrong each time and sure, 2 is wrong each time and unsure, 3 is right."""
    images = history(
        [[1, 1, 1, 0], [1, 1, 2, 0], [0, 1, 1, 0], [0, 1, 2, 0]], [[0.9, 0.9, 0.4, 0.9]] * 4, labels=[0, 0, 0, 0]
    )
    found = suspects(images)
    assert [(one.row, one.predicted, one.wrong, one.of) for one in found] == [(1, 1, 2, 2), (2, 1, 2, 2)]
    assert found[0].score == pytest.approx(1 + np.log(0.9))  # its loss is 1
    assert [one.row for one in worst_images(images, 2)] == [0, 1]  # equal losses, by row


def test_suspects_are_told_with_their_files(run, capsys):
    assert main(["suspects", str(run), "--html", "--top", "3"]) == 0
    out = capsys.readouterr().out
    assert "validation/" in out and "of 60 validation images disagree" in out
    page = (run / "inspect" / "suspects.html").read_text()
    assert page.count("<figure>") == len(rows_of(run / "inspect" / "suspects.csv")) and "file://" in page


def test_pictures_are_linked_where_only_a_copy_of_the_dataset_is(toy, tmp_path, capsys):
    """DATA-sz/12 and no DATA."""
    copy = tmp_path / "data-sz" / "12"
    copy.parent.mkdir()
    copy.symlink_to(toy)
    phases = "[{'ep': 0, 'sz': 12, 'bs': 60, 'trndir': '-sz/12'}, {'ep': (0, 1), 'lr': (0.1, 0.0)}]"
    assert train(tmp_path / "data", tmp_path / "run", "--phases", phases, "--inspect", "light") == 0
    assert main(["suspects", str(tmp_path / "run"), "--html"]) == 0
    assert "note: " not in capsys.readouterr().err
    assert f"{copy.as_uri()}/validation/" in (tmp_path / "run" / "inspect" / "suspects.html").read_text()


def test_a_validation_whose_file_is_gone_is_told(run, tmp_path, capsys):
    """The scores rest on the others alone."""
    copy = without_dataset(run, tmp_path)
    (copy / "inspect" / "epochs" / "0001.npz").unlink()
    assert main(["suspects", str(copy)]) == 0
    assert "of the validation after epoch 1: it does not count" in capsys.readouterr().err


def test_validations_that_a_resume_went_back_behind_do_not_count(run, tmp_path, capsys):
    """The attempt before came further: its file of epoch 3 is there, and the numbers are of epoch 2."""
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "sheets"))
    shutil.copy(copy / "inspect" / "epochs" / "0001.npz", copy / "inspect" / "epochs" / "0003.npz")
    assert sorted(read_stored(copy).images) == [0, 1]
    tables = []
    for folder in (run, copy):
        assert main(["suspects", str(folder)]) == 0
        tables.append((folder / "inspect" / "suspects.csv").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_planted_wrong_labels_are_found(tmp_path):
    """1 % of the validation labels: at least 80 % of them are among the first 2 % of the images."""
    from data_prep.sources.toy import prepare_toy
    from data_prep.trees.adopt import adopt

    prepare_toy(tmp_path / "made", images=4000)
    root = tmp_path / "toy"
    for split in ("train", "validation"):  # without the packed arrays, which have the labels that are right
        shutil.copytree(tmp_path / "made" / split, root / split)
    pictures = sorted((root / "validation").rglob("*.jpg"))
    wrong = pictures[:: len(pictures) // (len(pictures) // 100)][: len(pictures) // 100]
    for path in wrong:
        path.rename(root / "validation" / ("disc" if path.parent.name == "ring" else "ring") / f"moved-{path.name}")
    adopt(root)
    more = ["--loader", "threads", "--shift", "0", "--inspect", "light", "--device", "cpu"]
    assert main([str(root), "--recipe", "toy", *more, "--logdir", str(tmp_path / "run")]) in (0, 3)
    assert main(["suspects", str(tmp_path / "run")]) == 0
    first = rows_of(tmp_path / "run" / "inspect" / "suspects.csv")[: 2 * len(wrong)]
    assert sum("moved-" in row["file"] for row in first) >= 0.8 * len(wrong)


# bad input


def refused(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_a_run_without_inspection_has_no_suspects(toy, tmp_path, capsys):
    assert train(toy, tmp_path / "run", "--epochs", "1") == 0
    capsys.readouterr()
    assert "was not inspected. Train with --inspect light" in refused(capsys, "suspects", str(tmp_path / "run"))
    assert "nowhere" in refused(capsys, "suspects", str(tmp_path / "nowhere"))


def without_dataset(run, folder):
    """A copy of a run whose dataset is gone."""
    copy = shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("checkpoints", "sheets"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"data": str(folder / "gone")}))
    return copy


def test_suspects_keep_their_names_when_the_dataset_is_gone(run, tmp_path, capsys):
    copy = without_dataset(run, tmp_path)
    assert main(["suspects", str(run)]) == main(["suspects", str(copy), "--html"]) == 0
    tables = [(folder / "inspect" / "suspects.csv").read_bytes() for folder in (run, copy)]
    assert tables[0] == tables[1] and b"validation/" in tables[0]
    err = capsys.readouterr().err
    assert "shows no picture" in err and "not the run's dataset" not in err


@pytest.mark.parametrize(("text", "words"), [
    ('{"classes": ["a"], "files": []}', "its names are not of 6 classes and 60 files"),
    ('{"classes": 6, "files": []}', "it has no lists of names"),
    ('{"classes": ', "Expecting value"),
    ("[]", "list indices must be"),
])  # fmt: skip
def test_damaged_names_are_named(run, tmp_path, capsys, text, words):
    copy = without_dataset(run, tmp_path)
    (copy / "inspect" / "names.json").write_text(text)
    assert f"names.json: is damaged ({words}" in refused(capsys, "suspects", str(copy))


def test_suspects_without_dataset_and_stored_names_are_numbers(run, tmp_path, capsys):
    copy = without_dataset(run, tmp_path)
    (copy / "inspect" / "names.json").unlink()
    assert main(["suspects", str(copy), "--html"]) == 0
    out, err = capsys.readouterr()
    assert "class 0" in (copy / "inspect" / "suspects.csv").read_text() and "validation image " in out
    assert f"note: {tmp_path / 'gone'}: not the run's dataset" in err and "shows no picture" in err


@pytest.mark.parametrize(("changed", "words"), [
    ({"labels": np.full(60, 6, np.int32)}, "its labels are not from 0 to 5"),
    ({"predicted": np.full(60, -2, np.int32)}, "its predicted are not from -1 to 5"),
    ({"rows": np.arange(60) + 1}, "its rows are not from -1 to 59"),
    ({"loss": np.zeros(59, np.float32)}, "its columns are not of 60 images"),
    ({"labels": np.zeros(60, np.float32)}, "its columns are of other types"),
])  # fmt: skip
def test_stored_images_that_no_validation_has_are_damaged(run, tmp_path, capsys, changed, words):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "sheets"))
    path = copy / "inspect" / "epochs" / "0002.npz"
    np.savez(path, **(dict(np.load(path)) | changed))
    assert f"{path}: is damaged ({words})" in refused(capsys, "suspects", str(copy))


@pytest.mark.parametrize(("write", "words"), [
    (lambda path: path.write_text("no arrays"), "it is no .npz file"),
    (lambda path: np.save(path.open("wb"), 1), "this is a NumPy array. Name the file that is meant"),
])  # fmt: skip
def test_a_file_that_is_no_npz_is_named_in_words_of_ours(run, tmp_path, capsys, write, words):
    """NumPy's words would be to load it as a pickle."""
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "sheets"))
    path = copy / "inspect" / "epochs" / "0002.npz"
    write(path)
    line = refused(capsys, "suspects", str(copy))
    assert f"{path}: is damaged ({words}). Restore it, or train again with --inspect" in line


def test_without_rows_no_image_is_named(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "sheets"))
    for path in (copy / "inspect" / "epochs").iterdir():
        np.savez(path, **(dict(np.load(path)) | {"rows": np.full(60, -1)}))
    assert "does not tell which images it gave" in refused(capsys, "suspects", str(copy))
    stored = read_stored(copy)
    names = names_of(copy, read_config(copy), stored)
    assert views(stored, names, full=False)["worst.csv"].count(b"\n") == 1


@pytest.mark.slow
def test_a_network_without_a_map_is_inspected_without_grad_cam(toy, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef flat(classes): return nn.Sequential(nn.Flatten(), nn.Linear(432, classes))\n"
    )
    phases = "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': (0, 1), 'lr': (0.1, 0.0)}]"
    own = ("--model", f"{tmp_path / 'mine.py'}:flat", "--phases", phases)
    assert train(toy, tmp_path / "run", *FULL, *own) == 0
    assert "epoch 1: no Grad-CAM: no module has a map" in capsys.readouterr().out
    assert (tmp_path / "run" / "inspect" / "sheets" / "validation-largest-loss-0001.png").exists()


LOST = """
import torch
from torch import nn

class Lost(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, classes)

    def forward(self, images):
        logits = self.head(self.body(images))
        bright = images.mean((1, 2, 3)) > -0.5
        return logits if self.training else logits.masked_fill(bright[:, None], float("nan"))
"""


@pytest.mark.slow
def test_validation_images_whose_logits_are_not_finite_are_told_and_counted_apart(toy, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(LOST)
    folder = tmp_path / "run"
    assert train(toy, folder, *FULL, "--model", f"{tmp_path / 'mine.py'}:Lost", "--tensorboard", "--epochs", "1") == 0
    out, stored = capsys.readouterr().out, read_stored(folder)
    images, lost = stored.images[0], int(stored.counts.not_finite.sum())
    assert 0 < lost < 60 and f"epoch 1: {lost} validation images have logits that are not finite" in out
    assert "no inspection" not in out and int(stored.counts.images.sum()) == 60
    assert int(stored.counts.confusion.diagonal().sum()) == events(folder)[0]["validation"]["correct1"]
    assert (images.predicted == -1).sum() == np.isinf(images.loss).sum() == np.isnan(images.probability).sum() == lost
    tables = {name: rows_of(folder / "inspect" / f"{name}.csv") for name in ("classes", "calibration", "worst")}
    assert sum(int(row["not_finite"]) for row in tables["classes"]) == lost
    assert sum(int(row["images"]) for row in tables["calibration"]) == 60 - lost
    assert [row["prediction"] for row in tables["worst"][:lost]] == [""] * lost and tables["worst"][lost]["prediction"]
    assert main(["suspects", str(folder)]) == 0
    wrong = (images.predicted != images.labels) & (images.predicted >= 0)
    assert len(rows_of(folder / "inspect" / "suspects.csv")) == wrong.sum()


def test_a_folder_that_cannot_be_written_ends_a_run_before_it_trains(run, tmp_path, capsys):
    copy, log = killed_copy(run, tmp_path)
    shutil.rmtree(copy / "inspect")
    (copy / "inspect").write_text("in the way")
    before = log.read_bytes()
    line = refused(capsys, "--resume", str(copy), "--device", "cpu")
    assert f"{copy / 'inspect'}: cannot be written (File exists)" in line and log.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "missing column", "lost", "lost counts"])
def test_damaged_files_are_named(run, tmp_path, capsys, damage):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "sheets"))
    path = copy / "inspect" / "epochs" / "0002.npz"
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "missing column":
        np.savez(path, rows=np.arange(3))
    else:
        path = path if damage == "lost" else copy / "inspect" / "counts.npz"
        path.unlink()
    words = "is missing" if damage.startswith("lost") else "is damaged"
    assert f"{path}: {words}" in refused(capsys, "suspects", str(copy))


def killed_copy(run, folder):
    """Of a run, without the line of its end; and its log."""
    copy = shutil.copytree(run, folder / "run")
    log = copy / "run.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    assert b'"stop"' in lines.pop()
    log.write_bytes(b"".join(lines))
    return copy, log


@pytest.mark.parametrize("damage", ["cut", "a bit", "other layers"])
def test_unreadable_gradients_are_named_before_a_run_goes_on(run, tmp_path, capsys, damage):
    copy, log = killed_copy(run, tmp_path)
    path, before = copy / "inspect" / "gradients.npz", log.read_bytes()
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "a bit":  # that says the first array is encrypted
        data = bytearray(path.read_bytes())
        place = data.index(b"PK\x01\x02") + 8
        data[place] ^= 1
        path.write_bytes(data)
    else:
        np.savez(path, names=np.array(["a"]), images_seen=np.arange(2), facts=np.zeros((2, 3, 8), np.float32))
    line = refused(capsys, "--resume", str(copy), "--device", "cpu")
    assert f"{path}: is damaged (" in line and "move it away" in line and log.read_bytes() == before


def test_a_cell_without_a_value_is_empty():
    """Classes that are there and never called, never there and called, and neither."""
    from training.inspect.counts import count
    from training.inspect.tables import classes_csv, confused_pairs

    probabilities = [[0.8, 0.1, 0.1, 0]] * 3 + [[0.1, 0, 0.9, 0]]
    counts = count(torch.tensor(probabilities), torch.tensor([0, 0, 1, 1]))
    rows = {row["class"]: row for row in csv.DictReader(classes_csv(counts, ["a", "b", "c", "d"]).splitlines())}
    numbers = ("precision", "recall", "f1", "average_precision", "roc_auc")
    empty = {name: [number for number in numbers if row[number] == ""] for name, row in rows.items()}
    without_images = ["recall", "average_precision", "roc_auc"]
    assert empty == {"a": [], "b": ["precision"], "c": without_images, "d": list(numbers)}
    assert rows["c"]["precision"] == rows["c"]["f1"] == rows["b"]["f1"] == "0.0000"
    assert (rows["c"]["images"], rows["c"]["predicted"]) == ("0", "1")
    assert confused_pairs(counts) == [(1, 0, 1), (1, 2, 1)]
