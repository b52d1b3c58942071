"""A signature of the manifest, and thus of all files in it: Ed25519 (RFC 8032). Keys are PEM files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lannunet_core import UserError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def sign(key: Path, content: bytes) -> bytes:
    """The signature of `content`, 64 bytes.

    Raises:
        UserError: The file has no Ed25519 private key, or cryptography is not installed.
    """
    return _read(key, private=True).sign(content)  # type: ignore[union-attr]


def is_signed(key: Path, content: bytes, signature: bytes) -> bool:
    """Whether the owner of a public key signed `content`.

    Raises:
        UserError: The file has no Ed25519 public key, or cryptography is not installed.
    """
    public = _read(key, private=False)

    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, content)  # type: ignore[union-attr]
    except InvalidSignature:
        return False
    return True


def _read(path: Path, *, private: bool) -> Ed25519PrivateKey | Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: signatures need the package cryptography: "
            "lannunet plugins install 'lannunet-bundles[sign]'"
        ) from None
    kind, half = (ed25519.Ed25519PrivateKey, "private") if private else (ed25519.Ed25519PublicKey, "public")
    try:
        content = path.read_bytes()
        if private:
            found: object = serialization.load_pem_private_key(content, None)
        else:
            found = serialization.load_pem_public_key(content)
        if isinstance(found, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)) and isinstance(
            found, kind
        ):
            return found
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError):
        pass
    raise UserError(
        f"{path}: is not an Ed25519 {half} key in PEM without a password. Create a key with "
        "`openssl genpkey -algorithm ed25519`."
    )
