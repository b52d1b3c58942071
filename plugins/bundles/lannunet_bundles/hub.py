"""Models on Hugging Face: `hf://owner/name/file@revision#sha256=…`."""

from __future__ import annotations

from pathlib import Path

from lannunet_bundles.cache import cache_folder
from lannunet_bundles.fetch import hash_of, opened, with_hash
from lannunet_core import RunFailed, UserError


def fetch_from_hub(model: Path) -> Path:
    """The model in a repository: a model file, or the folder of a bundle."""
    return opened(file_from_hub(model))


def file_from_hub(model: Path) -> Path:
    """A file in a repository, in the cache. The default revision is `main`.

    Raises:
        UserError: The address is invalid, huggingface_hub is not installed, or the hash differs.
        RunFailed: The file cannot be downloaded.
    """
    address, digest = with_hash(model)
    place, _, revision = address.removeprefix("hf://").partition("@")
    owner, _, rest = place.partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise UserError(f"{address}: should be hf://owner/name/file@revision#sha256=….")
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError:
        raise UserError(
            f"{address}: needs the package huggingface_hub: lannunet plugins install 'lannunet-bundles[hf]'"
        ) from None
    try:
        found = hf_hub_download(
            f"{owner}/{name}", file, revision=revision or None, cache_dir=cache_folder("hub")
        )
    except Exception as error:  # the library passes on errors of the libraries that it uses
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RunFailed(f"{address}: cannot be downloaded ({reason:.200}).") from error
    fetched = Path(found)
    if (other := hash_of(fetched)) != digest:
        raise UserError(
            f"{address}: its content has the SHA-256 {other}, not {digest}. Do not use it before you know "
            "the reason."
        )
    return fetched
