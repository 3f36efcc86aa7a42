"""Files beside a photo that replace what the networks would say: ``photo.txt`` and ``photo.faces.json``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import CamouflageError
from ..images import centre_square_place
from ..method.faces import Face, Faces, Picture, Point, clip_box
from ..photos import Unreadable

_LONGEST = 10_000  # characters of a caption; CLIP sees some 300


def read_caption(photo: Path) -> str | None:
    """The caption in ``photo.txt`` with single spaces; None if there is no such file.

    Raises:
        Unreadable: no UTF-8 text, or longer than 10000 characters.
    """
    content = _read(photo.with_suffix(".txt"), 8 * _LONGEST)
    if content is None:
        return None
    try:
        words = " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise Unreadable("its .txt is no UTF-8 text") from None
    if len(words) > _LONGEST:
        raise Unreadable(f"its .txt has more than {_LONGEST} characters")
    return words


def read_faces(photo: Path, height: int, width: int) -> Picture | None:
    """The faces in ``photo.faces.json``, in px of the upright photo; None if there is no such file.

    Args:
        height, width: of the upright photo, px.

    Raises:
        Unreadable: not the JSON of one picture's faces, or of a picture of another size.
    """
    content = _read(photo.with_suffix(".faces.json"), 64 << 20)
    if content is None:
        return None
    try:
        pictures = Faces.from_json(content.decode()).pictures
    except (CamouflageError, UnicodeDecodeError):
        raise Unreadable("its .faces.json is no faces JSON") from None
    if len(pictures) != 1 or (pictures[0].height, pictures[0].width) != (height, width):
        raise Unreadable("its .faces.json is not of one picture of the photo's upright size")
    return pictures[0]


def _read(path: Path, most: int) -> bytes | None:
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"its {path.suffix} cannot be opened: {error.strerror}") from None
    if len(content) > most:
        raise Unreadable(f"its {path.suffix} is too large")
    return content


def scale_and_crop(picture: Picture, height: int, width: int, fit: str = "crop") -> Picture:
    """Faces of a photo, in px of what ``camouflage.comfy.prepare`` makes of the photo.

    For "crop" that is comfy.utils.common_upscale with "center": whole pixels are cut from both ends of the side that is
    too long, and the rest is scaled. For "square" it is :func:`camouflage.images.centre_square`, and scaled.
    Boxes are clipped; faces of which nothing is left are dropped.

    Args:
        picture: the upright photo's size and faces.
        height, width: of the prepared picture, px.
        fit: "crop" or "square".
    """
    aspect, wanted = picture.width / picture.height, width / height
    x = y = 0
    if fit == "square":
        y, x, side = centre_square_place(picture.height, picture.width)
        across = down = width / side
    else:
        if aspect > wanted:
            x = round((picture.width - picture.width * (wanted / aspect)) / 2)
        elif aspect < wanted:
            y = round((picture.height - picture.height * (aspect / wanted)) / 2)
        across, down = width / (picture.width - 2 * x), height / (picture.height - 2 * y)

    def moved(points: Iterable[Point]) -> tuple[Point, ...]:
        return tuple(((u - x) * across, (v - y) * down) for u, v in points)

    faces = []
    for face in picture.faces:
        left, top, right, bottom = face.box_ltrb
        box = clip_box([side for corner in moved([(left, top), (right, bottom)]) for side in corner], height, width)
        if box is not None:
            faces.append(Face(box, face.score, moved(face.keypoints), face.landmarks and moved(face.landmarks),
                              face.attributes))
    return Picture(height, width, tuple(faces))
