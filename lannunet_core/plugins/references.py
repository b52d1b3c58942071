"""Models that are named by an address, or are bundles: plugins fetch and open them."""

import re
from pathlib import Path

from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery, missing

ADDRESS = re.compile(r"(\w\w+):/")  # paths reduce two slashes to one


def located(model: Path) -> Path:
    """The local path of a model: a model file, or a folder like a run's.

    Entry points of the group `lannunet.model_formats` are functions that return it for the path that names
    the model; their names are the scheme of its address (`https`), or its suffix (`lnb`).
    """
    address = ADDRESS.match(model.as_posix())
    kind = address[1] if address else model.suffix[1:].lower()
    openers = [one for one in discovery.scan().formats.get("model_formats", ()) if one.name == kind]
    if not (openers or address or kind == "lnb") or model.is_dir():
        return model
    if not openers:
        raise UserError(f"{model}: to open it, install lannunet-bundles: {missing.INSTALL} lannunet-bundles")
    found: Path = discovery.only(f"The model format '{kind}'", openers).load_as("The model format")(model)
    return found
