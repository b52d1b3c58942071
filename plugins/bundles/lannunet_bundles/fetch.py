"""Models by address: downloaded once, verified by the hash in the address, and kept in the cache."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from lannunet_bundles.archive import MOST_BYTES, digest_of
from lannunet_bundles.cache import cache_folder
from lannunet_bundles.opening import open_bundle
from lannunet_core import RunFailed, UserError, inside, progress_bar

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SECONDS = 30.0  # timeout without data
TRIES = 3
PIECE = 1 << 18

_fetched: dict[tuple[str, str], Path] = {}  # by address and hash


def fetch(model: Path) -> Path:
    """The model at `https://…#sha256=…`: a model file, or the folder of a bundle.

    Raises:
        UserError: The scheme is unknown, the address does not exist, or the content has another hash.
        RunFailed: The download is incomplete; the next attempt continues it.
    """
    return opened(fetched_file(model))


def opened(file: Path) -> Path:
    """A model file, or the folder of a bundle."""
    return open_bundle(file) if file.suffix.lower() == ".lnb" else file


def fetched_file(model: Path) -> Path:
    """The file at an address, in the cache."""
    address, digest = with_hash(model)
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UserError(f"{address}: is not downloaded without encryption. Give its https address.")
    name = unquote(parts.path.rpartition("/")[2])
    target = inside(cache_folder("downloads"), f"{digest[:16]}-{name}", address)
    known = _fetched.get((address, digest))
    if known is not None and known.is_file():
        return known
    with FileLock(f"{target}.lock"):
        if not (target.is_file() and is_right(target, digest)):
            part = target.with_name(f"{target.name}.part")
            download(address, part)
            if not is_right(part, digest):
                found = hash_of(part)
                part.unlink()
                raise UserError(
                    f"{address}: its content has the SHA-256 {found}, not {digest}, and was removed. Do not "
                    "use it before you know the reason."
                )
            part.replace(target)
    _fetched[address, digest] = target
    return target


def with_hash(model: Path) -> tuple[str, str]:
    """The address in a path, without its hash, and the hash.

    Raises:
        UserError: The address has no hash.
    """
    written = re.sub(r"^(\w+):/+", r"\1://", model.as_posix())  # a path keeps one of two slashes
    address, _, fragment = written.partition("#")
    if not (found := re.fullmatch("sha256=([0-9a-fA-F]{64})", fragment)):
        raise UserError(
            f"{written}: has no hash, so its content cannot be checked. Add #sha256= and the SHA-256 of the "
            "file, which `lannunet bundle show` prints."
        )
    return address, found[1].lower()


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return digest_of(file)


def is_right(path: Path, digest: str) -> bool:
    return hash_of(path) == digest


class _Encrypted(urllib.request.HTTPRedirectHandler):
    """Refuses redirections to addresses without encryption."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        parts = urlsplit(newurl)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            fp.close()
            raise UserError(f"{req.full_url}: redirects to {newurl}, which is not encrypted, and is refused.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(address: str, part: Path) -> None:
    """Download to a file, starting at its end; an interruption is resumed at once, up to three times."""
    opener = urllib.request.build_opener(_Encrypted)
    reason = ""
    for _ in range(TRIES):
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with opener.open(request, timeout=SECONDS) as answer:
                if receive(answer, part, have, address):
                    return
            reason = "the connection ended"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and have:  # the file is complete
                return
            raise UserError(f"{address}: cannot be downloaded ({error.code} {error.reason}).") from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    have = part.stat().st_size if part.exists() else 0
    raise RunFailed(
        f"{address}: the download was interrupted after {have} bytes ({reason}). Try again to resume it."
    )


def receive(answer: Any, part: Path, have: int, address: str) -> bool:
    """Append the received data to a file; return whether it is complete."""
    goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    have = have if goes_on else 0
    length = answer.headers.get("Content-Length", "")
    expected = have + int(length) if length.isdecimal() else None
    with (
        part.open("ab" if goes_on else "wb") as file,
        progress_bar(f"downloading {address}", expected or 0) as bar,
    ):
        bar.advance(have)
        while piece := answer.read(PIECE):
            file.write(piece)
            have += len(piece)
            bar.advance(len(piece))
            if have > MOST_BYTES:
                raise UserError(f"{address}: has more than {MOST_BYTES} bytes, the limit of a model.")
    return expected is None or have >= expected
