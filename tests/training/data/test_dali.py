import gc
import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")

from data_prep import DataError
from data_prep.formats.image_index import ImageIndex
from data_prep.formats.pictures import read_rgb
from data_prep.sources.toy_images import CLASSES, draw_jpeg
from training.data.auto_augment import Policy, apply_torchvision, draw
from training.data.renderers.base import Request
from training.data.renderers.dali import DaliFiles, DaliRenderer

CPU = torch.device("cpu")
PICTURES = 40
SPLITS = ("train", "validation")


def index_of(root, names):
    """Labels count the files, so that a label names its picture."""
    sizes = np.array([Image.open(root / name).size for name in names], np.int32)
    paths = np.array([name.encode() for name in names])
    lengths = np.array([(root / name).stat().st_size for name in names])
    return ImageIndex(paths, np.arange(len(names)), sizes[:, 0], sizes[:, 1], lengths)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Folder and its indices: PICTURES drawn files in each split."""
    root = tmp_path_factory.mktemp("tree")
    for split in SPLITS:
        (root / split).mkdir()
        for number in range(PICTURES):
            (root / split / f"{number:03}.JPEG").write_bytes(draw_jpeg(number % len(CLASSES), 0, number))
    names = [f"{number:03}.JPEG" for number in range(PICTURES)]
    return root, {split: index_of(root, [f"{split}/{name}" for name in names]) for split in SPLITS}


@pytest.fixture(scope="module")
def renderer(tree):
    root, indices = tree
    renderer = DaliRenderer(DaliFiles({str(root): indices}, 0), CPU, largest_batch=64, threads=2)
    yield renderer
    renderer.close()


def wanted(tree, rows, side=32, seed=0, split="train", policy=None, size=None):
    """A random window of each picture, resized to `side`, half of them mirrored."""
    root, indices = tree
    generator, index, rows = np.random.default_rng(seed), indices[split], np.asarray(rows)
    whole = np.stack([index.heights, index.widths], 1)[rows]
    extent = (whole * generator.uniform(0.4, 1, whole.shape)).astype(np.int32)
    start = (generator.random(whole.shape) * (whole - extent + 1)).astype(np.int32)
    resized = np.full((len(rows), 2), side, np.int32)
    flips = generator.random(len(rows)) < 0.5
    windows, corners = np.concatenate([start, extent], 1), np.zeros_like(resized)
    labels, size = index.labels[rows], size or (side, side)
    return Request(str(root), split, rows, labels, windows, resized, corners, size, flips, policy)


def by_pillow(tree, request):
    """(B, H, W, 3) uint8: the same by Pillow alone."""
    root, indices = tree
    pictures = []
    for place, row in enumerate(request.rows):
        path = root / os.fsdecode(indices[request.split].paths[row])
        top, left, height, width = request.windows[place].tolist()
        image = read_rgb(path).crop((left, top, left + width, top + height))
        method = Image.Resampling.BICUBIC if request.cubic else Image.Resampling.BILINEAR
        image = image.resize(request.resized[place][::-1].tolist(), method)
        (top, left), (height, width) = request.corners[place].tolist(), request.size
        image = image.crop((left, top, left + width, top + height))  # black outside
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if request.flips[place] else image
        pictures.append(np.asarray(image))
    return np.stack(pictures)


def psnr(one, other):
    """(B,) dB"""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean((1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-6))


def test_pictures_are_those_of_pillow(tree, renderer):
    request = wanted(tree, range(PICTURES))
    (images,) = renderer.batches(iter([request]))
    assert images.dtype == torch.uint8 and images.shape == (PICTURES, 32, 32, 3) and images.is_contiguous()
    quality = psnr(images, by_pillow(tree, request))
    assert quality.min() > 40, quality


def test_size_batch_and_split_change_between_two_batches(tree, renderer):
    requests = [
        wanted(tree, range(20), 32),
        wanted(tree, range(20, 23), 96),
        wanted(tree, range(33), 16, split="validation"),
        wanted(tree, [7], 48),
    ]
    images = list(renderer.batches(iter(requests)))
    assert [batch.shape[:3] for batch in images] == [(20, 32, 32), (3, 96, 96), (33, 16, 16), (1, 48, 48)]
    for batch, request in zip(images, requests, strict=True):
        assert psnr(batch, by_pillow(tree, request)).min() > 38


def test_an_abandoned_pass_leaves_no_trace(tree, renderer):
    requests = [wanted(tree, range(first, first + 8), seed=first) for first in range(0, 32, 8)]
    whole = list(renderer.batches(iter(requests)))
    for taken in range(4):
        abandoned = renderer.batches(iter(requests))
        for place in range(taken):
            assert torch.equal(next(abandoned), whole[place])
        abandoned.close()
        rest = list(renderer.batches(iter(requests[taken:])))
        assert len(rest) == 4 - taken and all(map(torch.equal, rest, whole[taken:]))


def test_a_pass_that_nobody_closed_ends_when_the_next_begins(tree, renderer):
    requests = [wanted(tree, range(first, first + 8), seed=first) for first in range(0, 32, 8)]
    old = renderer.batches(iter(requests))
    next(old)
    new = renderer.batches(iter(requests[2:]))
    first = next(new)
    del old
    gc.collect()
    assert torch.equal(torch.cat([first, *new]), torch.cat(list(renderer.batches(iter(requests[2:])))))


def test_no_requests_no_batches(renderer):
    assert list(renderer.batches(iter([]))) == []


def test_batches_own_their_memory(tree, renderer):
    requests = [wanted(tree, range(8), seed=seed) for seed in range(6)]
    kept = [(batch, batch.clone()) for batch in renderer.batches(iter(requests))]
    assert all(torch.equal(batch, copy) for batch, copy in kept)


def test_an_output_past_the_window_is_black(tree, renderer):
    corners = np.array([[-4, 0], [0, -3], [5, 5], [2, -6]], np.int32)
    request = wanted(tree, range(4), 32, size=(40, 24))._replace(corners=corners)
    alike = wanted(tree, range(4), 16, size=(24, 16))._replace(corners=corners * 0 - 4)
    inner = wanted(tree, range(4), 64, size=(24, 32))._replace(corners=corners + 7)
    requests = [request, alike, inner]
    images = list(renderer.batches(iter(requests)))
    assert all(psnr(one, by_pillow(tree, each)).min() > 40 for one, each in zip(images, requests, strict=True))
    assert not images[0][0, :4].any() and images[0][0, 4].any()


def test_the_border_is_black_after_normalisation(tree):
    root, indices = tree
    other = DaliRenderer(DaliFiles({str(root): indices}, 0), CPU, 8, 1, half=True)
    (images,) = other.batches(iter([wanted(tree, range(3), 16, size=(20, 16))]))
    other.close()
    black = -np.array([123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(images[:, 16:], np.broadcast_to(black, (3, 4, 16, 3)), atol=2e-3)


def test_half_is_the_normalised_picture(tree, renderer):
    root, indices = tree
    request = wanted(tree, range(6))
    (plain,) = renderer.batches(iter([request]))
    other = DaliRenderer(DaliFiles({str(root): indices}, 0), CPU, 8, 1, half=True)
    (half,) = other.batches(iter([request]))
    other.close()
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), (plain - mean) / std, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["randaugment", pytest.param("timm-randaugment", marks=pytest.mark.slow)])
def test_policies_are_those_of_the_request(tree, name):
    root, indices = tree
    kind = Policy(name)
    policy = draw(kind, np.random.default_rng(1), 32, (32, 32))
    request = wanted(tree, range(32), policy=policy)
    other = DaliRenderer(DaliFiles({str(root): indices}, 0), CPU, 64, 1, policy=kind)
    images, plain = other.batches(iter([request, request._replace(policy=None)]))
    other.close()
    assert psnr(plain, by_pillow(tree, request)).min() > 40
    planes = plain.permute(0, 3, 1, 2)
    expected = torch.stack([apply_torchvision(one, rows) for one, rows in zip(planes, policy, strict=True)])
    quality = psnr(images, expected.permute(0, 2, 3, 1))
    assert np.median(quality) > 30 and quality.min() > 15


def test_the_filter_changes_between_two_batches(tree, renderer):
    requests = [wanted(tree, range(20), side)._replace(cubic=cubic) for cubic in (False, True) for side in (24, 150)]
    images = list(renderer.batches(iter(requests)))
    for batch, request in zip(images, requests, strict=True):
        other = request._replace(cubic=not request.cubic)
        right, wrong = (psnr(batch, by_pillow(tree, each)) for each in (request, other))
        assert right.min() > 38 and (right > wrong).all()


def odd_files(folder):
    """One file per stored form, all of one picture of odd size."""
    image = Image.open(io.BytesIO(draw_jpeg(1, 0, 2))).convert("RGB").resize((77, 53), Image.Resampling.LANCZOS)
    turned = Image.Exif()
    turned[0x112] = 6
    folder.mkdir(parents=True)
    image.convert("L").save(folder / "grey.JPEG", "JPEG", quality=90)
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        image.save(folder / f"{name}.JPEG", "JPEG", quality=90, subsampling=subsampling)
    image.save(folder / "progressive.JPEG", "JPEG", progressive=True)
    image.save(folder / "turned.JPEG", "JPEG", exif=turned)
    colours = [part.point(lambda level: level // 2) for part in image.convert("CMYK").split()[:3]]
    Image.merge("CMYK", [*colours, image.convert("L")]).save(folder / "cmyk.JPEG", "JPEG", quality=95)
    coded = bytearray((folder / "cmyk.JPEG").read_bytes())
    coded[coded.find(b"Adobe") + 11] = 2  # says YCCK
    (folder / "ycck.JPEG").write_bytes(coded)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        image.convert(mode).save(folder / f"png-{mode}.JPEG", "PNG")
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "png-16.JPEG", "PNG")
    image.save(folder / "gif.JPEG", "GIF")
    image.save(folder / "webp.JPEG", "WEBP", lossless=True)


def test_odd_modes(tmp_path):
    odd_files(tmp_path / "train")
    names = sorted(f"train/{path.name}" for path in (tmp_path / "train").iterdir())
    tree = tmp_path, {"train": index_of(tmp_path, names)}
    sizes = np.tile(np.int32([[53, 77]]), (len(names), 1))
    whole = wanted(tree, range(len(names)), size=(53, 77))
    whole = whole._replace(windows=np.concatenate([sizes * 0, sizes], 1), resized=sizes)
    request = wanted(tree, range(len(names)), 32)
    other = DaliRenderer(DaliFiles({str(tmp_path): tree[1]}, 0), CPU, 32, 2)
    stored, images = other.batches(iter([whole, request]))
    other.close()
    away = np.abs(stored.numpy().astype(int) - by_pillow(tree, whole)).max((1, 2, 3))
    assert not [(name, levels) for name, levels in zip(names, away, strict=True) if levels > 2]
    quality = psnr(images, by_pillow(tree, request))
    assert not [(name, one) for name, one in zip(names, quality, strict=True) if one < 40]


@pytest.mark.parametrize("damage", ["cut", "empty", "page", "gone"])
def test_a_bad_file_is_named(tree, tmp_path, damage):
    data = [draw_jpeg(number % len(CLASSES), 0, number) for number in range(12)]
    (tmp_path / "train").mkdir()
    names = [f"train/{number:02}.JPEG" for number in range(12)]
    for name, content in zip(names, data, strict=True):
        (tmp_path / name).write_bytes(content)
    tree, bad = (tmp_path, {"train": index_of(tmp_path, names)}), tmp_path / names[9]
    bad.write_bytes({"cut": data[9][: len(data[9]) // 2], "page": b"<html>" * 99}.get(damage, b""))
    if damage == "gone":
        bad.unlink()
    other = DaliRenderer(DaliFiles({str(tmp_path): tree[1]}, 3), CPU, 32, 2)
    requests = [wanted(tree, range(first, first + 4)) for first in (0, 4, 8)]
    with pytest.raises(DataError, match=r"09\.JPEG.*\(rank 3, image 9 of train\)"):
        list(other.batches(iter(requests)))
    bad.write_bytes(data[9])
    again = list(other.batches(iter(requests)))
    other.close()
    assert all(psnr(batch, by_pillow(tree, request)).min() > 38 for batch, request in zip(again, requests, strict=True))


def resident():
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_ten_switches_of_size_keep_the_memory(tree, renderer):
    def switch():
        for side in (288, 128):
            for _ in renderer.batches(iter([wanted(tree, range(32), side, seed) for seed in range(3)])):
                pass
        return resident()

    switch()
    first, last = ([switch() for _ in range(5)] for _ in range(2))
    assert np.median(last) - np.median(first) < 32 * 2**20  # it moves by 20 MiB from one to the next, both ways
