"""Generator of zipper images, similar to this category of MVTec AD: a closed metal zipper on two woven tapes."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mmad_utils.datasets.synthetic_fields import blend, polyline, random_field, sample, step

DEFECTS = ("broken_teeth", "split_teeth", "squeezed_teeth", "fabric_border", "fabric_interior")
FAINTEST = 0.0  # smallest severity in a category
# Lengths are in 256ths of the image side: u across the zipper, v along it, both 0 in the middle.
_PITCH = 15.0  # distance between teeth of one side
_REACH = (60, 156)  # half the extent in u and v of the drawing of the teeth
_OVERSAMPLING = 2


class _Teeth(NamedTuple):
    """Teeth of both sides, with one entry per tooth."""

    side: np.ndarray  # -1 left, 1 right
    u: np.ndarray  # position of the centre line of the zipper at this tooth
    v: np.ndarray
    angle: np.ndarray  # radians
    kept: np.ndarray  # length towards the other side; less if broken
    rise: np.ndarray  # height, 1 if sound


class _Tape(NamedTuple):
    """Fabric of both sides, one entry per pixel."""

    colour: np.ndarray  # (h, w, 3)
    inside: np.ndarray  # coverage, (h, w)
    u: np.ndarray
    v: np.ndarray
    unit: float  # pixels in a 256th of the side


def render(
    rng: np.random.Generator, size: int, defect: str | None, severity: float, defect_rng: np.random.Generator
) -> np.ndarray:
    """Render a part of a zipper; arguments and result are those of `synthetic_hazelnut.render`."""
    unit = size / 256
    zoom, turn = rng.uniform(0.96, 1.05), float(np.radians(rng.normal(0, 0.9)))
    grid = ((np.arange(size, dtype=np.float32) + 0.5) / unit - 128) / zoom
    y, x = np.meshgrid(grid, grid, indexing="ij")
    x = x - rng.uniform(-4, 4)
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    u = x * cosine + y * sine + rng.normal(0, 2) * (y / 128) ** 2
    v = y * cosine - x * sine
    light = np.array([rng.normal(-0.35, 0.12), rng.normal(-0.45, 0.12), 1.0])
    light = (light / np.linalg.norm(light)).astype(np.float32)
    brightness = rng.uniform(0.92, 1.06)

    teeth = _row_of_teeth(rng)
    opening = np.zeros_like(u)
    if defect == "split_teeth":
        teeth, opening = _split(defect_rng, teeth, u, v, severity)
    elif defect == "squeezed_teeth":
        teeth = _squeeze(defect_rng, teeth, severity)
    elif defect == "broken_teeth":
        teeth = _break(defect_rng, teeth, severity)

    side = np.where(u < 0, -1, 1)
    tape = _tape(rng, u - side * opening, v, unit)
    ground = _ground(rng, size)
    if defect in ("fabric_border", "fabric_interior"):
        damage = _fray if defect == "fabric_border" else _tear
        tape = damage(defect_rng, tape, severity)
    cast = ndimage.gaussian_filter(tape.inside, 3.5 * unit)
    cast = ndimage.shift(cast, (2.0 * unit, 1.5 * unit), order=1, mode="nearest")
    picture = blend(ground * (1 - 0.45 * cast)[..., None], tape.colour, tape.inside)
    gap = step(np.abs(u), 1.2 + opening, 0.4 + opening * 0.9)
    picture = picture * (1 - 0.75 * gap * (1 - 0.55 * step(opening, 2, 12)))[..., None]

    shade, cover, shadow = _metal(rng, teeth, light, unit)
    near = np.abs(u) < _REACH[0] - 2
    rows = (v[near] + _REACH[1]) * _OVERSAMPLING * unit - 0.5
    columns = (u[near] + _REACH[0]) * _OVERSAMPLING * unit - 0.5
    covered = sample(cover, rows, columns)
    metal = (sample(shade, rows, columns) / np.maximum(covered, 1e-3))[..., None]
    below = picture[near] * (1 - 0.62 * sample(shadow, rows - 3 * unit, columns - 2 * unit))[..., None]
    picture[near] = blend(below, metal * np.array([1.0, 0.975, 0.93], np.float32), covered)
    picture *= brightness
    return ndimage.gaussian_filter(picture, (0.45 * unit, 0.45 * unit, 0)).astype(np.float32)


def _row_of_teeth(rng: np.random.Generator) -> _Teeth:
    """Teeth without a defect, alternating between the sides, with small irregularities."""
    phase = rng.uniform(0, 1)
    n = 38
    place = np.arange(n)
    return _Teeth(
        side=np.where(place % 2, 1.0, -1.0),
        u=rng.normal(0, 0.25, n),
        v=(place / 2 - n / 4 + phase) * _PITCH + rng.normal(0, 0.22, n),
        angle=rng.normal(0, 0.012, n),
        kept=np.full(n, 7.0),
        rise=np.ones(n),
    )


def _metal(
    rng: np.random.Generator, teeth: _Teeth, light: np.ndarray, unit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the teeth: brightness times coverage, coverage, and shadow, on a finer grid than the image."""
    scale = _OVERSAMPLING * unit
    shape = (round(2 * _REACH[1] * scale), round(2 * _REACH[0] * scale))
    relief = np.zeros(shape, np.float32)
    teeth = _Teeth(*(each.astype(np.float32) for each in teeth))
    rows, columns = int(11 * scale), int(20 * scale)
    row0 = np.round((teeth.v + _REACH[1]) * scale).astype(int)
    column0 = np.round((teeth.u + teeth.side * 8.5 + _REACH[0]) * scale).astype(int)
    dv = (
        (row0[:, None, None] + np.arange(-rows, rows)[:, None] + 0.5).astype(np.float32) / scale - _REACH[1]
    ) - teeth.v[:, None, None]
    du = (
        (column0[:, None, None] + np.arange(-columns, columns) + 0.5).astype(np.float32) / scale - _REACH[0]
    ) - teeth.u[:, None, None]
    du = -du * teeth.side[:, None, None] + 11  # from the middle of the tooth towards the other side
    cosine, sine = np.cos(teeth.angle)[:, None, None], np.sin(teeth.angle)[:, None, None]
    a, b = du * cosine + dv * sine, dv * cosine - du * sine
    body = _box(a, b, -1.5, 11.5, 4.7, 1.6)
    head = _box(a, b, 10.5, 7.5, 3.25, 2.2)
    distance = np.minimum(body, head)
    ragged = 0.7 * np.sin(1.9 * b + teeth.v[:, None, None]) + 0.4 * np.sin(4.3 * b)
    broken = a - 11 - teeth.kept[:, None, None] + np.where(teeth.kept < 7, 1.0, 0.0)[:, None, None] * ragged
    distance = np.maximum(distance, broken)
    dome = 1 - 0.35 * (b / 4.7) ** 2
    dimple = 0.5 * np.exp(-(((a - 12.5) / 2.6) ** 2) - (b / 1.7) ** 2)
    collar = 0.25 * step(a, 1.5, 3.5)
    height = 3.2 * np.sqrt(np.clip(-distance / 2.4, 0, 1)) * (dome - dimple - collar + 0.15)
    height *= teeth.rise[:, None, None]
    for one, top, left in zip(height, row0 - rows, column0 - columns):
        if top >= 0 and top + 2 * rows <= shape[0] and left >= 0 and left + 2 * columns <= shape[1]:
            part = relief[top : top + 2 * rows, left : left + 2 * columns]
            np.maximum(part, one, out=part)
    relief += 0.035 * random_field(rng, shape, (0.8, 2.2)) * (relief > 0)
    cover = step(relief, 0.15, 0.9)
    smooth = ndimage.gaussian_filter(relief, 0.55 * _OVERSAMPLING * unit)
    slope_v, slope_u = np.gradient(smooth, 1 / scale)
    steep = 1 / np.sqrt(1 + slope_u**2 + slope_v**2)
    facing = np.clip((light[2] - light[0] * slope_u - light[1] * slope_v) * steep, 0, 1)
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    gloss = np.clip((half[2] - half[0] * slope_u - half[1] * slope_v) * steep, 0, 1)
    hollow = np.clip(ndimage.gaussian_filter(relief, 2.2 * scale) - relief, 0, 3) / 3
    tarnish = 1 + 0.05 * random_field(rng, shape, (6, 6))
    shade = (0.10 + 0.42 * facing**1.5 + 0.30 * gloss**22 + 0.35 * gloss**120) * tarnish * (1 - 0.7 * hollow)
    shadow = ndimage.gaussian_filter(cover, 1.6 * scale)
    soften = 0.5 * _OVERSAMPLING * unit
    return ndimage.gaussian_filter(shade * cover, soften), ndimage.gaussian_filter(cover, soften), shadow


def _box(a: np.ndarray, b: np.ndarray, middle: float, half_length: float, half_width: float, corner: float):
    """Signed distance (negative inside) from a box with round corners."""
    over_a = np.abs(a - middle) - half_length + corner
    over_b = np.abs(b) - half_width + corner
    outside = np.hypot(np.maximum(over_a, 0), np.maximum(over_b, 0))
    return outside + np.minimum(np.maximum(over_a, over_b), 0) - corner


def _tape(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, unit: float) -> _Tape:
    """Herringbone fabric, with the cord below the teeth."""
    wale, course = max(6.4, 4.5 / unit), max(3.5, 3.0 / unit)
    wander = random_field(rng, (64, 64), (4, 4))
    away = np.abs(u)
    bent_u = u + 0.35 * sample(wander, v / 4, u / 4)
    bent_v = v + 0.45 * sample(wander, u / 4 + 30, v / 4)
    across = bent_u / wale
    column = np.floor(across)
    within = across - column
    slant = np.where(column.astype(int) % 2, within, 1 - within)
    phase = bent_v / course + 0.85 * slant + np.where(u < 0, 0.37, 0.0)
    thread = np.cos(2 * np.pi * phase)
    irregular = sample(random_field(rng, (128, 128), (0.4, 0.4)), np.floor(phase), column)
    furrow = np.exp(-((np.minimum(within, 1 - within) * wale / 0.95) ** 2))
    fuzz = random_field(rng, u.shape, (0.7, 0.7))
    weave = 0.30 * thread + 0.10 * irregular + 0.11 * fuzz - 0.34 * furrow
    cord = np.clip(1 - ((away - 26) / 5.5) ** 2, 0, 1)
    roll = np.sqrt(cord) * (0.35 - 0.06 * np.sign(u) * (away - 26))
    stitch = np.exp(-(((away - 35.5) / 1.5) ** 2)) * (0.45 + 0.55 * np.cos(2 * np.pi * v / 9.5 + u))
    half_width = 91 + 0.8 * sample(wander, v / 6, 0 * v) + 0.35 * np.cos(2 * np.pi * bent_v / course)
    selvedge = step(away, half_width - 5, half_width - 2.5)
    lightness = 1 + weave * (1 - 0.5 * stitch) + roll + 0.75 * stitch + 0.18 * selvedge
    lightness = lightness * (1 - 0.30 * step(away, 23, 8)) * (1 + 0.05 * sample(wander, v / 8 + 9, u / 8))
    dye = rng.uniform(0.165, 0.20) * np.array([1.0, 1.01, 1.06], np.float32)
    inside = step(half_width + 0.3 * fuzz - away, -0.6 / unit, 0.6 / unit)
    return _Tape(np.clip(lightness, 0.15, 3)[..., None] * dye, inside, u, v, unit)


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Background: a pale matt table with uneven light."""
    paper = 0.006 * random_field(rng, (size, size), (0.8, 0.8)) + 0.008 * random_field(rng, (size, size), (45, 45))
    level = rng.uniform(0.62, 0.70) * np.array([1.0, 0.995, 0.975])
    return ((1 + paper / 0.65)[..., None] * level).astype(np.float32)


def _bump(x: np.ndarray) -> np.ndarray:
    """Smooth bump: 1 at 0, and 0 beyond ±1."""
    return np.where(np.abs(x) < 1, np.cos(np.pi / 2 * np.clip(x, -1, 1)) ** 2, 0)


def _split(
    rng: np.random.Generator, teeth: _Teeth, u: np.ndarray, v: np.ndarray, severity: float
) -> tuple[_Teeth, np.ndarray]:
    """Defect: the two rows of teeth are separated over a length, and the tapes are displaced near the teeth."""
    middle, length, wide = rng.uniform(-70, 70), 24 + 28 * severity, 0.5 + 12.5 * severity
    moved = wide * _bump((teeth.v - middle) / length)
    opening = wide * _bump((v - middle) / length) * step(np.abs(u), 64, 28 + wide)
    lean = -moved * np.sign(teeth.v - middle) * 0.012 * teeth.side
    return teeth._replace(u=teeth.u + teeth.side * moved, angle=teeth.angle + lean), opening


def _squeeze(rng: np.random.Generator, teeth: _Teeth, severity: float) -> _Teeth:
    """Defect: some neighbouring teeth are pressed together and flattened."""
    middle, length = rng.uniform(-75, 75), rng.uniform(20, 30)
    amount = severity * _bump((teeth.v - middle) / length)
    crooked = rng.choice([-1, 1], len(amount)) * rng.uniform(0.5, 1, len(amount))
    return teeth._replace(
        v=teeth.v - 0.40 * amount * (teeth.v - middle) + 1.5 * amount * crooked,
        u=teeth.u + 2.0 * amount * crooked,
        angle=teeth.angle + 0.34 * amount * crooked,
        rise=1 - 0.45 * amount,
    )


def _break(rng: np.random.Generator, teeth: _Teeth, severity: float) -> _Teeth:
    """Defect: a tooth is broken off; at a higher severity also some neighbours on the same side."""
    middle, most = rng.uniform(-80, 80), rng.integers(1, 4)
    first = np.abs(teeth.v - middle).argmin()
    kept = teeth.kept.copy()
    for place in range(most):
        lost = np.clip(severity * (1 + 0.5 * (most - 1)) - 0.5 * place, 0, 1)
        if lost > 0:
            kept[first + 2 * place] = 7.0 - (2.2 + rng.uniform(20, 26) * lost)
    return teeth._replace(kept=kept)


def _fray(rng: np.random.Generator, tape: _Tape, severity: float) -> _Tape:
    """Defect: the outer border of one tape is torn, with loose threads."""
    colour, inside, u, v, unit = tape
    side, middle = rng.choice([-1, 1]), rng.uniform(-85, 85)
    length = 7 + 26 * severity
    ragged = 1 + 0.35 * polyline(rng, (v - middle) / 64, 0.05)
    depth = (1.0 + 19 * severity) * _bump((v - middle) / length) ** 0.7 * ragged
    edge = 94 - 3 * step(depth, 0, 0.8) - depth - side * u
    kept = step(edge, -0.8 / unit, 0.8 / unit)
    threads = step(np.sin((v + 0.10 * (u - side * 91)) * 2.1 + 2 * polyline(rng, u / 64, 0.1)), 0.55, 0.95)
    threads = threads * step(edge, -0.75 * depth - 0.5, -0.1) * (depth > 1.5)
    worn = step(edge, 5 * severity + 1, 0) * step(depth, 0, 2) * (0.25 + 0.5 * severity)
    return tape._replace(
        colour=blend(colour, colour * 1.2 + np.float32(0.10), worn),
        inside=inside * np.clip(np.maximum(kept, 0.8 * threads), 0, 1),
    )


def _tear(rng: np.random.Generator, tape: _Tape, severity: float) -> _Tape:
    """Defect: the fabric inside one tape is worn, and has a hole at a high severity."""
    colour, inside, u, v, unit = tape
    x = u - rng.choice([-1, 1]) * rng.uniform(50, 74)
    y = v - rng.uniform(-90, 90)
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(1.0, 2.2)
    a, b = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    distance = np.hypot(a / np.sqrt(aspect), b * np.sqrt(aspect))
    direction = np.arctan2(b, a) / np.pi
    radius = (3.0 + 10 * severity) * (1 + 0.3 * polyline(rng, direction, 0.13))
    worn = step(distance, 1.25 * radius, 0.5 * radius) * (0.2 + 0.6 * severity)
    lint = random_field(rng, u.shape, (0.7, 0.7))
    colour = blend(colour, (0.34 + 0.07 * lint)[..., None] * np.array([1.0, 1.0, 1.03]), worn)
    through = step(radius * (1.15 * severity - 0.25) - distance, -0.7 / unit, 0.7 / unit)
    threads = step(np.sin(a * 1.6 + 2 * polyline(rng, b / 32, 0.1)), 0.5, 0.95)
    return tape._replace(colour=colour, inside=inside * (1 - through * (1 - 0.8 * threads)))
