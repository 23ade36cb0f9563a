"""The factors of a drawn person: frozen values, one class for each.

Lengths are metres, angles radians, colours sRGB triples in [0, 1]. "Left" is always the person's own left. Everything
is hashable and compares by value, so two figures are the same picture exactly when they are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]

Pattern = Literal[
    "plain", "stripes", "columns", "checks", "plaid", "dots", "diagonal", "chevron", "panel", "logo", "block"
]
SleeveName = Literal["none", "cap", "short", "elbow", "three-quarter", "long"]
Neckline = Literal["crew", "v", "scoop", "boat", "turtle", "collar"]
BottomKind = Literal["trousers", "jeans", "shorts", "skirt"]
SkirtCut = Literal["pencil", "a-line", "pleated"]
OuterKind = Literal["blazer", "cardigan", "jacket", "vest"]
AccessoryKind = Literal["belt", "cap", "beanie", "scarf", "bag"]
HairStyle = Literal[
    "bald", "buzz", "short", "side", "fringe", "bob", "straight", "wavy", "ponytail", "bun", "afro", "curly"
]


@dataclass(frozen=True)
class Cloth:
    """A fabric: its pattern, colours and how it is laid on the body.

    Attributes:
        pattern: Name of the print.
        colours: Ground, figure and accent colour.
        cycles_u: Whole cycles per torso length along the body (or the limb).
        cycles_v: Whole cycles per torso length across the body (or around the limb).
        phase_u: Phase along, in cycles.
        phase_v: Phase across, in cycles.
        duty: Share of a cycle that shows the figure colour.
        gloss: Strength of the sheen in [0, 1].
    """

    pattern: Pattern
    colours: tuple[Colour, Colour, Colour]
    cycles_u: int
    cycles_v: int
    phase_u: float
    phase_v: float
    duty: float
    gloss: float


@dataclass(frozen=True)
class Top:
    """A top. ``fit`` runs from 0 (tight) to 1 (loose); ``length`` is the hem in torso lengths below the shoulders."""

    sleeve: SleeveName
    neckline: Neckline
    length: float
    fit: float
    folds: float
    fold_offset: float
    cloth: Cloth


@dataclass(frozen=True)
class Outerwear:
    """An open layer over the top. ``gap`` is its opening at the chest and ``length`` its hem, both in torso lengths."""

    kind: OuterKind
    gap: float
    length: float
    fit: float
    folds: float
    fold_offset: float
    cloth: Cloth


@dataclass(frozen=True)
class Bottom:
    """Trousers, jeans, shorts or a skirt.

    ``length`` is the hem as a share of the thigh (1 is the knee, 2 the ankle), ``rise`` the waistband in torso lengths
    below the shoulders, ``fit`` from 0 (slim) to 1 (wide) and ``skirt`` the cut, used by skirts only.
    """

    kind: BottomKind
    skirt: SkirtCut
    length: float
    rise: float
    fit: float
    folds: float
    fold_offset: float
    cloth: Cloth


@dataclass(frozen=True)
class Dress:
    """A dress: a bodice like a top's and a skirt from the waist."""

    sleeve: SleeveName
    neckline: Neckline
    skirt: SkirtCut
    length: float
    waist: float
    fit: float
    folds: float
    fold_offset: float
    cloth: Cloth


@dataclass(frozen=True)
class Legwear:
    """Tights. ``sheer`` is how much of the skin's colour shows through."""

    colour: Colour
    sheer: float


@dataclass(frozen=True)
class Shoes:
    """Shoes, in the picture only where the format is tall enough to show feet."""

    colour: Colour


@dataclass(frozen=True)
class Accessory:
    """One accessory, with a free number in [0, 1] for its variant."""

    kind: AccessoryKind
    colour: Colour
    variant: float


@dataclass(frozen=True)
class Outfit:
    """All that is worn. Where ``dress`` is given it is worn in place of ``top``, ``outerwear`` and ``bottom``."""

    top: Top
    outerwear: Outerwear | None
    bottom: Bottom
    dress: Dress | None
    legwear: Legwear | None
    shoes: Shoes
    accessory: Accessory | None


@dataclass(frozen=True)
class Body:
    """Lengths in metres; ``weight``, ``limbs`` and ``bust`` are factors around 1, 1 and 0.5."""

    torso: float
    shoulders: float
    hips: float
    waist: float
    hip_width: float
    weight: float
    limbs: float
    bust: float
    arm: float
    leg: float
    neck: float
    head: float


@dataclass(frozen=True)
class Skin:
    """Skin, lip and cheek colours."""

    tone: Colour
    lips: Colour
    blush: float


@dataclass(frozen=True)
class Hair:
    """Hair: style, colour, length in head heights below the chin, volume, parting in [-1, 1], front locks or none."""

    style: HairStyle
    colour: Colour
    length: float
    volume: float
    parting: float
    front: bool
    seed: float


@dataclass(frozen=True)
class Face:
    """Facial proportions (factors around 1), colours, beard in [0, 1] and spectacles."""

    width: float
    jaw: float
    eyes: float
    eye_gap: float
    iris: Colour
    brows: float
    nose: float
    mouth: float
    smile: float
    makeup: float
    beard: float
    moustache: bool
    glasses: bool


@dataclass(frozen=True)
class Look:
    """The person: body, face, hair and skin."""

    body: Body
    skin: Skin
    hair: Hair
    face: Face


@dataclass(frozen=True)
class Arm:
    """Directions of upper arm and forearm in the chest's frame: (outward, down, forward)."""

    pose: str
    upper: Vector
    fore: Vector


@dataclass(frozen=True)
class Leg:
    """Directions of thigh and shin in the pelvis' frame: (outward, down, forward)."""

    thigh: Vector
    shin: Vector


@dataclass(frozen=True)
class Framing:
    """Camera framing: zoom about 1, shifts as a share of the picture's height."""

    zoom: float
    shift_x: float
    shift_y: float


@dataclass(frozen=True)
class Stance:
    """The pose of body and camera. Yaw is positive where the person turns to their own left (the picture's right)."""

    left_arm: Arm
    right_arm: Arm
    left_leg: Leg
    right_leg: Leg
    yaw: float
    twist: float
    lean: float
    shoulder_tilt: float
    hip_tilt: float
    head_yaw: float
    head_tilt: float
    head_nod: float
    framing: Framing


@dataclass(frozen=True)
class Light:
    """Key light direction (x right, y down, z to camera), strengths, and the backdrop's colours at top and bottom."""

    direction: Vector
    key: float
    ambient: float
    warmth: float
    backdrop_top: Colour
    backdrop_bottom: Colour


@dataclass(frozen=True)
class Figure:
    """A person, dressed, posed and lit: all that :func:`render` needs."""

    look: Look
    outfit: Outfit
    stance: Stance
    light: Light
