"""How much memory there is, and whether an error says that there was too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# of an allocator that raises a plain RuntimeError: older CUDA and MPS, the CPU's, cuBLAS's own workspace
_SIGNS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory, on whatever device."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_memory(device: Any) -> int | None:
    """Bytes free on a GPU, or of this machine's memory (as far as a container may use it); None where nobody says."""
    import torch

    place = torch.device(device)
    if place.type == "cuda":
        reserve = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return torch.cuda.mem_get_info(place)[0] + reserve
    limits = [_available(Path("/proc/meminfo")), _within_limit(Path("/sys/fs/cgroup"))]
    return min((limit for limit in limits if limit is not None), default=None)


def _available(meminfo: Path) -> int | None:
    """Linux: what can be had without swapping."""
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _within_limit(group: Path) -> int | None:
    """What the container's limit leaves; files in memory can be dropped, so they count as free."""
    try:
        most = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return most - used + int(kept.get("file", 0))
    except (OSError, ValueError):  # no limit ("max"), or no cgroup of the second version
        return None
