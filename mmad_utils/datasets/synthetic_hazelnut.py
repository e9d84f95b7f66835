"""Generator of hazelnut images, similar to this category of MVTec AD: a nut on a dark ground, rendered in 3D.

Position, size and colours of the nut, and sizes and contrasts of the defects, were adjusted to 50 normal and 8
defective images of MVTec AD.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mmad_utils.datasets.synthetic_fields import blend, polyline, random_field, sample, step

DEFECTS = ("crack", "cut", "hole", "print")
FAINTEST = 0.4  # smallest severity in a category; all defects of MVTec AD are clearly visible
_TEXTURE = (128, 1024)  # cells from tip to base, cells around the nut
_GROUND = np.array([0.137, 0.137, 0.154], np.float32)
_PALE = np.array([0.82, 0.66, 0.46], np.float32)  # broken shell
_LETTERS: dict[
    str, list[tuple[float, float, float, float]]
] = {  # strokes (x0, y0, x1, y1) in a box 0.6 wide and 1 high
    "A": [(0, 0, 0.3, 1), (0.3, 1, 0.6, 0), (0.12, 0.4, 0.48, 0.4)],
    "E": [(0, 0, 0, 1), (0, 1, 0.6, 1), (0, 0.5, 0.5, 0.5), (0, 0, 0.6, 0)],
    "I": [(0.3, 0, 0.3, 1)],
    "K": [(0, 0, 0, 1), (0, 0.45, 0.6, 1), (0.15, 0.55, 0.6, 0)],
    "L": [(0, 0, 0, 1), (0, 0, 0.6, 0)],
    "N": [(0, 0, 0, 1), (0, 1, 0.6, 0), (0.6, 0, 0.6, 1)],
    "O": [(0.15, 0, 0.45, 0), (0.45, 0, 0.6, 0.25), (0.6, 0.25, 0.6, 0.75), (0.6, 0.75, 0.45, 1)]
    + [(0.45, 1, 0.15, 1), (0.15, 1, 0, 0.75), (0, 0.75, 0, 0.25), (0, 0.25, 0.15, 0)],
    "R": [(0, 0, 0, 1), (0, 1, 0.45, 1), (0.45, 1, 0.6, 0.78), (0.6, 0.78, 0.45, 0.5)]
    + [(0.45, 0.5, 0, 0.5), (0.3, 0.5, 0.6, 0)],
    "T": [(0.3, 0, 0.3, 1), (0, 1, 0.6, 1)],
}


class _Surface(NamedTuple):
    """The visible surface of the nut at the n pixels that it covers; lengths are in units of its radius."""

    pixels: np.ndarray  # (h, w) bool, n of them True
    coverage: np.ndarray  # (n,), share of the pixel that the nut covers
    position: np.ndarray  # (n, 3)
    normal: np.ndarray  # (n, 3)
    longitude: np.ndarray  # (n,), radians
    latitude: np.ndarray  # (n,), 0 at the tip, 1 at the middle of the cap
    cap: np.ndarray  # (n,), distance from the middle of the cap, 1 at its rim
    frame: np.ndarray  # (3, 3), rows: two directions across the nut, and its axis towards the tip
    pixel: float  # width of a pixel


def render(
    rng: np.random.Generator, size: int, defect: str | None, severity: float, defect_rng: np.random.Generator
) -> np.ndarray:
    """Render one hazelnut without sensor noise.

    Parameters
    ----------
    rng, defect_rng : numpy.random.Generator
        Random generators of the scene and of the defect; the scene does not depend on the defect.
    size : int, pixels per side
    defect : str or None, one of `DEFECTS`
    severity : float in (0, 1]

    Returns
    -------
    (size, size, 3) float32, about [0, 1]
    """
    surface = _cast(rng, size)
    colour, normal = _skin(rng, surface)
    light = np.array([rng.normal(0, 0.25), rng.normal(0, 0.25) - 0.2, 1.0])
    light = (light / np.linalg.norm(light)).astype(np.float32)
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    facing = np.clip(normal @ light, 0, 1)
    limb = np.clip(surface.normal[..., 2], 0, 1)
    shade = (0.36 + 0.50 * facing) * (0.72 + 0.36 * limb**0.6) * rng.uniform(0.86, 1.11)
    gloss = np.clip(normal @ half, 0, 1)
    sheen = (
        (0.035 * gloss**10 + 0.025 * gloss**60)
        * step(surface.cap, 0.95, 1.1)
        * step(limb, 0.0, 0.3)
        * rng.uniform(0.5, 1.4)
    )
    if defect is not None:
        coverage, flaw = _DRAW[defect](defect_rng, surface, severity)
        colour = blend(colour, flaw, coverage)
        sheen = sheen * (1 - coverage)
    nut = colour * shade[..., None] + sheen[..., None] * np.array([1.0, 0.95, 0.92], np.float32)
    picture = _ground(rng, surface)
    picture[surface.pixels] = blend(picture[surface.pixels], nut, surface.coverage)
    return ndimage.gaussian_filter(picture, (0.42 * size / 256, 0.42 * size / 256, 0)).astype(np.float32)


def _cast(rng: np.random.Generator, size: int) -> _Surface:
    """Trace parallel rays to the nut, a body that is star-shaped about its centre."""
    rim, base, tip = rng.uniform(0.60, 0.74), rng.uniform(0.62, 0.76), rng.uniform(1.02, 1.22)
    dome, point = rng.uniform(0.06, 0.2), rng.uniform(0.62, 0.85)
    s = np.linspace(0, 1, 400)
    shell = np.stack([tip * np.sin(s * np.pi / 2), (1 - np.sin(s * np.pi / 2) ** 2) ** point], 1)[::-1]
    lower = np.stack([-base * s, np.sqrt(1 - (1 - rim**2) * s**2)], 1)
    cap = np.stack([-base - dome * s, rim * np.sqrt(1 - s)], 1)
    axial, radial = np.concatenate([shell, lower[1:], cap[1:]]).T
    axial = axial - (tip - base - dome) / 2
    cosine = axial / np.hypot(axial, radial)
    order = np.argsort(cosine)
    table = np.interp(np.linspace(-1, 1, 4097), cosine[order], np.hypot(axial, radial)[order])
    table = ndimage.gaussian_filter1d(table, 6, mode="nearest").astype(np.float32)
    rim_angle = float(np.arctan2(rim, base + (tip - base - dome) / 2))

    tilt, turn, spin = np.radians(rng.uniform(68, 128)), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    axis = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    side = np.cross(axis, [np.sin(turn), -np.cos(turn), 0])
    across = np.cross(axis, side)
    frame = np.stack([side * np.cos(spin) + across * np.sin(spin), across * np.cos(spin) - side * np.sin(spin), axis])
    frame = frame.astype(np.float32)
    oval, lobe = rng.normal(0, 0.02), rng.normal(0, 0.015)

    def height(p: np.ndarray) -> np.ndarray:
        """Distance of points (3, n) from the surface, along the line to the centre."""
        a, b, c = frame @ p
        across = a * a + b * b
        length = np.sqrt(across + c * c)
        place = (c / length + 1) * 2048
        cell = np.minimum(place.astype(np.int32), 4095)
        radius = table[cell] + (table[cell + 1] - table[cell]) * (place - cell.astype(np.float32))
        bulge = (oval * (a * a - b * b) + lobe * (a * a - 3 * b * b) * a / length) / (length * length)
        return length - radius * (1 + bulge)

    def approach(p: np.ndarray, steps: int) -> np.ndarray:
        """Move points (3, n) along their rays to the surface; return the least distance on the way, (n,)."""
        closest = np.full(p.shape[1], 9.0, np.float32)
        for _ in range(steps):
            gap = height(p)
            np.minimum(closest, gap, out=closest)
            p[2] = np.maximum(p[2] - 0.95 * gap, -0.6)
        return closest

    pixel = 1 / (size * rng.uniform(0.340, 0.378))
    coarse = np.linspace(-1.7, 1.7, 69, dtype=np.float32)
    start = np.stack([*np.meshgrid(coarse, coarse), np.full((69, 69), 1.3, np.float32)]).reshape(3, -1)
    centre = start[:2, approach(start, 16) < 0.02].mean(axis=1)  # of the outline
    shift = (rng.normal(0, 0.02, 2) - centre).astype(np.float32)
    front = ndimage.maximum_filter(start[2].reshape(69, 69), 3)

    grid = ((np.arange(size) - size / 2 + 0.5) * pixel).astype(np.float32)
    x, y = np.meshgrid(grid - shift[0], grid - shift[1])
    pixels = x * x + y * y < 1.5
    x, y = x[pixels], y[pixels]
    points = np.stack([x, y, sample(front, (y + 1.7) * 20, (x + 1.7) * 20)])
    closest = approach(points, 7)
    seen = closest < 0.8 * pixel
    pixels[pixels] = seen
    points, closest = points[:, seen], closest[seen]
    at = height(points)
    steps = 0.01 * np.eye(3, dtype=np.float32)
    normal = np.stack([height(points + step_[:, None]) - at for step_ in steps])
    normal[2] = np.maximum(normal[2], 1e-4)
    normal /= np.sqrt((normal * normal).sum(0))
    along = frame @ points
    angle = np.arctan2(np.hypot(along[0], along[1]), along[2])
    return _Surface(
        pixels=pixels,
        coverage=step(closest, 0.8 * pixel, 0.15 * pixel),
        position=points.T,
        normal=normal.T,
        longitude=np.arctan2(along[1], along[0]),
        latitude=angle / np.pi,
        cap=(np.pi - angle) / rim_angle,
        frame=frame,
        pixel=pixel,
    )


def _skin(rng: np.random.Generator, surface: _Surface) -> tuple[np.ndarray, np.ndarray]:
    """Colour of shell and cap, and the surface normals with their relief."""
    rows, columns = surface.latitude * _TEXTURE[0], surface.longitude / (2 * np.pi) * _TEXTURE[1]
    columns = columns + 5 * sample(random_field(rng, (32, 64), (5, 3)), rows / 4, columns / 16)
    around = random_field(rng, (1, _TEXTURE[1]), (0, rng.uniform(7, 9)))
    bands = 0.75 * around + 0.45 * random_field(rng, _TEXTURE, (22, 6))
    grain = random_field(rng, _TEXTURE, (9, 1.4))
    patches = sample(random_field(rng, (32, 128), (3, 5)), rows / 4, columns / 8)
    waist = np.sin(np.pi * np.clip(surface.latitude, 0, 1))
    ridge = sample(bands, rows, columns)
    pores = sample(random_field(rng, _TEXTURE, (1.3, 1.3)), 1.7 * rows, columns)
    dark = 0.5 * step(ridge, 0.1, -1.7) + 0.12 * sample(grain, rows, columns) + 0.05 * pores
    dark = np.clip(dark, -0.3, 1) * step(waist, 0.05, 0.6)
    warm = rng.uniform(0, 1)
    light_wood = np.array([0.670, 0.404, 0.311]) * (1 - warm) + np.array([0.700, 0.378, 0.305]) * warm
    dark_wood = np.array([0.385, 0.200, 0.170])
    mix = np.clip(0.16 + 0.85 * dark + 0.10 * patches, 0, 1)[..., None]
    colour = (light_wood * (1 - mix) + dark_wood * mix).astype(np.float32)

    bloom = step(surface.latitude + 0.035 * ridge + 0.02 * patches, 0.24, 0.02) * rng.uniform(0.25, 0.75)
    colour = blend(colour, np.array([0.56, 0.46, 0.40], np.float32), bloom)
    flecks = sample(random_field(rng, _TEXTURE, (1.1, 1.9)), rows, columns + 3 * np.sin(rows / 9))
    flecks = step(flecks + 0.5 * patches, rng.uniform(2.5, 3.2), 3.7) * rng.uniform(0.3, 0.8)
    colour = blend(colour, np.array([0.80, 0.60, 0.44], np.float32), flecks)

    fibre_columns = columns + 6 * sample(random_field(rng, (64, 128), (3, 2)), 24 * surface.cap, columns / 8)
    fibres = sample(random_field(rng, (128, 512), (5, 1.0)), 26 * surface.cap, fibre_columns / 2)
    position = surface.position / (2.2 * surface.pixel)
    hair = sample(random_field(rng, (128, 128), (0.55, 0.55)), position[..., 0], position[..., 1])
    rough = 0.75 * fibres * step(surface.cap, 0.0, 0.35) + 0.55 * hair
    crinkle = sample(random_field(rng, (1, _TEXTURE[1]), (0, 7)), 0 * columns, columns)
    edge = surface.cap + 0.022 * crinkle + 0.02 * patches
    felt = np.array([0.640, 0.475, 0.360], np.float32) * rng.uniform(0.85, 1.08)
    felt = felt * np.clip(1 + 0.21 * rough + 0.10 * patches, 0.35, 1.8)[..., None]
    scallops = step(edge + 0.035 * sample(around, 0 * columns, 2.0 * columns), 0.80, 0.93)
    felt = blend(felt, np.array([0.62, 0.43, 0.30], np.float32) * (1 + 0.12 * rough[..., None]), 0.7 * scallops)
    crease = np.exp(-(((edge - 0.83) / 0.035) ** 2)) * step(rough, -0.6, 1.2) * 0.55
    felt = felt * (1 - crease[..., None])
    on_cap = step(edge, 1.0 + 0.9 * surface.pixel, 1.0 - 0.9 * surface.pixel)
    seam = np.exp(-(((edge - 1.012) / (0.9 * surface.pixel + 0.008)) ** 2)) * np.clip(0.5 + 0.3 * crinkle, 0, 0.85)
    colour = blend(colour, felt, on_cap) * (1 - seam[..., None])

    slope = (sample(bands, rows, columns + 4) - sample(bands, rows, columns - 4)) * 0.085 * waist * (1 - on_cap)
    slope = slope + 0.16 * fibres * on_cap
    across = (
        -np.sin(surface.longitude)[..., None] * surface.frame[0]
        + np.cos(surface.longitude)[..., None] * surface.frame[1]
    )
    normal = surface.normal - slope[..., None] * across + 0.07 * (hair * on_cap)[..., None] * surface.frame[2]
    return colour, normal / np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None]


def _ground(rng: np.random.Generator, surface: _Surface) -> np.ndarray:
    """Background: dark cloth with some dust, and the shadow of the nut."""
    size = len(surface.pixels)
    outline = np.zeros((size, size), np.float32)
    outline[surface.pixels] = surface.coverage
    cloth = 0.0035 * random_field(rng, (size, size), (0.9, 1.6)) + 0.005 * random_field(rng, (size, size), (40, 40))
    dust = step(random_field(rng, (size, size), (0.8, 1.1)), 4.1, 5.0) * 0.12
    offset = rng.uniform(-0.03, 0.03, 2) * size + [0.02 * size, 0]
    shadow = ndimage.gaussian_filter(outline, 0.035 * size)
    shadow = ndimage.shift(shadow, offset, order=1, mode="nearest")
    tint = rng.normal(0, 0.0015, 3).astype(np.float32)
    lightness = rng.normal(1, 0.045) * (1 + cloth / 0.15) * (1 - 0.5 * shadow)
    return ((_GROUND + tint) * lightness[..., None] + dust[..., None]).astype(np.float32)


def _place(rng: np.random.Generator, surface: _Surface) -> tuple[np.ndarray, np.ndarray]:
    """Choose a point on the shell that faces the camera; return pixel coordinates along and across the grain."""
    facing = surface.normal[..., 2] * (surface.coverage == 1)
    candidates = np.flatnonzero((facing > 0.78) & (surface.cap > 1.4) & (surface.latitude > 0.2))
    if not len(candidates):
        candidates = np.flatnonzero(facing == facing.max())
    spot = candidates[rng.integers(len(candidates))]
    normal, axis = surface.normal[spot], surface.frame[2]
    along = axis - (axis @ normal) * normal
    along /= np.linalg.norm(along)
    offset = surface.position - surface.position[spot]
    return offset @ along, offset @ np.cross(normal, along)


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _opacity(severity: float) -> np.ndarray:
    """Opacity of a cut or a print; it is 1 from a severity of 0.6."""
    return 0.15 + 0.85 * step(np.asarray(severity), 0, 0.6)


def _crack(rng: np.random.Generator, surface: _Surface, severity: float) -> tuple[np.ndarray, np.ndarray]:
    """Crack: an irregular dark line; at a high severity it opens to a hole with a pale edge and the kernel inside."""
    x, y = _rotate(*_place(rng, surface), rng.uniform(0, np.pi))
    line = 0.035 * polyline(rng, x, 0.045) + 0.05 * polyline(rng, x, 0.17)
    reach = 0.26 + 0.46 * severity
    centre, slant = rng.uniform(-0.1, 0.1), rng.uniform(0.75, 1.3)
    wedge = np.clip(1 - np.abs(x - centre) / (0.62 * reach), 0, 1) ** slant
    opening = 0.70 * severity**1.3 * wedge * (1 + 0.25 * polyline(rng, x, 0.09))
    hairline = (0.4 + 0.9 * severity) * surface.pixel + 0.008 * severity
    taper = np.clip((1 - np.abs(x) / reach) * 6, 0, 1)
    inside = np.minimum(y - line + hairline, line + opening + hairline - y)
    soft = 0.8 * surface.pixel
    cavity = step(inside, -soft, soft) * taper
    thickness = 0.075 * severity * (1 + 0.4 * polyline(rng, x, 0.06)) * step(opening, 0, 0.06)
    edge = step(inside + thickness, -soft, soft) * taper
    depth = np.clip(inside / 0.12, 0, 1)
    kernel = (
        np.array([0.50, 0.27, 0.20], np.float32) * (depth * (1 + 0.15 * polyline(rng, 3 * (x + y), 0.03)))[..., None]
    )
    flaw = blend(np.broadcast_to(_PALE, kernel.shape), 0.05 + 0.8 * kernel, cavity)
    return edge * (0.30 + 0.70 * severity**0.6), flaw


def _cut(rng: np.random.Generator, surface: _Surface, severity: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut: a narrow groove, nearly along the grain, dark inside, with frayed pale wood."""
    x, y = _rotate(*_place(rng, surface), rng.normal(0, 0.45))
    fray = polyline(rng, 2 * x, 0.04)
    reach = 0.11 + 0.54 * severity
    width = (surface.pixel + 0.05 * severity) * np.clip(1 - (x / reach) ** 2, 0, 1) ** 0.7
    y = y + 0.15 * x * x + 0.006 * fray
    soft = 0.8 * surface.pixel
    gash = step(width * (1 + 0.35 * polyline(rng, 2 * x, 0.03)) - np.abs(y), -soft, soft) * (np.abs(x) < reach)
    groove = step(0.45 * width - np.abs(y - 0.3 * width + 0.006 * polyline(rng, x, 0.05)), -soft, soft)
    wood = _PALE * np.array([0.92, 0.98, 1.02]) * (1 + 0.16 * fray)[..., None]
    flaw = blend(wood, np.array([0.20, 0.15, 0.11]), groove * step(np.asarray(severity), 0.1, 0.6) * 0.9)
    return gash * _opacity(severity), flaw


def _hole(rng: np.random.Generator, surface: _Surface, severity: float) -> tuple[np.ndarray, np.ndarray]:
    """Hole: a round drilled hole, dark inside, with a pale edge without skin."""
    x, y = _place(rng, surface)
    distance, angle = np.hypot(x, y), np.arctan2(y, x) / np.pi
    ragged = 1 + 0.06 * polyline(rng, angle, 0.2)
    radius = (0.022 + 0.098 * severity) * ragged
    soft = 0.8 * surface.pixel
    hole = step(radius - distance, -soft, soft)
    flake = rng.uniform(0.3, 1.0) * polyline(rng, angle, 0.28).clip(0) + 0.10
    rim = step(radius + 0.22 * severity * flake - distance, -soft, soft)
    lit = np.clip((y + x) / (2 * radius), 0, 1) * hole
    inside = np.array([0.09, 0.07, 0.06]) + 0.22 * lit[..., None] ** 2 * _PALE
    flaw = blend(np.broadcast_to(_PALE, (*x.shape, 3)), inside, hole)
    return rim * (0.25 + 0.75 * severity**0.6), flaw


def _print(rng: np.random.Generator, surface: _Surface, severity: float) -> tuple[np.ndarray, np.ndarray]:
    """Print: white letters on the shell; the ink is more opaque at a higher severity."""
    x, y = _rotate(*_place(rng, surface), rng.uniform(0, 2 * np.pi))
    height = 0.17 + 0.12 * severity
    word = rng.choice(np.array(list(_LETTERS)), 4)
    x, y = x / height + 1.65, 0.5 - y / height  # rows of an image are counted downwards
    y = y + 0.12 * polyline(rng, x / 4, 0.12)
    distance = np.full(x.shape, 9.0, np.float32)
    for place, letter in enumerate(word):
        for x0, y0, x1, y1 in _LETTERS[letter]:
            dx, dy, px, py = x1 - x0, y1 - y0, x - x0 - 0.9 * place, y - y0
            along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
            distance = np.minimum(distance, np.hypot(px - along * dx, py - along * dy))
    stroke = step(distance, 0.18 + 0.7 * surface.pixel / height, 0.13)
    shape = surface.pixels.shape
    blots = (random_field(rng, shape, (1.1, 1.1)) + 0.5 * random_field(rng, shape, (5, 5)))[surface.pixels]
    ink = stroke * step(blots + 2.6 * severity, 0.2, 1.0)
    return ink * _opacity(severity), np.broadcast_to(np.array([1.22, 1.21, 1.15]), (*x.shape, 3))


_DRAW = {"crack": _crack, "cut": _cut, "hole": _hole, "print": _print}
