"""How S3 is asked for the prediction log, and whether a server of it makes an object only where there is none."""

import os
import re
import secrets
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from dovetail.errors import OutsideError, UserError, one_line
from dovetail.serving.log import packages
from dovetail.serving.log.location import ENV_LOG, Place, S3Folder

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_ENV_ENDPOINTS = "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"  # the first that is set counts
_TRIED = re.compile(  # where, how long and how often something was tried
    r"( for path \S.*?)?: Error performing [A-Z]+ .*? in [\d.]+\w*s(, after \d+ retries)?(, max_retries[\s\S]*?s)? +-"
)
_MISREAD = re.compile(r"[][\\^|%]")  # deltalake 1.6.6 panics, or means another place
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENV_HTTP = "AWS_ALLOW_HTTP"
_SECONDS, _CONNECT_SECONDS, _ALTOGETHER_SECONDS, _RETRIES = 10, 5, 15, 3  # of one request to S3


def address(place: Place) -> str:
    """What deltalake takes for the place."""
    return place.url if isinstance(place, S3Folder) else str(place)


def check_name(place: Place) -> None:
    """Refuse an address that deltalake does not take as it is written.

    Raises:
        UserError: when it does not, as of `a%20b`, which it unescapes once too often, or `a|b`.
    """
    if found := _MISREAD.search(str(place)):
        what = f"the prediction log {place} cannot be kept as Delta tables: deltalake misreads {found[0]!r} in it"
        raise UserError(what, f"export {ENV_LOG}=…, a place without it")


def delta_options(place: Place) -> dict[str, str] | None:
    """What deltalake is told besides: keys and region it finds in the environment by itself."""
    if not isinstance(place, S3Folder):
        return None
    options = {
        "aws_conditional_put": "etag",  # a commit is there once only: no table of locks is needed
        "timeout": f"{_SECONDS}s",
        "connect_timeout": f"{_CONNECT_SECONDS}s",
        "max_retries": str(_RETRIES),
        "retry_timeout": f"{_ALTOGETHER_SECONDS}s",
    }
    if endpoint := _endpoint():
        options |= {"aws_endpoint_url": endpoint, "aws_allow_http": _allows_http(endpoint)}
    return options


def opened(place: Place, *, retries: int = _RETRIES) -> "ObjectStore":
    """The objects of a place, by their names in it: files of a folder, too."""
    stores = packages.obstore().store
    if not isinstance(place, S3Folder):
        return cast("ObjectStore", stores.LocalStore(place))
    endpoint = _endpoint()
    found = stores.S3Store.from_url(
        place.url,
        config={"conditional_put": "etag", **({"endpoint": endpoint} if endpoint else {})},
        client_options={
            "timeout": f"{_SECONDS}s", "connect_timeout": f"{_CONNECT_SECONDS}s",
            **({"allow_http": _allows_http(endpoint) == "true"} if endpoint else {}),
        },
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=_ALTOGETHER_SECONDS)},
    )  # fmt: skip
    return cast("ObjectStore", found)


def error_text(error: BaseException) -> str:
    """What deltalake or obstore say, on one line: without colours, and how often and how long they tried."""
    told = " ".join(_COLOUR.sub("", str(error)).partition("Debug source:")[0].replace("\u21b3", ":").split())
    return one_line(_TRIED.sub(":", told).replace(" : ", ": "))


def folders(place: S3Folder) -> list[str]:
    """The names of the folders in a folder; none where it is not there.

    Raises:
        OSError: when S3 does not say.
    """
    obstore = packages.obstore()
    try:
        return [name.strip("/") for name in obstore.list_with_delimiter(opened(place))["common_prefixes"]]
    except obstore.exceptions.BaseError as error:
        raise OSError(f"{place}: {error_text(error)}") from error


def read(store: "ObjectStore", name: str) -> Any:
    """An object as a file that pyarrow opens; all of it is read, as the log's files are small.

    Raises:
        OSError: when S3 does not give it; FileNotFoundError where it is not there any more.
    """
    import pyarrow as pa

    obstore = packages.obstore()
    try:
        return pa.BufferReader(obstore.get(store, name).bytes().to_bytes())
    except obstore.exceptions.BaseError as error:
        raise OSError(f"{name}: {error_text(error)}") from error


def check(place: S3Folder) -> None:
    """Refuse a server of S3 that makes an object where there is one already: of two commits at once one must fail.

    Amazon does since 2024; MinIO, Cloudflare R2, Ceph and SeaweedFS do in their current versions.

    Raises:
        UserError: when it takes both, as `rclone serve s3` does.
        OutsideError: when it does not answer, or lets nothing be written.
    """
    obstore, name = packages.obstore(), f".dovetail-{secrets.token_hex(8)}"
    store = opened(place, retries=0)
    try:
        obstore.put(store, name, b"", mode="create")
        try:
            obstore.put(store, name, b"", mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return
        finally:
            with suppress(obstore.exceptions.BaseError):
                obstore.delete(store, name)
    except (obstore.exceptions.BaseError, OSError) as error:
        what = f"nothing can be written to {place}: {error_text(error)}"
        raise OutsideError(what, "dovetail serve MODEL, once the server of S3 answers") from error
    what = f"the server of S3 behind {place} ignores If-None-Match: of two servers that log at once one would lose rows"
    raise UserError(what, f"unset {ENV_LOG}")


def _endpoint() -> str:
    return next((os.environ[name] for name in _ENV_ENDPOINTS if os.environ.get(name)), "")


def _allows_http(endpoint: str) -> str:
    """Whether keys may go over the wire as they are: where the address says so, unless the environment does."""
    return os.environ.get(_ENV_HTTP, str(endpoint.startswith("http://"))).lower()
