"""The toybox world: small ray-traced scenes that know the right answer to every task.

Units: world lengths are metres, x to the right, y up, z away from the camera; colours are linear RGB in [0, 1] until
`encode_srgb`. The image plane at unit distance spans [-0.5, 0.5] along the shorter side of the picture, so a wider
picture shows more of the same world and never a stretched one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bivdiff.errors import InputError

SHAPES = ("sphere", "cube", "cylinder", "cone")
COLORS = {
    "red": (0.80, 0.035, 0.03),
    "orange": (0.90, 0.26, 0.015),
    "yellow": (0.88, 0.66, 0.03),
    "green": (0.03, 0.42, 0.06),
    "blue": (0.025, 0.11, 0.72),
    "purple": (0.27, 0.04, 0.52),
    "pink": (0.90, 0.25, 0.42),
    "white": (0.86, 0.86, 0.86),
}
FLOORS = {
    "grey": (0.34, 0.35, 0.37),
    "green": (0.16, 0.36, 0.11),
    "pink": (0.55, 0.27, 0.32),
    "blue": (0.14, 0.28, 0.48),
    "brown": (0.40, 0.25, 0.13),
}
TIMES = ("noon", "sunset", "night")
MOTIONS = {
    "left": "moves left",
    "right": "moves right",
    "jumps": "jumps",
    "closer": "comes closer",
    "away": "goes away",
    "still": "stands still",
}
# Pairs the models never see in training: what they make of them shows whether they combine or remember.
HELD_OUT = frozenset({("purple", "cube"), ("orange", "cone"), ("pink", "cylinder"), ("green", "sphere")})
# Scene n of the evaluation is seed EVALUATION_SEED + n; training seeds lie below, so the two never meet.
EVALUATION_SEED = 10_000_000
NUM_FRAMES = 8
FPS = 8

_CAMERA = np.array([0.0, 1.75, -4.4], np.float32)
_PITCH = 0.21  # radians the camera looks down
_FAR = 60.0
_SUPERSAMPLING = 3  # samples along each side of a pixel that holds an edge


class Light(NamedTuple):
    """Light of a time of day: `sun` points to the sun; colours are linear RGB."""

    sun: tuple[float, float, float]
    sun_color: tuple[float, float, float]
    ambient: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]


_LIGHTS = {
    "noon": Light((-0.45, 1.0, -0.55), (1.05, 1.0, 0.92), (0.36, 0.40, 0.46), (0.10, 0.32, 0.78), (0.66, 0.82, 0.95)),
    "sunset": Light((0.85, 0.62, -0.40), (1.15, 0.66, 0.36), (0.32, 0.24, 0.28), (0.25, 0.14, 0.36), (1.0, 0.46, 0.17)),
    "night": Light(
        (-0.70, 0.85, -0.30), (0.42, 0.48, 0.66), (0.15, 0.17, 0.26), (0.008, 0.012, 0.05), (0.05, 0.07, 0.17)
    ),
}


@dataclass(frozen=True)
class Solid:
    """One object: where it stands on the floor (`x`, `z`), its half-height `size`, and its turn about y in radians."""

    shape: str
    color: str
    x: float
    z: float
    size: float
    yaw: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A clip's content. The first of `solids` performs `motion`; a second one stands still."""

    solids: tuple[Solid, ...]
    motion: str
    floor: str
    time: str

    @property
    def caption(self) -> str:
        """What a person would say of the clip; also how the prompts of the toybox are worded."""
        ground = f"on a {self.floor} floor at {self.time}"
        if not self.solids:
            return f"nothing {ground}"
        first, *rest = (
            f"{'an' if solid.color[0] in 'aeiou' else 'a'} {solid.color} {solid.shape}" for solid in self.solids
        )
        beside = "".join(f" next to {other}" for other in rest)
        return f"{first} {MOTIONS[self.motion]}{beside} {ground}"


class Rendering(NamedTuple):
    """A rendered clip.

    `frames`: uint8 `(F, H, W, 3)` RGB. `depth`: float32 `(F, H, W)`, metres along the optical axis, infinite in the
    sky. `masks`: uint8 `(N, F, H, W)`, one visible-pixel mask per solid, 255 inside.
    """

    frames: np.ndarray
    depth: np.ndarray
    masks: np.ndarray


def sample_scene(seed: int) -> Scene:
    """Draw the scene of a seed. Training seeds (below `EVALUATION_SEED`) never yield a `HELD_OUT` pair."""
    rng = np.random.default_rng(seed)
    training = seed < EVALUATION_SEED
    motion = str(rng.choice(list(MOTIONS)))
    first = _sample_solid(rng, training)
    solids = [first]
    if rng.random() < 0.5:
        other = _sample_solid(rng, training)
        side = 1.0 if rng.random() < 0.5 else -1.0
        first = replace(first, x=-side * rng.uniform(0.55, 1.0))
        other = replace(other, x=side * rng.uniform(0.75, 1.15))
        while other.color == first.color or other.shape == first.shape:
            drawn = _sample_solid(rng, training)
            other = replace(other, color=drawn.color, shape=drawn.shape)
        solids = [first, other]
    scene = Scene(tuple(solids), motion, str(rng.choice(list(FLOORS))), str(rng.choice(TIMES)))
    return _stay_in_view(scene)


def evaluation_scene(index: int) -> Scene:
    """Scene `index` (from 0) of the evaluation set, which training never sees."""
    if index < 0:
        raise InputError(f"The evaluation scenes are numbered from 0; got {index}.")
    return sample_scene(EVALUATION_SEED + index)


def recolored(scene: Scene, seed: int) -> Scene:
    """The same geometry, motion and light with other colours: the truth of a control task under a new prompt."""
    rng = np.random.default_rng((seed, 1))
    solids: list[Solid] = []
    for solid in scene.solids:
        taken = {solid.color, *(other.color for other in solids)}
        solids.append(replace(solid, color=str(rng.choice([color for color in COLORS if color not in taken]))))
    floor = str(rng.choice([floor for floor in FLOORS if floor != scene.floor]))
    return replace(scene, solids=tuple(solids), floor=floor)


def edit(scene: Scene, instruction: str) -> Scene:
    """The scene that an instruction asks for.

    Understood: "make the [red] cube blue", "turn the [red] sphere into a cone", "remove the [blue] cube",
    "make the floor green", "make it night". The other solids, their places and the motion stay as they are.

    Raises:
        InputError: the instruction is not one of these, or names nothing in the scene.
    """
    text = re.sub(r"\s+", " ", instruction.strip().lower().rstrip("."))
    color, shape, floor = "|".join(COLORS), "|".join(SHAPES), "|".join(FLOORS)
    if match := re.fullmatch(rf"make it ({'|'.join(TIMES)})", text):
        return replace(scene, time=match[1])
    if match := re.fullmatch(rf"make the floor ({floor})", text):
        return replace(scene, floor=match[1])
    if match := re.fullmatch(rf"make the (?:({color}) )?({shape}) ({color})", text):
        index = _find(scene, match[1], match[2], instruction)
        return _with_solid(scene, index, replace(scene.solids[index], color=match[3]))
    if match := re.fullmatch(rf"turn the (?:({color}) )?({shape}) into a ({shape})", text):
        index = _find(scene, match[1], match[2], instruction)
        return _with_solid(scene, index, replace(scene.solids[index], shape=match[3]))
    if match := re.fullmatch(rf"remove the (?:({color}) )?({shape})", text):
        index = _find(scene, match[1], match[2], instruction)
        return without(scene, index)
    raise InputError(
        f"The toybox world does not understand the instruction '{instruction}'. Try 'make the cube red', "
        "'turn the sphere into a cone', 'remove the blue cube', 'make the floor green' or 'make it night'."
    )


def without(scene: Scene, index: int = 0) -> Scene:
    """The scene without one of its solids. The motion belongs to the first one: without it nothing moves."""
    solids = scene.solids[:index] + scene.solids[index + 1 :]
    return replace(scene, solids=solids, motion=scene.motion if index else "still")


def render(scene: Scene, width: int = 128, height: int = 128, num_frames: int = NUM_FRAMES) -> Rendering:
    """Render a whole clip.

    Args:
        scene: what to show.
        width, height: pixels; the shorter side spans the same angle at every size.
        num_frames: frames over which the motion is spread.

    Returns:
        The clip with its exact depth and masks.

    Raises:
        InputError: a size or count is below 1.
    """
    if min(width, height, num_frames) < 1:
        raise InputError(f"A clip needs a positive size and length; got {width}x{height}, {num_frames} frames.")
    rendered = [render_frame(scene, t, width, height) for t in np.linspace(0.0, 1.0, num_frames)]
    frames, depth, masks = (np.stack(part) for part in zip(*rendered, strict=True))
    return Rendering(frames, depth, masks.swapaxes(0, 1))


def render_frame(scene: Scene, t: float, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One frame at time `t` in [0, 1]: uint8 `(H, W, 3)`, depth `(H, W)`, masks `(N, H, W)`; see `Rendering`."""
    bodies = [_place(scene, index, t) for index in range(len(scene.solids))]
    unit = 1.0 / min(width, height)
    columns = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * unit
    rows = (height / 2 - np.arange(height, dtype=np.float32) - 0.5) * unit
    x, y = (axis.ravel() for axis in np.meshgrid(columns, rows))
    color, surface, depth = _trace(scene, bodies, x, y)

    # A pixel whose neighbour shows another surface holds an edge: only those are worth more samples.
    grid = surface.reshape(height, width)
    edge = np.zeros((height, width), bool)
    for axis in (0, 1):
        differs = np.diff(grid, axis=axis) != 0
        for shift in (0, 1):
            edge |= np.pad(differs, [(shift, 1 - shift) if a == axis else (0, 0) for a in (0, 1)])
    chosen = np.flatnonzero(edge)
    if chosen.size:
        offsets = ((np.arange(_SUPERSAMPLING, dtype=np.float32) + 0.5) / _SUPERSAMPLING - 0.5) * unit
        across, down = (axis.ravel() for axis in np.meshgrid(offsets, offsets))
        fine, _, _ = _trace(scene, bodies, (x[chosen, None] + across).ravel(), (y[chosen, None] + down).ravel())
        color[chosen] = fine.reshape(chosen.size, -1, 3).mean(1)

    frame = (encode_srgb(color) * 255 + 0.5).astype(np.uint8).reshape(height, width, 3)
    owner = (surface // 8).reshape(height, width)
    masks = np.stack([(owner == index + 2) for index in range(len(bodies))] or [np.zeros((height, width), bool)])
    return frame, depth.reshape(height, width), masks.astype(np.uint8) * 255


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear RGB to sRGB in [0, 1] after a soft shoulder, so that highlights roll off instead of clipping."""
    shouldered = np.where(linear < 0.7, linear, 0.7 + 0.3 * np.tanh((linear - 0.7) / 0.3))
    return np.where(shouldered <= 0.0031308, 12.92 * shouldered, 1.055 * shouldered.clip(1e-8) ** (1 / 2.4) - 0.055)


def _sample_solid(rng: np.random.Generator, training: bool) -> Solid:
    while True:
        shape, color = str(rng.choice(SHAPES)), str(rng.choice(list(COLORS)))
        if not (training and (color, shape) in HELD_OUT):
            break
    return Solid(
        shape, color, x=rng.uniform(-0.8, 0.8), z=rng.uniform(-0.5, 0.9), size=rng.uniform(0.6, 0.82),
        yaw=rng.uniform(0.0, np.pi / 2),
    )  # fmt: skip


def _stay_in_view(scene: Scene) -> Scene:
    """Move the start of a motion so that the whole path stays in a square picture."""
    first = scene.solids[0]
    x, z = first.x, first.z
    if scene.motion == "left":
        x = abs(x) * 0.7 + 0.2 if len(scene.solids) == 1 else x + 0.5
    elif scene.motion == "right":
        x = -abs(x) * 0.7 - 0.2 if len(scene.solids) == 1 else x - 0.5
    elif scene.motion == "closer":
        z = z + 1.5
    elif scene.motion == "away":
        z = z - 0.3
    if scene.motion in ("left", "right"):
        scene = _clear_the_way(scene, float(z))
    return _with_solid(scene, 0, replace(first, x=float(np.clip(x, -1.3, 1.3)), z=float(z)))


def _clear_the_way(scene: Scene, z: float) -> Scene:
    """Stand a second solid behind the path of one that crosses the picture at depth `z`."""
    if len(scene.solids) == 1:
        return scene
    first, other = scene.solids
    return _with_solid(scene, 1, replace(other, z=max(other.z, z + 1.15 * (first.size + other.size))))


def _with_solid(scene: Scene, index: int, solid: Solid) -> Scene:
    return replace(scene, solids=(*scene.solids[:index], solid, *scene.solids[index + 1 :]))


def _find(scene: Scene, color: str | None, shape: str, instruction: str) -> int:
    for index, solid in enumerate(scene.solids):
        if solid.shape == shape and color in (None, solid.color):
            return index
    raise InputError(f"'{instruction}' names no object of this scene, which shows {scene.caption}.")


class _Body(NamedTuple):
    """A solid at one moment: its centre in world coordinates and what the intersections need."""

    shape: str
    color: np.ndarray
    center: np.ndarray
    size: float
    cos: float
    sin: float


def _place(scene: Scene, index: int, t: float) -> _Body:
    solid = scene.solids[index]
    x, y, z = solid.x, solid.size, solid.z
    if index == 0:
        x += {"left": -1.2, "right": 1.2}.get(scene.motion, 0.0) * t
        z += {"closer": -2.0, "away": 2.4}.get(scene.motion, 0.0) * t
        if scene.motion == "jumps":
            y += 0.95 * 4 * t * (1 - t)
    center = np.array([x, y, z], np.float32)
    color = np.array(COLORS[solid.color], np.float32)
    return _Body(solid.shape, color, center, solid.size, float(np.cos(solid.yaw)), float(np.sin(solid.yaw)))


def _trace(
    scene: Scene, bodies: list[_Body], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shade image-plane points: linear RGB `(P, 3)`, a surface number that changes at every edge `(P,)`, depth `(P,)`.

    Surface numbers: 0 sky, 8 + parity and shadow for the floor, 8 * (n + 2) + face and shadow for solid n.
    """
    light = _LIGHTS[scene.time]
    sun = np.array(light.sun, np.float32)
    sun /= np.linalg.norm(sun)
    cos, sin = np.cos(_PITCH), np.sin(_PITCH)
    axial = np.stack([x, y * cos - sin, cos + y * sin], 1).astype(np.float32)  # unit depth along the optical axis
    length = np.sqrt((axial**2).sum(1))
    direction = axial / length[:, None]
    origin = np.broadcast_to(_CAMERA, direction.shape)

    distance = np.full(len(x), np.inf, np.float32)
    normal = np.zeros_like(direction)
    owner = np.zeros(len(x), np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(direction[:, 1] < -1e-4, -_CAMERA[1] / direction[:, 1], np.inf)
    on_floor = floor < _FAR
    distance[on_floor] = floor[on_floor]
    normal[on_floor] = (0, 1, 0)
    owner[on_floor] = 1
    for index, body in enumerate(bodies):
        hit, hit_normal = _intersect(body, origin, direction)
        nearer = hit < distance
        distance[nearer], normal[nearer], owner[nearer] = hit[nearer], hit_normal[nearer], index + 2

    sky_blend = np.clip(direction[:, 1:2] / 0.42, 0, 1) ** np.float32(0.75)
    sun_color, ambient_color, zenith, horizon = np.array(light[1:], np.float32)
    color = (1 - sky_blend) * horizon + sky_blend * zenith
    surface = owner * 8
    seen = np.flatnonzero(owner)
    if not seen.size:
        return color, surface, distance / length

    point = _CAMERA + direction[seen] * distance[seen, None]
    facing, who = normal[seen], owner[seen]
    lit = np.maximum(facing @ sun, 0)
    towards_sun = np.broadcast_to(sun, point.shape)
    shadowed = lit <= 0
    for body in bodies:
        shadowed |= np.isfinite(_intersect(body, point + facing * 2e-3, towards_sun)[0])
    lit[shadowed] = 0

    parity = ((np.floor(point[:, 0] / 1.1) + np.floor(point[:, 2] / 1.1)) % 2).astype(np.int64)
    albedo = np.array([[0.74], [1.0]], np.float32)[parity] * np.array(FLOORS[scene.floor], np.float32)
    for index, body in enumerate(bodies):
        albedo[who == index + 2] = body.color
    ambient = (0.72 + 0.28 * facing[:, 1]) * _openness(bodies, point, who)
    shaded = albedo * (ambient[:, None] * ambient_color + lit[:, None] * sun_color)
    glossy = np.flatnonzero((who > 1) & (lit > 0))
    half = sun - direction[seen[glossy]]
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    shine = np.maximum(np.einsum("ij,ij->i", facing[glossy], half), 0) ** 48
    shaded[glossy] += 0.32 * shine[:, None] * sun_color
    fog = np.where(who == 1, 1 - np.exp(-((distance[seen] / 17.0) ** 2)), 0).astype(np.float32)
    color[seen] = shaded + fog[:, None] * (horizon - shaded)
    near = fog < 0.9
    face = np.where(who > 1, np.abs(facing).argmax(1), parity * near)
    surface[seen] += face + 4 * (shadowed & near)
    return color, surface, distance / length


def _openness(bodies: list[_Body], point: np.ndarray, who: np.ndarray) -> np.ndarray:
    """How much of the sky a point sees, roughly: the floor darkens towards the foot of every solid."""
    open_sky = np.ones(len(point), np.float32)
    for body in bodies:
        across, beyond = point[:, 0] - body.center[0], point[:, 2] - body.center[2]
        lift = max(float(body.center[1]) - body.size, 0.0) / body.size
        shade = np.exp((across**2 + beyond**2) * (-1 / (1.15 * body.size) ** 2)) * (0.55 / (1 + 2 * lift))
        open_sky -= np.where(who == 1, shade, 0) * open_sky
    return open_sky


def _intersect(body: _Body, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest hits in front of the origins: distance `(P,)` (infinite where there is none) and normals `(P, 3)`."""
    hit = np.full(len(origin), np.inf, np.float32)
    normal = np.zeros((len(origin), 3), np.float32)
    local = origin - body.center
    # Most rays pass the solid by: only those that cross its bounding sphere are worth the exact test.
    along = np.einsum("ij,ij->i", local, direction)
    gap = np.einsum("ij,ij->i", local, local) - along * along
    near = np.flatnonzero(gap < (1.5 * body.size) ** 2)
    if not near.size:
        return hit, normal
    o, d = _turn(local[near], body.cos, body.sin) / body.size, _turn(direction[near], body.cos, body.sin)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        distance, n = _INTERSECTIONS[body.shape](o, d)
    hit[near] = distance * body.size
    normal[near] = _turn(n, body.cos, -body.sin)
    return hit, normal


def _turn(vectors: np.ndarray, cos: float, sin: float) -> np.ndarray:
    """Rotate `(P, 3)` about the y axis."""
    x, y, z = vectors.T
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], 1)


def _nearest_root(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both roots of `a s^2 + 2 b s + c`, the smaller first, infinite where they are not real."""
    discriminant = b * b - a * c
    root = np.sqrt(np.where(discriminant >= 0, discriminant, np.nan))
    first, second = (-b - root) / a, (-b + root) / a
    low, high = np.fmin(first, second), np.fmax(first, second)
    return np.nan_to_num(low, nan=np.inf), np.nan_to_num(high, nan=np.inf)


def _sphere(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, _ = _nearest_root((d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1.0)
    hit = np.where(low > 0, low, np.inf)
    return hit, o + d * np.where(np.isfinite(hit), hit, 0)[:, None]


def _cube(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = 0.85
    o = o + np.array([0.0, 1.0 - half, 0.0], np.float32)  # it stands on the floor, at y = -1
    near = np.sort(np.stack([(-half - o) / d, (half - o) / d]), axis=0)
    enter, leave = near[0].max(1), near[1].min(1)
    hit = np.where((enter < leave) & (enter > 0), enter, np.inf)
    axis = near[0].argmax(1)
    normal = np.zeros_like(o)
    rows = np.arange(len(o))
    normal[rows, axis] = -np.sign(d[rows, axis])
    return hit, normal


def _cylinder(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    radius = 0.72
    side, _ = _nearest_root(d[:, 0] ** 2 + d[:, 2] ** 2, o[:, 0] * d[:, 0] + o[:, 2] * d[:, 2],
                            o[:, 0] ** 2 + o[:, 2] ** 2 - radius**2)  # fmt: skip
    height = o[:, 1] + d[:, 1] * side
    side = np.where((side > 0) & (np.abs(height) <= 1), side, np.inf)
    return _with_caps(o, d, side, radius, (1.0, -1.0), slope=0.0)


def _cone(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    radius = 0.95  # at the foot, y = -1; the apex is at y = 1.15
    slope = radius / 2.15
    apex = o[:, 1] - 1.15
    roots = _nearest_root(
        d[:, 0] ** 2 + d[:, 2] ** 2 - (slope * d[:, 1]) ** 2,
        o[:, 0] * d[:, 0] + o[:, 2] * d[:, 2] - slope**2 * apex * d[:, 1],
        o[:, 0] ** 2 + o[:, 2] ** 2 - (slope * apex) ** 2,
    )
    side = np.full(len(o), np.inf, np.float32)
    for root in reversed(roots):
        height = o[:, 1] + d[:, 1] * root
        side = np.where((root > 0) & (height >= -1) & (height <= 1.15), root, side)
    return _with_caps(o, d, side, radius, (-1.0,), slope=slope)


def _with_caps(
    o: np.ndarray, d: np.ndarray, side: np.ndarray, radius: float, caps: tuple[float, ...], slope: float
) -> tuple[np.ndarray, np.ndarray]:
    point = o + d * np.where(np.isfinite(side), side, 0)[:, None]
    normal = np.stack([point[:, 0], slope * np.hypot(point[:, 0], point[:, 2]), point[:, 2]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    hit = side
    for cap in caps:
        flat = (cap - o[:, 1]) / d[:, 1]
        across = np.hypot(o[:, 0] + d[:, 0] * flat, o[:, 2] + d[:, 2] * flat)
        nearer = (flat > 0) & (across <= radius) & (flat < hit)
        hit = np.where(nearer, flat, hit)
        normal[nearer] = (0, np.sign(cap), 0)
    return hit, normal


_INTERSECTIONS = {"sphere": _sphere, "cube": _cube, "cylinder": _cylinder, "cone": _cone}
