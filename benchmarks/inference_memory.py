"""Peak memory of fully-convolutional inference per pixel: `python -m benchmarks.inference_memory`.

Each size runs in a separate process. On a CPU, the peak is that of the process (Linux) minus its earlier
size; on a GPU, it is the memory that torch allocated.
"""

import re
import subprocess
import sys
from pathlib import Path

FEATURES = 16
SIZES = [(512, 512), (1024, 1024), (2048, 1024), (96, 96, 96), (128, 128, 96)]


def peak(device: str) -> int:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def measure(size: tuple[int, ...]) -> float:
    """Bytes per pixel that one image (1, 1, *S) takes in U-Net, parameters excluded."""
    import torch
    from lannunet_unet.network import UNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = UNet(1, 2, [64] * len(size), init_features=FEATURES, max_features=256).eval().to(device)
    with torch.inference_mode():
        network(torch.zeros(1, 1, *[64] * len(size), device=device))
        before = peak(device)
        network(torch.zeros(1, 1, *size[::-1], device=device))
    pixels = torch.Size(size).numel()
    return (peak(device) - before) / pixels


def main() -> None:
    if len(sys.argv) > 1:
        print(measure(tuple(map(int, sys.argv[1].split("x")))))
        return
    print(f"U-Net with {FEATURES} features, float32")
    for size in SIZES:
        given = "x".join(map(str, size))
        command = [sys.executable, "-m", "benchmarks.inference_memory", given]
        found = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{given}: {found:.0f} bytes per pixel, {found / 4 / FEATURES:.1f} maps of {FEATURES} features")


if __name__ == "__main__":
    main()
