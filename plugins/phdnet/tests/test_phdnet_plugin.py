from pathlib import Path

import pytest
import torch
from lannunet_images import Windows
from lannunet_landmarks import stitch
from lannunet_phdnet.config import PHDNetConfig
from lannunet_phdnet.plugin import PHDNetPlugin

from lannunet_core import RunInfo, UserError, load_config

YAML = """
dataset: {{src_targets: points.json}}
output: {{output_dir: out}}
model: {{architecture: PHD-Net, phdnet: {phdnet}}}
{more}
"""


def run(size: tuple[int, ...]) -> RunInfo:
    return RunInfo("landmarks", len(size), 1, ("a", "b"), size, None, 1, "cpu", 0)


def test_patches_larger_than_the_input_are_refused() -> None:
    plugin = PHDNetPlugin(PHDNetConfig(maxpool_factor=6), run((128, 48)))
    with pytest.raises(UserError, match=r"maxpool_factor: 6 makes patches of 64 .* \[128, 48\].*Lower it"):
        plugin.network()


def test_settings_that_do_not_go_together_are_named_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(YAML.format(phdnet="{branch_scheme: heatmap, clamp_dist: 20.0}", more=""))
    with pytest.raises(UserError, match=r"run\.yaml:4.*clamp_dist limits displacements"):
        load_config(path)


@pytest.mark.parametrize("key", ["solver: {loss_function: mse}", "inference: {decoder: peak}"])
def test_keys_that_it_replaces_are_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(YAML.format(phdnet="{}", more=key))
    with pytest.raises(UserError, match="phdnet"):
        load_config(path)


def test_stitched_patches_are_the_whole_image() -> None:
    """Away from the border, votes keep their positions, because patches are aligned to the image's grid."""
    torch.manual_seed(0)
    network = PHDNetPlugin(PHDNetConfig(), run((128, 128))).network().eval()
    image = torch.randn(1, 1, 203, 260)
    with torch.no_grad():
        whole = network(image)
        windows = Windows.over((260, 203), (128, 128), margin=(40, 40), strides=(8, 8))
        width, height = windows.covered_size
        padded = torch.nn.functional.pad(image, (0, width - 260, 0, height - 203))[0]
        parts = ((network(padded[windows.box(corner)][None]), [corner]) for corner in windows.corners())
        stitched = stitch(parts, windows)
    inner = (..., slice(5, -6), slice(5, -6))
    for name in ("heatmap", "displacement"):
        assert stitched[name].shape == whole[name].shape
        torch.testing.assert_close(stitched[name][inner], whole[name][inner], rtol=1e-4, atol=1e-4)
