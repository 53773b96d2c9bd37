"""Read still images from files as RGB arrays, and fit them to a size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from mova.errors import MediaError
from mova.media.probe import check_file

MAX_IMAGE_PIXELS = 8192 * 8192
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
Fit = Literal["crop", "pad", "stretch"]

_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_OPAQUE = 255


def read_image(path: str | Path, *, max_pixels: int = MAX_IMAGE_PIXELS) -> NDArray[np.uint8]:
    """Read a still image: upright (by its EXIF orientation) and in sRGB (by its colour profile).

    Args:
        path: A PNG, JPEG, WebP, BMP or GIF file; of an animation, the first image is read.
        max_pixels: Largest image accepted, in pixels; checked before decoding.

    Returns:
        ``[H, W, 3]`` uint8 RGB.

    Raises:
        MediaError: If the file is missing, damaged, not an image of a known format, too large, has transparent parts, or has
            more than 8 bits per channel.
    """
    path = Path(path)
    check_file(path)
    try:
        with warnings.catch_warnings():
            # the limit here is max_pixels, checked below before any pixel is decoded
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise MediaError(
                        f"{path} is {image.width}x{image.height}; at most {max_pixels} pixels are read.",
                        "Scale it down first.",
                    )
                return convert_image(image, path)
    except UnidentifiedImageError:
        raise MediaError(f"{path} is not an image of a known format.", f"Known formats: {', '.join(IMAGE_FORMATS)}.") from None
    except Image.DecompressionBombError:
        raise MediaError(f"{path} has more pixels than can be read safely.", "Scale it down first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"{path} cannot be read: {error}.", "The file may be damaged.") from error


def convert_image(image: Image.Image, name: str | Path) -> NDArray[np.uint8]:
    """Convert an opened image: upright (by its EXIF orientation) and in sRGB (by its colour profile).

    Args:
        image: The image.
        name: What it is called in errors.

    Returns:
        ``[H, W, 3]`` uint8 RGB.

    Raises:
        MediaError: If it has transparent parts, more than 8 bits per channel, or an invalid profile.
    """
    return np.asarray(_to_srgb(ImageOps.exif_transpose(image), name))


def fit_image(image: NDArray[np.uint8], width: int, height: int, *, fit: Fit) -> NDArray[np.uint8]:
    """Resize an image to a given width and height.

    Args:
        image: ``[H, W, 3]`` uint8.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        fit: ``"crop"`` cuts off what exceeds the aspect ratio, see :func:`crop_and_resize`; ``"pad"`` adds black bars;
            ``"stretch"`` changes the aspect ratio.

    Returns:
        ``[height, width, 3]`` uint8.

    Raises:
        MediaError: If the image or the size is empty, ``fit`` is unknown, or nothing is left of a crop.
    """
    _check_fit(image, width, height, fit)
    if fit == "crop":
        return crop_and_resize(image, height, width)
    if fit == "stretch":
        return _resize(image, width, height)
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_width = min(width, max(1, round(image.shape[1] * scale)))
    inner_height = min(height, max(1, round(image.shape[0] * scale)))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + inner_height, left : left + inner_width] = _resize(image, inner_width, inner_height)
    return padded


def crop_and_resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Crop the centre of an image to an aspect ratio and scale it bicubically, as the official code does (spec 3.7).

    Crop and offset are rounded down, so that the aspect ratio may differ from the requested one by less than a pixel.

    Args:
        image: ``[H, W, 3]`` uint8.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Raises:
        MediaError: If the image or the size is empty, or the image is so narrow that nothing is left.
    """
    _check_fit(image, width, height, "crop")
    rows, columns = image.shape[:2]
    if rows / columns < height / width:
        kept = int(rows / height * width)
        left = (columns - kept) // 2
        cut = image[:, left : left + kept]
    else:
        kept = int(columns / width * height)
        top = (rows - kept) // 2
        cut = image[top : top + kept]
    if not kept:
        raise MediaError(
            f"an image of {columns}x{rows} cannot be cropped to the aspect ratio {width}x{height}.",
            "Pad or stretch it instead.",
        )
    return _resize(cut, width, height)


def _check_fit(image: NDArray[np.uint8], width: int, height: int, fit: str) -> None:
    if fit not in get_args(Fit):
        raise MediaError(f"unknown fit {fit!r}.", f"Known are {', '.join(get_args(Fit))}.")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise MediaError(f"an image must be [H, W, 3] of uint8; got {list(image.shape)} of {image.dtype}.")
    if width < 1 or height < 1:
        raise MediaError(f"an image cannot be resized to {width}x{height}.")


def _resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _to_srgb(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode not in _EIGHT_BIT_MODES:
        raise MediaError(f"{path} has pixels of mode {image.mode}, not 8 bits per channel.", "Save it as 8-bit PNG.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        lowest = image.getchannel("A").getextrema()[0]
        if lowest != _OPAQUE:
            raise MediaError(f"{path} has transparent parts.", "Flatten it onto a background first.")
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA", "L", "CMYK"):
        source = image.convert("RGB") if image.mode == "RGBA" else image
        try:
            converted = ImageCms.profileToProfile(
                source,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError) as error:
            raise MediaError(f"{path} has an invalid colour profile: {error}.", "Save it as sRGB.") from error
        if converted is not None:
            return converted
    return image.convert("RGB")
