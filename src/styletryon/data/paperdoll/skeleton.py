"""The skeleton: where the joints of a figure are in space, and where the camera sees them.

Coordinates are metres, x to the picture's right, y down, z towards the camera; the middle of the hips is the origin.
The camera is parallel, so a joint's place in the picture is a scale and a shift of its x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from styletryon.data.paperdoll.factors import Arm, Body, Figure, Leg

Array = NDArray[np.float64]

UPPER_ARM, FOREARM, HAND, THIGH, SHIN = 0.295, 0.25, 0.176, 0.435, 0.42
MARGIN_TOP, KNEE_LINE, WIDTH_SEEN = 0.055, 0.935, 0.94


def rotation(yaw: float, roll: float = 0.0, nod: float = 0.0) -> Array:
    """Rotation matrix (3, 3): nod about x, then roll in the picture's plane, then yaw about the vertical."""
    cy, sy, cr, sr, cn, sn = np.cos(yaw), np.sin(yaw), np.cos(roll), np.sin(roll), np.cos(nod), np.sin(nod)
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_z = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cn, sn], [0.0, -sn, cn]])
    return np.asarray(about_y @ about_z @ about_x)


@dataclass(frozen=True)
class Limb:
    """Three joints in space, each (3,): shoulder, elbow, wrist or hip, knee, ankle, with the tip of hand or foot."""

    root: Array
    middle: Array
    end: Array
    tip: Array


@dataclass(frozen=True)
class Skeleton:
    """All joints and frames of a posed figure; matrices (3, 3) hold the frame's axes as columns."""

    chest: Array
    pelvis: Array
    head: Array
    mid_shoulder: Array
    mid_hip: Array
    head_centre: Array
    left_arm: Limb
    right_arm: Limb
    left_leg: Limb
    right_leg: Limb

    @property
    def torso(self) -> float:
        """Length of the torso in metres."""
        return float(np.linalg.norm(self.mid_hip - self.mid_shoulder))


def _pose_arm(body: Body, arm: Arm, root: Array, frame: Array, side: float) -> Limb:
    mirror = np.array([side, 1.0, 1.0])
    upper, fore = frame @ (np.array(arm.upper) * mirror), frame @ (np.array(arm.fore) * mirror)
    elbow = root + upper * UPPER_ARM * body.arm
    wrist = elbow + fore * FOREARM * body.arm
    droop = {"hip": (0.62, 0.55, 0.10), "folded": (0.0, 0.1, 0.1), "carry": (-0.2, -0.2, 0.1)}.get(
        arm.pose, (0.0, 0.12, 0.0)
    )
    hand = fore + frame @ (np.array(droop) * mirror)
    return Limb(root, elbow, wrist, wrist + hand / np.linalg.norm(hand) * HAND * (0.5 * body.arm + 0.5))


def _pose_leg(body: Body, leg: Leg, root: Array, yaw: float, side: float) -> Limb:
    frame, mirror = rotation(yaw), np.array([side, 1.0, 1.0])
    knee = root + frame @ (np.array(leg.thigh) * mirror) * THIGH * body.leg
    ankle = knee + frame @ (np.array(leg.shin) * mirror) * SHIN * body.leg
    return Limb(root, knee, ankle, ankle + frame @ np.array([0.05 * side, 0.055, 0.15]))


def build_skeleton(figure: Figure) -> Skeleton:
    """Places every joint of a figure."""
    body, stance = figure.look.body, figure.stance
    chest = rotation(stance.yaw + stance.twist, stance.lean + stance.shoulder_tilt)
    pelvis = rotation(stance.yaw, stance.hip_tilt)
    mid_hip = np.zeros(3)
    mid_shoulder = mid_hip + rotation(stance.yaw, stance.lean) @ np.array([0.0, -body.torso, -0.012])
    across, hips = np.array([body.shoulders, 0.0, -0.012]), np.array([body.hips, 0.0, 0.0])
    head = rotation(
        stance.yaw * 0.45 + stance.twist + stance.head_yaw, stance.lean * 0.5 + stance.head_tilt, stance.head_nod
    )
    neck_top = mid_shoulder + chest @ np.array([0.0, -0.128 * body.neck, 0.012])
    head_centre = neck_top + head @ np.array([0.0, -0.36 * body.head, 0.016])
    flip = np.array([-1.0, 1.0, 1.0])
    return Skeleton(
        chest=chest,
        pelvis=pelvis,
        head=head,
        mid_shoulder=mid_shoulder,
        mid_hip=mid_hip,
        head_centre=head_centre,
        left_arm=_pose_arm(body, stance.left_arm, mid_shoulder + chest @ across, chest, 1.0),
        right_arm=_pose_arm(body, stance.right_arm, mid_shoulder + chest @ (across * flip), chest, -1.0),
        left_leg=_pose_leg(body, stance.left_leg, mid_hip + pelvis @ hips, stance.yaw, 1.0),
        right_leg=_pose_leg(body, stance.right_leg, mid_hip + pelvis @ (hips * flip), stance.yaw, -1.0),
    )


@dataclass(frozen=True)
class Camera:
    """A parallel camera: ``pixel = metres * scale + offset``, here with the middle of the first pixel at (0, 0)."""

    scale: float
    offset_x: float
    offset_y: float

    def project(self, point: Array) -> tuple[float, float]:
        """Picture coordinates (x, y) in pixels of a point (3,) in metres."""
        return float(point[0]) * self.scale + self.offset_x, float(point[1]) * self.scale + self.offset_y


def frame_figure(figure: Figure, skeleton: Skeleton, height: int, width: int) -> Camera:
    """Frames a figure from head to knee in a picture of ``height`` x ``width`` pixels (to the feet in a narrow one)."""
    framing, head = figure.stance.framing, figure.look.body.head
    top = float(skeleton.head_centre[1]) - 0.56 * head
    knees = 0.5 * float(skeleton.left_leg.middle[1] + skeleton.right_leg.middle[1])
    scale = min(height * (KNEE_LINE - MARGIN_TOP) / (knees - top), width / WIDTH_SEEN) * framing.zoom
    reach = [float(limb.middle[0]) for limb in (skeleton.left_arm, skeleton.right_arm)]
    reach += [float(0.5 * (limb.end + limb.tip)[0]) for limb in (skeleton.left_arm, skeleton.right_arm)]
    spine = 0.5 * float(skeleton.mid_shoulder[0])
    centre = 0.45 * spine + 0.55 * 0.5 * (min(reach) + max(reach))
    return Camera(
        scale=scale,
        offset_x=0.5 * width - 0.5 - centre * scale + framing.shift_x * height,
        offset_y=height * (MARGIN_TOP + framing.shift_y) - 0.5 - top * scale,
    )


def face_points(figure: Figure, skeleton: Skeleton) -> dict[str, Array]:
    """The keypoints on the head, in metres."""
    face, size = figure.look.face, figure.look.body.head
    gap = 0.142 * face.eye_gap * face.width
    local = {
        "nose": (0.0, 0.175, 0.47),
        "left_eye": (gap, 0.03, 0.36),
        "right_eye": (-gap, 0.03, 0.36),
        "left_ear": (0.325 * face.width, 0.07, -0.03),
        "right_ear": (-0.325 * face.width, 0.07, -0.03),
    }
    return {name: skeleton.head_centre + skeleton.head @ (np.array(at) * size) for name, at in local.items()}


def joint_points(figure: Figure, skeleton: Skeleton) -> Array:
    """The seventeen COCO joints in space, (17, 3) metres."""
    face = face_points(figure, skeleton)
    left_arm, right_arm, left_leg, right_leg = (
        skeleton.left_arm,
        skeleton.right_arm,
        skeleton.left_leg,
        skeleton.right_leg,
    )
    points = [face[name] for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
    for left, right in ((left_arm, right_arm), (left_leg, right_leg)):
        for joint in ("root", "middle", "end"):
            points += [getattr(left, joint), getattr(right, joint)]
    return np.stack(points)
