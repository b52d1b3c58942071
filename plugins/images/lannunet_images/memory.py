"""The amount of available memory."""

import os
from pathlib import Path


def available_memory() -> int:
    """Bytes that this process can still allocate without swapping, if the system reports them."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    elif hasattr(os, "sysconf"):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    else:
        available = 2 << 30
    # A container or a batch system may allow less than the machine has.
    group = Path("/sys/fs/cgroup")
    limit, used, kinds = (group / name for name in ("memory.max", "memory.current", "memory.stat"))
    if limit.exists() and used.exists() and (allowed := limit.read_text().strip()) != "max":
        reclaimable = dict(line.split() for line in kinds.read_text().splitlines())["inactive_file"]
        available = min(available, max(int(allowed) - int(used.read_text()) + int(reclaimable), 0))
    return available
