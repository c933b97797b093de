"""One picture of a request, as the renderers in Python make it: read and decoded, whole or only its window, checked
against the index, resized into its place.

Almost all files are JPEG. simplejpeg decodes them whole; where much of a picture is not wanted, nvImageCodec (it comes
with DALI) decodes the window alone, on the CPU. Both are libjpeg-turbo: the same pixels. What they refuse goes through
data_prep.formats.pictures, which knows the odd modes and says what is wrong with a damaged file.
"""

import os
import threading
from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from data_prep import DataError
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import ImageIndex
from data_prep.formats.pictures import read_rgb
from training.data.auto_augment import apply_torchvision
from training.data.renderers.base import Request

try:
    from nvidia import nvimgcodec
except ImportError:
    nvimgcodec = None


# what F.interpolate(antialias=True) calls; it cannot write into a batch itself. By Request.cubic
RESIZE = (torch._C._nn._upsample_bilinear2d_aa, torch._C._nn._upsample_bicubic2d_aa)
JPEG = b"\xff\xd8"
ROWS_FIRST = 1.25  # rows of a window for one of the output: from here on two calls are faster than one
PIECE = 1 << 17  # bytes read at a time
SPARED = 10_000  # pixels beside the window, and
SHARE_SPARED = 0.3  # of the picture: from here on it is faster to leave them out, by nvImageCodec
PILLOW = threading.Lock()  # data_prep.formats.pictures changes the process's filter of warnings
os.register_at_fork(after_in_child=PILLOW._at_fork_reinit)  # a thread may hold it while a worker is forked
OWN = threading.local()  # a decoder for every thread
Decode = Callable[[bytes], np.ndarray]  # a JPEG file to (H, W, 3) uint8, RGB. Raises: ValueError


def path_of(request: Request, index: ImageIndex, row: int) -> bytes:
    return os.fsencode(request.folder) + b"/" + index.paths[row]


def place_of(rank: int, request: Request, row: int) -> str:
    """For error messages."""
    return f"(rank {rank}, image {row} of {request.split})"


def checked_size(path: bytes, found: tuple[int, int], size: tuple[int, int], where: str) -> None:
    """Raises: DataError when a file is not of the (height, width) that the index says."""
    if tuple(found) != tuple(size):
        raise DataError(
            f"{printable(path)}: {found[1]}x{found[0]} pixels, the index says {size[1]}x{size[0]} {where}. "
            "Index the folder again"
        )


def window_of(pixels: np.ndarray, request: Request, place: int) -> np.ndarray:
    """The request's window of a whole stored picture (H, W, 3)."""
    top, left, height, width = request.windows[place].tolist()
    return pixels[top : top + height, left : left + width]


def planes_of(out: Tensor, places: range) -> dict[int, Tensor]:
    """Of a batch (B, height, width, 3): for each place (1, 3, height, width), channels last, all views made at once."""
    share = out.permute(0, 3, 1, 2)[places.start : places.stop : places.step]
    return dict(zip(places, share.split(1), strict=False))  # an empty share is split into one empty tensor


def put_picture(window: np.ndarray, request: Request, place: int, here: Tensor) -> None:
    """A window (h, w, 3) uint8 as the request wants it into `here`, its place in the batch: (1, 3, height, width) uint8
    in the memory format channels last. Training's usual case is resized straight into it."""
    if request.policy is not None or tuple(request.resized[place].tolist()) != request.size:
        here[0] = torch.from_numpy(cut_picture(window, request, place)).permute(2, 0, 1)
    else:
        resized(window, request.size, request.cubic, bool(request.flips[place]), here)


def resized(
    window: np.ndarray, size: tuple[int, int], cubic: bool, mirrored: bool = False, out: Tensor | None = None
) -> Tensor:
    """(h, w, 3) uint8 to (1, 3, *size) uint8, channels last, antialiased. Mirrored before the columns are resized: the
    same pixels, and nothing is written twice.

    Fewer rows first where there are many: torch alone would begin with the columns, its slower half. A window of 330 px
    comes to 128 px in 0.76 of the time. Bilinear pixels differ by 1 at most, bicubic ones by more at hard edges: what
    is too dark or too light is cut off between the passes, in either order.
    """
    resize = RESIZE[cubic]
    # numpy's views keep the interpreter, torch's hand it over; the stride of numpy's [None] hides "channels last".
    planes = torch.from_numpy(window.reshape(1, *window.shape).transpose(0, 3, 1, 2))
    if window.shape[0] > ROWS_FIRST * size[0]:
        planes = resize(planes, (size[0], window.shape[1]), False, None, None)
    if mirrored:
        planes = planes.flip(3)
    return resize(planes, size, False, None, None, out=out)


def cut_picture(window: np.ndarray, request: Request, place: int) -> np.ndarray:
    """A window (h, w, 3) uint8 as the request wants it: (height, width, 3) uint8. Views are numpy's: at every operation
    of torch, however small, threads hand over the interpreter."""
    size = tuple(request.resized[place].tolist())
    if size != window.shape[:2]:
        window = resized(window, size, request.cubic).numpy()[0].transpose(1, 2, 0)
    image = cut(window, request.corners[place], request.size)
    if request.flips[place]:
        image = torch.from_numpy(image).flip(1).numpy()
    if request.policy is None:
        return image
    changed = apply_torchvision(torch.from_numpy(image.transpose(2, 0, 1)), request.policy[place])
    return changed.numpy().transpose(1, 2, 0)


def cut(image: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`size` pixels from `corner` on; black where the image ends. (H, W, 3) -> (*size, 3) uint8."""
    top, left = corner.tolist()
    inside = image[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
    if inside.shape[:2] == size:
        return inside
    out = np.zeros((*size, 3), np.uint8)
    out[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return out


def decoded(path: bytes) -> np.ndarray:
    """(H, W, 3) uint8, RGB, as stored: EXIF orientation is ignored. Raises: DataError naming the file."""
    return whole(contents(path), path)


def decoded_window(
    path: bytes, size: tuple[int, int], window: list[int], decode: Decode
) -> tuple[np.ndarray, tuple[int, int]]:
    """Of a picture of `size` (height, width): `window` (top, left, height, width) as (h, w, 3) uint8, and the size that
    the file really has. Raises: DataError naming the file."""
    data = contents(path)
    top, left, height, width = window
    area = size[0] * size[1]
    if nvimgcodec and data.startswith(JPEG) and area - height * width > max(SPARED, SHARE_SPARED * area):
        stream = nvimgcodec.CodeStream(data)
        if (stream.height, stream.width) == size:
            region = nvimgcodec.Region(top, left, top + height, left + width)
            image = decoder().decode(stream.get_sub_code_stream(region=region), params=OWN.rules)
            if image is not None:
                return np.asarray(image), size
    pixels = whole(data, path, decode)
    return pixels[top : top + height, left : left + width], pixels.shape[:2]


def contents(path: bytes) -> bytes:
    """b"" for a file that is not there or cannot be read: data_prep.formats.pictures says why. As few calls of
    the system as can be: Path.read_bytes costs a picture of 160 px a fifth of its time."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        parts = [os.read(file, PIECE)]
        while len(parts[-1]) == PIECE:  # a shorter one is the last of a regular file
            parts.append(os.read(file, PIECE))
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(file)


def whole(data: bytes, path: bytes, decode: Decode = simplejpeg.decode_jpeg) -> np.ndarray:
    """(H, W, 3) uint8."""
    if data.startswith(JPEG):
        try:
            return decode(data)
        except ValueError:
            pass  # CMYK, or damaged
    with PILLOW:
        return np.array(read_rgb(os.fsdecode(path)))  # a writable copy, as torch wants


def decoder():
    """nvImageCodec's, of this thread."""
    if not hasattr(OWN, "decoder"):
        backends = [nvimgcodec.Backend(nvimgcodec.CPU_ONLY)]
        device = nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY
        OWN.decoder = nvimgcodec.Decoder(max_num_cpu_threads=1, backends=backends, device_id=device)
        OWN.rules = nvimgcodec.DecodeParams(color_spec=nvimgcodec.ColorSpec.SRGB, apply_exif_orientation=False)
    return OWN.decoder
