"""What may stand behind an image where no boundary does: the next one, or a trailer of this one.

Phones and cameras put further images behind a picture: a preview, a view for the other eye, a map
of what is bright. They belong to it, and are no pictures of their own.
"""

from enum import Enum


class Behind(Enum):
    """What may stand behind an image where no boundary does."""

    IMAGES = "images"
    """The next one: images follow each other with nothing between."""
    TRAILER = "trailer"
    """No picture: all the bytes are one."""
    EITHER = "either"
    """That must be seen."""


def behind(media_type: str, length: int | None, max_size: int) -> Behind:
    """What an answer that is not multipart may hold behind its first image.

    Args:
        media_type: Its content type.
        length: The length it promises, if any.
        max_size: The largest image in bytes. An answer that promises more is an endless stream.
    """
    is_finite = length is not None and length <= max_size
    if media_type.lower().startswith("image/"):
        return Behind.TRAILER if is_finite else Behind.EITHER
    return Behind.EITHER if is_finite else Behind.IMAGES


class Series:
    """Tells the images of a stream from those that stand behind a picture and belong to it.

    The images of a stream are of one size, or change it for good. Images of one size that belong
    together have a list in the first: a view for each eye, for instance.
    """

    def __init__(self) -> None:
        # Of the latest image of the stream and, if there was one since, of what was none.
        self._sizes: list[tuple[int, int] | None] = []
        self._has_list = False

    def goes_on_with(self, size: tuple[int, int] | None, *, has_list: bool) -> bool:
        """Whether an image is the next of the stream.

        Args:
            size: Its width and height.
            has_list: It says that others belong to it.
        """
        goes_on = not self._sizes or (size in self._sizes and (has_list or not self._has_list))
        if goes_on:
            self._sizes, self._has_list = [size], has_list
        else:
            self._sizes[1:] = [size]
        return goes_on
