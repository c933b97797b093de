"""Odd picture files: every kind gives the RGB pixels of its content, or one line that says why not."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError
from data_prep.formats.pictures import picture_facts, read_rgb


def scene(width=48, height=32) -> Image.Image:
    """A smooth RGB picture: little is lost in a JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2)]
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8))


def coded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source, **options) -> np.ndarray:
    image = read_rgb(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def named(tmp_path, data: bytes, name="n01_1.JPEG"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def refusal(source) -> str:
    with pytest.raises(DataError) as error:
        read_rgb(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_path_and_its_content_give_the_same(tmp_path):
    data = coded(scene(), "JPEG", quality=95)
    path = named(tmp_path, data)
    with Image.open(path) as image:
        assert (pixels(path) == np.asarray(image)).all() and (pixels(data) == np.asarray(image)).all()
    assert picture_facts(path) == picture_facts(data) == ("JPEG", "RGB", 48, 32, False)


@pytest.mark.parametrize("percent", [10, 50, 90, 99])
def test_a_truncated_jpeg_is_an_error_and_never_grey(tmp_path, percent):
    data = coded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)), "JPEG")
    path = named(tmp_path, data[: len(data) * percent // 100])
    assert refusal(path).startswith(f"{path}: cannot be decoded (")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>404</html>", "this is an HTML or XML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "this is a Git LFS pointer, not the file itself",
        ),
        (np.random.default_rng(0).bytes(5000), "not a picture of a known format"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(50), "not a picture of a known format"),
    ],
    ids=["empty", "html", "pointer", "random", "a JPEG's first bytes"],
)
def test_what_is_no_picture_is_called_so(tmp_path, data, reason):
    path = named(tmp_path, data)
    assert refusal(path).startswith(f"{path}: {reason}")
    with pytest.raises(DataError, match=reason):
        picture_facts(path)


def test_a_file_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "none.JPEG") == f"{tmp_path}/none.JPEG: No such file or directory"
    assert "Is a directory" in refusal(tmp_path)


def test_content_without_a_name_can_be_named():
    with pytest.raises(DataError, match=r"^train/a\.JPEG: empty file$"):
        read_rgb(b"", "train/a.JPEG")


@pytest.mark.parametrize("quality", [75, 95])
def test_cmyk_jpeg_becomes_rgb(quality):
    """Pillow writes Adobe's inverted CMYK, the kind that ImageNet has; twice inverted it would be a negative."""
    inks = scene().convert("CMYK")
    data = coded(inks, "JPEG", quality=quality)
    assert b"Adobe" in data and picture_facts(data).mode == "CMYK"
    assert abs(pixels(data) - np.asarray(inks.convert("RGB")).astype(int)).mean() < 2


def test_ycck_jpeg_becomes_rgb():
    """The same inks stored as YCCK: transform 2 in the Adobe segment, with planes turned back by the decoder."""
    inks = np.asarray(scene().convert("CMYK"))
    as_ycc = np.asarray(Image.fromarray(inks[..., :3]).convert("YCbCr"))
    stored = np.concatenate([255 - as_ycc, inks[..., 3:]], axis=2)  # the writer inverts all four planes
    data = coded(Image.fromarray(stored, "CMYK"), "JPEG", quality=95, subsampling=0)
    place = data.index(b"Adobe") + 11
    data = data[:place] + b"\x02" + data[place + 1 :]
    assert abs(pixels(data) - np.asarray(scene()).astype(int)).mean() < 3


def test_greyscale_is_three_equal_channels():
    found = pixels(coded(scene().convert("L"), "JPEG"))
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("levels", [[0, 1, 128, 129, 257, 40000, 65535]])
def test_sixteen_bits_are_scaled_not_cut_off(levels):
    data = coded(Image.fromarray(np.array([levels], np.uint16)), "PNG")
    assert picture_facts(data).mode.startswith("I")
    assert pixels(data)[0, :, 0].tolist() == [round(level / 257) for level in levels]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_tiff(mode):
    data = coded(scene().convert(mode), "TIFF")
    expected = scene().convert(mode).convert("RGB")
    assert (pixels(data) == np.asarray(expected)).all()


def test_floating_point_has_no_range():
    assert "no fixed range" in refusal(coded(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_palette_and_alpha(tmp_path):
    """Alpha is dropped: the colours stored under it are shown."""
    image = scene().convert("RGBA")
    image.putalpha(0)
    assert (pixels(named(tmp_path, coded(image, "PNG"))) == np.asarray(scene())).all()
    palette = scene().quantize(16)
    data = coded(palette, "PNG", transparency=bytes(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(named(tmp_path, data)) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(tmp_path, kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "green")]
    path = named(tmp_path, coded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50))
    assert abs(pixels(path) - [255, 0, 0]).max() < 4
    assert picture_facts(path)[2:4] == (20, 10)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "WEBP", "TIFF", "GIF"])
def test_the_content_decides_not_the_name(tmp_path, kind):
    path = named(tmp_path, coded(scene(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert picture_facts(path).format == kind
    assert abs(pixels(path) - np.asarray(scene())).mean() < (0.1 if kind != "GIF" else 8)


def with_orientation(image: Image.Image, kind: str, turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return coded(image, kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_ignored_by_size_and_pixels_alike(tmp_path, kind):
    plain, turned = with_orientation(scene(), kind, 1), with_orientation(scene(), kind, 6)
    assert picture_facts(turned)[2:4] == (48, 32)
    assert picture_facts(turned).metadata or kind == "PNG"  # which may tell it behind the pixels
    assert read_rgb(turned).size == (48, 32)
    assert (pixels(plain) == pixels(turned)).all()


def test_a_decoder_that_turns_is_not_asked():
    assert "orientation" in refusal(with_orientation(scene(), "TIFF", 6))
    assert read_rgb(with_orientation(scene(), "TIFF", 1)).size == (48, 32)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be huge and has nearly nothing in it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9500, 40_000], ids=["Pillow warns", "Pillow raises"])
def test_a_picture_of_too_many_pixels_is_refused_before_decoding(tmp_path, side):
    path = named(tmp_path, png_header(side, side))
    assert refusal(path) == f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    with pytest.raises(DataError, match="more than"):
        picture_facts(path)
    jpeg = bytearray(coded(scene(), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", side, side)
    assert "more than" in refusal(bytes(jpeg))


def test_a_large_jpeg_may_be_decoded_at_a_reduced_scale():
    data = coded(scene(1600, 1200), "JPEG")
    assert read_rgb(data, at_least=(200, 150)).size == (200, 150)
    assert read_rgb(data, at_least=(201, 150)).size == (400, 300)
    assert read_rgb(coded(scene(), "PNG"), at_least=(4, 4)).size == (48, 32)


def test_corrupt_exif_is_no_fault_and_prints_nothing(capfd):
    data = coded(scene(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x01" * 40)
    assert read_rgb(data).size == (48, 32) and picture_facts(data).width == 48
    assert capfd.readouterr() == ("", "")


def test_filters_of_warnings_are_as_before():
    before = list(warnings.filters)
    read_rgb(coded(scene(), "JPEG"))
    assert warnings.filters == before
