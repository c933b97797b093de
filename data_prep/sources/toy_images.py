"""Draw the toy dataset's pictures: one shape each, on a noisy ground, in many sizes, colours and turns.

Only + - * / and square roots, which every machine rounds alike, and Pillow's integer JPEG coder: the same seed gives
the same bytes. Sine, cosine and normal noise would not.
"""

import io

import numpy as np
from PIL import Image

CLASSES = ("cross", "disc", "ring", "square", "stripes", "triangle")  # sorted, as class folders are
TINTS = np.array([[1, -1, 0], [0, 1, -1], [-1, 0, 1], [1, 0, -1], [-1, 1, 0], [0, -1, 1]])  # colour contrast of a class
SEED = 20181117
GREY_SHARE = 1 / 8
QUALITY = 90


def draw_jpeg(label: int, split: int, number: int) -> bytes:
    """The JPEG file of image `number` of a class; `split` is 0 (train) or 1 (validation)."""
    generator = np.random.default_rng((SEED, split, label, number))
    width, height = _draw_size(generator)
    image = Image.fromarray(_draw(label, width, height, generator))
    if generator.random() < GREY_SHARE:
        image = image.convert("L")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _draw_size(generator: np.random.Generator) -> tuple[int, int]:
    """Width and height, 40 to 120 pixels, at most 3:2."""
    short = int(generator.integers(40, 81))
    sides = (short, short + int(generator.integers(0, short // 2 + 1)))
    return sides if generator.random() < 0.5 else sides[::-1]


def _draw(label: int, width: int, height: int, generator: np.random.Generator) -> np.ndarray:
    """A shape, mostly brighter than its ground and a little in the tint of its class: colour alone tells some.

    Returns (height, width, 3) uint8.
    """
    colour = 0.3 + 0.4 * generator.random(3)
    contrast = contrast_of(label, generator)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = ground(colour, x, y, generator)
    pixels = pixels + _shape_mask(label, x, y, min(width, height), generator)[..., None] * contrast
    for _ in range(int(generator.integers(0, 3))):
        pixels = pixels + _blot_mask(x, y, generator)[..., None] * (generator.random(3) - 0.5)
    return noisy(pixels, generator)


def contrast_of(label: int, generator: np.random.Generator) -> np.ndarray:
    """What a shape adds to its ground (3,): any colour, a little in the tint of its class."""
    contrast = 0.6 * TINTS[label] + generator.random(3) - 0.3
    contrast *= (0.4 + 0.3 * generator.random()) / (1e-3 + np.sqrt((contrast * contrast).sum()))
    return contrast


def ground(colour: np.ndarray, x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A colour (3,) that gets lighter to one side, (height, width, 3) 0 to 1; x and y (height, width) in pixels."""
    height, width = x.shape
    slope = (generator.random(2) - 0.5) * 0.3
    shade = slope[0] * (x / width - 0.5) + slope[1] * (y / height - 0.5)
    return colour + shade[..., None]


def noisy(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """`pixels` of 0 to 1 with some noise, as uint8."""
    noise = generator.random(pixels.shape) - generator.random(pixels.shape)  # triangular, -1 to 1
    return (255 * np.clip(pixels + 0.1 * noise, 0, 1)).astype(np.uint8)


def _shape_mask(label: int, x: np.ndarray, y: np.ndarray, short: int, generator: np.random.Generator) -> np.ndarray:
    """A shape near the middle, of a size that fits a picture of this short side."""
    radius = short * (0.3 + 0.12 * generator.random())
    centre = (0.42 + 0.16 * generator.random(2)) * (x.shape[1], x.shape[0])
    return shape_mask(label, x, y, centre, radius, generator)


def shape_mask(
    label: int, x: np.ndarray, y: np.ndarray, centre: np.ndarray, radius: float, generator: np.random.Generator
) -> np.ndarray:
    """How much of each pixel the shape of a class covers, 0 to 1, turned at random."""
    turn = np.array([1, 0.8 * (generator.random() - 0.5)])
    turn = turn / np.sqrt((turn * turn).sum())
    dx, dy = (x - centre[0]) / radius, (y - centre[1]) / radius
    u, v = turn[0] * dx - turn[1] * dy, turn[1] * dx + turn[0] * dy
    return np.clip((1 - _distance(CLASSES[label], u, v)) * radius / 2 + 0.5, 0, 1)


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Below 1 inside the shape of about radius 1, above 1 outside."""
    if shape == "disc":
        return np.sqrt(u * u + v * v)
    if shape == "ring":
        return abs(np.sqrt(u * u + v * v) - 0.75) / 0.25
    if shape == "square":
        return np.maximum(abs(u), abs(v)) / 0.85
    if shape == "cross":
        return np.minimum(np.maximum(abs(u), abs(v) / 0.3), np.maximum(abs(u) / 0.3, abs(v)))
    if shape == "triangle":
        return np.maximum(v, np.maximum(0.8660254 * u - 0.5 * v, -0.8660254 * u - 0.5 * v)) / 0.6
    bars = abs((1.25 * u + 8) % 1 - 0.5) / 0.25  # "stripes": bars inside a square
    return np.maximum(bars, np.maximum(abs(u), abs(v)))


def _blot_mask(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A small soft spot anywhere, there to distract."""
    height, width = x.shape
    centre = generator.random(2) * (width, height)
    radius = min(width, height) * (0.05 + 0.08 * generator.random())
    return np.clip(1.5 - np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius, 0, 1)
