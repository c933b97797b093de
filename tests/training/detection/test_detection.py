"""The detection backbone: weights reach the detector, mAP is COCO's, a run can be killed and resumed."""

import contextlib
import io
import json
import math
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_toy import refuse

from data_prep import DataError
from data_prep.formats.coco import read_coco
from data_prep.sources.coco_scenes import prepare_coco_toy
from dawn import RunLog
from training.__main__ import main
from training.config.config import Config
from training.detection.backbone import open_backbone
from training.detection.coco_map import mean_average_precision
from training.detection.command import build_job, guarded, opened_folder
from training.detection.data import Pictures, TrainBatches, validation_batches
from training.detection.detector import build_detector, build_optimizer, lr_factor, what_is_trained
from training.detection.settings import PRESETS, DetectSettings, detect_settings
from training.distributed.process import StopSignal
from training.engine.checkpoint import load
from training.engine.state import fingerprint
from training.errors import ConfigError
from training.models.build import build_model

SMALL = ["--model", "resnet18", "--size", "64", "--max-size", "96", "--device", "cpu"]
SETTINGS = DetectSettings(size=64, max_size=96)


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    """Eight training and two validation pictures. Read only."""
    root = tmp_path_factory.mktemp("coco") / "toy"
    prepare_coco_toy(root, 8)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A state dict of torchvision's ResNet-18 with statistics that are not the initial ones."""
    from torchvision import models

    torch.manual_seed(7)
    network = models.resnet18(num_classes=6)
    network(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "r18.pt"
    torch.save(network.state_dict(), path)
    return path


def detect(*arguments) -> int:
    return main(["detect", *map(str, arguments)])


RUN = ["--weights", "random", *SMALL, "--batch-size", "1", "--steps", "1", "--workers", "0"]
LONGER = ("--batch-size", "2", "--steps", "2")


@pytest.fixture(scope="module")
def finished(coco, tmp_path_factory):
    """The folder of a run of one step and what it printed. Read only; removed at the end, it has 340 MB."""
    folder, said = tmp_path_factory.mktemp("runs") / "whole", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert detect(coco, *RUN, "--logdir", folder) == 0
    yield folder, said.getvalue()
    shutil.rmtree(folder)


def test_a_run_reports_the_map_and_says_what_it_trains(coco, finished, capsys):
    folder, out = finished
    assert "the backbone's 20 batch norms are trained; nothing is frozen" in out and "AP50" in out
    result = json.loads((folder / "detect.json").read_text())
    assert result["step"] == 1 and 0 <= result["AP"] <= result["AP50"] <= 1 and math.isfinite(result["loss"])
    assert result["backbone"]["origin"] == "random weights of resnet18" and result["versions"]["pycocotools"]
    assert result["clock"]["total"] >= result["clock"]["train"] > 0
    events = [json.loads(line)["event"] for line in (folder / "detect.jsonl").read_text().splitlines()]
    assert events == ["start", "evaluation", "stop"]
    assert detect("--resume", folder) == 2 and "has ended" in capsys.readouterr().err
    assert detect(coco, *RUN, "--logdir", folder) == 2 and "holds another run" in capsys.readouterr().err


class StoppedAt(TrainBatches):
    """Asks for a stop, as SIGTERM does, when its batch number `stop_at` (from 1) is read."""

    stop: StopSignal
    stop_at = 1
    read = 0

    def epoch(self, epoch: int, start: int):
        for batch in super().epoch(epoch, start):
            self.read += 1
            if self.read == self.stop_at:
                self.stop.requested, self.stop.name = True, "SIGTERM"
            yield batch


def stopped_run(coco: Path, folder: Path, stop_at: int, *more: str) -> None:
    settings = detect_settings([str(coco), *RUN, *more, "--logdir", str(folder)])
    dataset, stop = read_coco(coco), StopSignal()
    batches = StoppedAt(dataset.train, settings.batch_size, settings.seed, 0)
    batches.stop, batches.stop_at = stop, stop_at
    backbone = open_backbone("random", "resnet18", 0, refuse)
    with opened_folder(settings) as place, RunLog(place / "detect.jsonl") as log:
        assert guarded(build_job(settings, dataset, batches, backbone, torch.device("cpu"), place, log, stop)) == 75


def weights_of(folder: Path) -> str:
    state = load(folder, refuse)["state"]
    return fingerprint([state["model"], state["optimizer"], state["rng"], state["done"]])


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(coco, tmp_path, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "parts"
    assert detect(coco, *RUN, *LONGER, "--logdir", whole) == 0
    stopped_run(coco, folder, 1, *LONGER)
    assert "saved. Go on with --resume" in capsys.readouterr().out
    assert detect("--resume", folder) == 0 and "going on after step 1" in capsys.readouterr().out
    assert weights_of(whole) == weights_of(folder)
    results = [json.loads((place / "detect.json").read_text()) for place in (whole, folder)]
    assert all(results[0][name] == results[1][name] for name in ("AP", "AP50", "loss", "step", "lr"))
    for place in (whole, folder):
        shutil.rmtree(place)


@pytest.mark.slow
def test_an_evaluation_that_was_stopped_is_made_first(coco, tmp_path):
    """It was left out: the run went on with the next epoch, and the loss of two epochs was told as one."""
    more = ("--batch-size", "2", "--steps", "0", "--epochs", "2")  # of four steps
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert detect(coco, *RUN, *more, "--logdir", whole) == 0
    stopped_run(coco, parts, 4, *more)
    assert detect("--resume", parts) == 0
    logs = [map(json.loads, (folder / "detect.jsonl").read_text().splitlines()) for folder in (whole, parts)]
    rows = [[(row["step"], row["AP"], row["loss"]) for row in log if row["event"] == "evaluation"] for log in logs]
    assert rows[0] == rows[1] and [row[0] for row in rows[0]] == [4, 8]
    for folder in (whole, parts):
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_scales_of_the_pyramid_do_not_depend_on_the_first_pictures(weights):
    """torchvision takes them from the first batch: small padded pictures made them wrong, a resume made them new."""
    detector = build_detector(open_backbone(str(weights), "", 0, refuse), 6, SETTINGS).eval()
    with torch.no_grad():
        detector([torch.rand(3, 66, 64)])  # padded to 96 x 64
    assert detector.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_blurpool_is_in_an_exports_header_and_reaches_the_backbone(tmp_path):
    """It has no weights, so the backbone was a plain ResNet, and nobody was told."""
    from safetensors.torch import save_file

    network = build_model(Config(model="resnet18", blurpool=True), 6).eval()
    path, images = tmp_path / "w.safetensors", torch.randn(2, 3, 64, 64)
    save_file(network.state_dict(), path, {"model": "resnet18", "blurpool": "True"})
    body = open_backbone(str(path), "", 0, refuse).body.eval()
    with torch.no_grad():
        assert torch.equal(body(images), network(images))


@pytest.mark.slow
def test_pretrained_weights_reach_every_stage_of_the_detector(weights):
    backbone = open_backbone(str(weights), "", 0, refuse)
    assert backbone.origin.endswith(", resnet18") and backbone.channels == 512
    detector = build_detector(backbone, 6, SETTINGS)
    body, saved = detector.backbone.body.state_dict(), torch.load(weights, weights_only=True)
    assert body.keys() == {name for name in saved if not name.startswith("fc")}
    assert all(torch.equal(body[name], saved[name]) for name in body)


@pytest.mark.slow
def test_equal_seeds_give_equal_new_layers_whatever_the_backbone(weights):
    backbones = [open_backbone(str(weights), "", 3, refuse), open_backbone("random", "resnet18", 3, refuse)]
    detectors = [build_detector(backbone, 6, SETTINGS) for backbone in backbones]
    rest = [{n: v for n, v in d.state_dict().items() if not n.startswith("backbone.body")} for d in detectors]
    assert all(torch.equal(rest[0][name], rest[1][name]) for name in rest[0])


@pytest.mark.slow
def test_frozen_norms_compute_their_statistics_and_are_said(weights):
    images = torch.randn(2, 3, 64, 64)
    plain = build_detector(open_backbone(str(weights), "", 0, refuse), 6, SETTINGS)
    frozen = build_detector(open_backbone(str(weights), "", 0, refuse), 6, DetectSettings(frozen_bn=True))
    with torch.no_grad():
        expected = plain.eval().backbone.body(images)
        found = frozen.train().backbone.body(images)
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-5) for name in expected)
    parts = what_is_trained(frozen)
    assert (parts.norms, parts.all_norms) == (0, 20) and "are FROZEN" in parts.line()
    assert parts.line().endswith("parameters frozen")
    assert parts.all_parameters == what_is_trained(plain).all_parameters > parts.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "timm/resnet50d"])
def test_other_resnets_are_backbones_too(name):
    detector = build_detector(open_backbone("random", name, 0, refuse), 3, SETTINGS).eval()
    with torch.no_grad():
        maps = detector.backbone(torch.randn(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [(256, s, s) for s in (16, 8, 4, 2, 1)]


def test_weights_of_an_export_bring_their_input_along(weights, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    facts = {"model": "resnet18", "mean_0_to_255": "10.0 20.0 30.0", "std_0_to_255": "51.0 51.0 51.0"}
    save_file(torch.load(weights, weights_only=True), path, facts)
    backbone = open_backbone(str(path), "", 0, refuse)
    assert backbone.mean == pytest.approx((10 / 255, 20 / 255, 30 / 255)) and backbone.std == pytest.approx((0.2,) * 3)
    assert backbone.sha256 == open_backbone(str(weights), "", 0, refuse).sha256
    detector = build_detector(backbone, 6, SETTINGS)
    assert detector.transform.image_mean == list(backbone.mean)


def test_the_presets_are_the_published_settings():
    assert {n: p[:3] for n, p in PRESETS.items()} == {
        "adamw": ("adamw", 1e-4, 0.1),
        "sgd": ("sgd", 0.04, 1e-5),
        "rsb": ("adamw", 2e-4, 0.05),
    }


def test_every_parameter_is_trained_as_the_preset_says():
    detector = build_detector(open_backbone("random", "resnet18", 0, refuse), 2, SETTINGS)
    for preset in PRESETS:
        group = build_optimizer(detector, DetectSettings(preset=preset, weight_decay=0.0)).param_groups[0]
        assert group["lr"] == PRESETS[preset].lr and group["weight_decay"] == 0
        assert len(group["params"]) == len(list(detector.parameters()))


def test_the_learning_rate_rises_then_drops_twice():
    factors = [lr_factor(step, 12_000) for step in range(12_000)]
    assert factors[:500] == sorted(factors[:500]) and factors[0] == pytest.approx(1 / 501)
    assert [factors[s] for s in (500, 7999, 8000, 10_999, 11_000)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert lr_factor(0, 1) == 1 and lr_factor(1, 8) == pytest.approx(2 / 3)


def perfect(dataset) -> np.ndarray:
    split, count = dataset.val, len(dataset.val.boxes)
    return np.concatenate([split.owners[:, None], split.boxes, np.full((count, 1), 0.9), split.labels[:, None]], 1)


def test_map_is_one_for_the_truth_and_nought_for_nothing(coco):
    dataset = read_coco(coco)
    assert mean_average_precision(dataset, perfect(dataset))["AP"] == pytest.approx(1)
    assert mean_average_precision(dataset, np.empty((0, 7)))["AP"] == 0
    moved = perfect(dataset)
    moved[:, 1:3] += 4  # of boxes of 28 to 60 pixels
    scores = mean_average_precision(dataset, moved)
    assert scores["AP"] < scores["AP50"] == pytest.approx(1)
    wrong = perfect(dataset)
    wrong[:, 6] = (wrong[:, 6] + 1) % len(dataset.categories)
    assert mean_average_precision(dataset, wrong)["AP50"] < 0.1


def test_map_is_that_of_pycocotools_own_files(coco, tmp_path):
    """Against COCO(file) and loadRes(file), the way of its documentation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset, generator = read_coco(coco), np.random.default_rng(0)
    found = np.repeat(perfect(dataset), 3, axis=0)
    found[:, 1:5] += generator.uniform(-6, 6, found[:, 1:5].shape)
    found[:, 5] = generator.random(len(found))
    ids, categories = dataset.val.ids.tolist(), dataset.category_ids
    entries = [
        {"image_id": ids[int(i)], "category_id": categories[int(label)], "bbox": box, "score": score}
        for i, *box, score, label in found.tolist()
    ]
    (tmp_path / "results.json").write_text(json.dumps(entries))
    truth = COCO(str(coco / "annotations" / "val.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    scores = mean_average_precision(dataset, found)
    assert scores["AP"] == pytest.approx(evaluation.stats[0]) and scores["AP75"] == pytest.approx(evaluation.stats[2])
    assert scores["AP_large"] is None and evaluation.stats[5] == -1


def test_mirrored_boxes_hold_the_mirrored_pixels(coco):
    pictures = Pictures(read_coco(coco).train)
    for image in range(len(pictures)):
        (pixels, target), (mirrored, other) = pictures[image, False], pictures[image, True]
        assert torch.equal(pixels.flip(-1), mirrored) and torch.equal(target["labels"], other["labels"])
        for (x1, y1, x2, y2), (a1, b1, a2, b2) in zip(target["boxes"].int(), other["boxes"].int(), strict=True):
            assert torch.equal(pixels[:, y1:y2, x1:x2].flip(-1), mirrored[:, b1:b2, a1:a2])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_every_picture_once_and_goes_on_anywhere(coco, workers):
    batches = TrainBatches(read_coco(coco).train, 3, 5, workers)
    rng = torch.get_rng_state()
    whole = list(batches.epoch(1, 0))
    assert batches.steps == 2 == len(whole) and torch.equal(torch.get_rng_state(), rng)
    (rest,) = batches.epoch(1, 1)
    assert all(torch.equal(one[0], other[0]) for one, other in zip(rest, whole[1], strict=True))
    sums = [int(pixels.long().sum()) for batch in whole for pixels, _ in batch]
    assert len(set(sums)) == 6
    assert [len(batch) for batch in validation_batches(read_coco(coco).val, 2, workers)] == [2]


def test_pictures_without_a_box_are_left_out(coco, tmp_path):
    root = shutil.copytree(coco, tmp_path / "own")
    path = root / "annotations" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in (1, 8)]
    path.write_text(json.dumps(content))
    batches = TrainBatches(read_coco(root).train, 2, 0, 0)
    assert batches.usable.tolist() == [1, 2, 3, 4, 5, 6] and batches.steps == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_not_the_annotated_one_is_named(coco, tmp_path, workers):
    root = shutil.copytree(coco, tmp_path / "own")
    path = next((root / "images").glob("val-*.png"))
    Image.new("RGB", (30, 20)).save(path)
    with pytest.raises(DataError, match="is 30 x 20, its annotation says") as caught:
        list(validation_batches(read_coco(root).val, 2, workers))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_settings_of_a_run_to_be_resumed_show_through(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": "d", "weights": "random", "steps": 5, "lr": 0.5}))
    settings = detect_settings(["--resume", str(tmp_path), "--workers", "7"])
    assert (settings.steps, settings.lr, settings.workers, settings.logdir) == (5, 0.5, 7, str(tmp_path))
    with pytest.raises(ConfigError, match="not the same experiment: steps: 5 then, 6 now"):
        detect_settings(["--resume", str(tmp_path), "--steps", "6"])
    (tmp_path / "config.json").write_text('{"model": "x", "phases": ""}')
    with pytest.raises(ConfigError, match="not of a run of detect"):
        detect_settings(["--resume", str(tmp_path)])


def bad_weights(folder: Path) -> dict[str, str]:
    torch.save({"state": {"a": torch.ones(1)}}, folder / "nested.pt")
    torch.save({"fc.weight": torch.ones(3, 4)}, folder / "other.pt")
    torch.save(Path("x"), folder / "object.pt")
    (folder / "text.pt").write_text("no weights")
    (folder / "text.safetensors").write_text("no weights")
    return {
        "nested.pt": "not a state dict",
        "other.pt": "not of a ResNet",
        "object.pt": "not a file of weights",
        "text.pt": "not a file of weights",
        "text.safetensors": "cannot be read",
        "gone.pt": "no such run or file",
        ".": "no run there",
    }


def test_weights_that_cannot_be_used_are_said_in_one_line(tmp_path):
    for name, reason in bad_weights(tmp_path).items():
        with pytest.raises(ConfigError, match=reason) as caught:
            open_backbone(str(tmp_path / name), "", 0, refuse)
        assert "\n" not in str(caught.value)
    for weights, model, reason in (
        ("random", "squeezenet1_1", "not a ResNet"),
        ("random", "cifarnet", "not a ResNet"),
        ("random", "resnet1", "unknown model"),
        ("ResNet18_Weights.NONE", "", "none of this name"),
        ("ResNet18_Weights.IMAGENET1K_V1", "resnet18", "Leave it out"),
    ):
        with pytest.raises(ConfigError, match=reason):
            open_backbone(weights, model, 0, refuse)


class Planted:
    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_published_weights_that_lie_in_the_cache_are_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    Planted.place = str(tmp_path / "it ran")
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    torch.save(Planted(), cache / "resnet18-f37072fd.pth")
    with pytest.raises(ConfigError, match=r"ResNet18_Weights\.IMAGENET1K_V1: cannot be read"):
        open_backbone("ResNet18_Weights.IMAGENET1K_V1", "", 0, refuse)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give DATA"),
        (["{data}"], "give --weights"),
        (["{data}", "--weights", "random", "--size", "8"], "--size 8: must be from 32"),
        (["{data}", "--weights", "random", "--lr", "nan"], "--lr nan: must be"),
        (["{data}", "--weights", "random", "--size", "900", "--max-size", "800"], "must not be below --size"),
        (["{data}", "--weights", "random", "--batch-size", "9"], "only 8 training pictures"),
        (["{data}", "--weights", "random", "--frozen-bn", "--batch-size", "2"], "no statistics to freeze"),
        (["{none}", "--weights", "random"], "no such folder"),
        (["{data}", "--weights", "random", "--preset", "adam"], "invalid choice"),
        (["--resume", "{none}"], "no run there"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(coco, tmp_path, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(tmp_path)
    assert detect(*(a.format(data=coco, none=tmp_path / "none") for a in arguments)) == 2
    out, err = capsys.readouterr()
    assert reason in err and err.startswith("error: ") and err.count("\n") == 1 and not out
    assert not os.listdir(tmp_path)


@pytest.mark.slow
def test_a_backbone_that_knows_the_images_beats_a_random_one(tmp_path):
    """The same steps, seed and pictures: collages of CIFAR-10 (as `make demo` gets it), and a ResNet-18 that two epochs
    of CIFAR-10 have trained or none."""
    from data_prep.sources.cifar10 import prepare_cifar10
    from data_prep.sources.coco_collage import prepare_coco_collage

    data, collage, run = tmp_path / "cifar10", tmp_path / "collage", tmp_path / "run"
    prepare_cifar10(data, "auto")
    prepare_coco_collage(data, collage, 480)
    phases = "[{'ep': 0, 'sz': 32, 'bs': 250}, {'ep': (0, 2), 'lr': (0.2, 0.0)}]"
    muon = shlex.split("--optimizer muon --nesterov --weight-decay 5e-4 --bias-lr 0.5 --head-lr 0.5 --no-bn-wd")
    flags = shlex.split("--model resnet18 --init-bn0 --label-smoothing 0.1 --flip random --shift 2 --precision bf16")
    assert main([str(data), "--phases", phases, "--logdir", str(run), *muon, *flags]) == 0
    scores = {}
    for name, more in ((str(run), []), ("random", ["--model", "resnet18"])):
        folder = tmp_path / f"detect-{len(scores)}"
        size = shlex.split("--size 64 --max-size 96 --batch-size 2 --steps 200 --precision bf16 --eval-every 99")
        assert detect(collage, "--weights", name, *more, *size, "--workers", "0", "--logdir", folder) == 0
        scores[name] = json.loads((folder / "detect.json").read_text())["AP"]
    pretrained, random = scores.values()
    assert pretrained > 1.3 * random
