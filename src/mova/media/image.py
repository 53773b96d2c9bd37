"""Still pictures from files, as RGB frames."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from mova.errors import MediaError
from mova.media.probe import check_file

MAX_IMAGE_PIXELS = 8192 * 8192
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_OPAQUE = 255


def read_image(path: str | Path, *, max_pixels: int = MAX_IMAGE_PIXELS) -> NDArray[np.uint8]:
    """Read a still picture: upright (by its EXIF orientation) and in sRGB (by its colour profile).

    Args:
        path: A PNG, JPEG, WebP, BMP or GIF file; of an animation, the first picture.
        max_pixels: Refuse more pixels, before they are decoded.

    Returns:
        ``[H, W, 3]`` uint8 RGB.

    Raises:
        MediaError: If the file is missing or damaged, no such picture, too large, has transparent parts, or
            has more than 8 bits per channel.
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
                return np.asarray(_srgb(ImageOps.exif_transpose(image), path))
    except UnidentifiedImageError:
        raise MediaError(f"{path} is not a picture that can be read.", f"Known: {', '.join(IMAGE_FORMATS)}.") from None
    except Image.DecompressionBombError:
        raise MediaError(f"{path} has more pixels than can be read safely.", "Scale it down first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"{path} cannot be read: {error}.", "The file may be damaged.") from error


def _srgb(image: Image.Image, path: Path) -> Image.Image:
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
            raise MediaError(f"{path} has a broken colour profile: {error}.", "Save it as sRGB.") from error
        if converted is not None:
            return converted
    return image.convert("RGB")
