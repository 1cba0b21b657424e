"""Keys of servers: random bytes in a file that only its owner reads, made when they are first needed."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

_KEY_BYTES = 32
_ENV_STATE = "XDG_STATE_HOME"  # https://specifications.freedesktop.org/basedir-spec/latest/


def key(file: Path) -> bytes:
    """The key in the file, made if there is none; where it cannot be kept, one that ends with this process."""
    made = secrets.token_bytes(_KEY_BYTES)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:  # noqa: PTH123
                target.write(made)
            with suppress(FileExistsError):
                os.link(temporary, file)  # whole, and only if another server has not been faster
        finally:
            temporary.unlink(missing_ok=True)
    try:
        found = file.read_bytes()
    except OSError:
        return made
    return found if len(found) == _KEY_BYTES else made


def user_key_file() -> Path:
    """Where the key of this user's servers is: outside of every repository, so that who writes there cannot sign."""
    state = os.environ.get(_ENV_STATE, "")
    folder = Path(state) if Path(state).is_absolute() else Path("~/.local/state").expanduser()
    return folder / "dovetail" / "kept-copies.key"
