"""What the operating system says of a file or a disk, as an error of ours."""

import errno

from dovetail.errors import DovetailError, OutsideError, UserError

_OUTSIDE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EACCES, errno.EPERM}


def is_of_disk(error: BaseException) -> bool:
    """Whether a full, broken or read-only disk, or a permission, is the reason: nothing in the repository is wrong."""
    return isinstance(error, OSError) and error.errno in _OUTSIDE


def refused(error: OSError, path: str, following: str) -> DovetailError:
    """The error for `path` that cannot be used: of the disk, or of what the user put in its place."""
    kind = OutsideError if is_of_disk(error) else UserError
    return kind(f"{path} cannot be used: {error.strerror or error}", following)
