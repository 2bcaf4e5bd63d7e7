"""How much memory the cached slices take, and where there is room for them."""

from __future__ import annotations

import logging

import psutil
import torch

from workflows.machine.ranks import ranks_on_this_machine

logger = logging.getLogger(__name__)
MEMORY_SHARE_FOR_CACHE = 0.7  # the rest is for the network, its activations and everybody else
GPU_MEMORY_SHARE_FOR_CACHE = 0.5  # the rest likewise, and activations take most of a GPU


def device_for_cache(device: torch.device, needed: int) -> torch.device:
    """The device, or the CPU where this many bytes would leave a GPU too little memory for the network."""
    if device.type != "cuda":
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    if needed <= free * GPU_MEMORY_SHARE_FOR_CACHE:
        logger.info(f"caching on the GPU: {needed / 1e9:.2f} GB expected, {free / 1e9:.1f} GB of its memory free")
        return device
    logger.warning(
        f"the cases take {needed / 1e9:.1f} GB and the GPU has {free / 1e9:.1f} GB free: they stay in the machine's "
        "memory, and every batch is copied from there. A smaller size_px would avoid that."
    )
    return torch.device("cpu")


def affordable_cache_rate(cases: int, expected_bytes_per_case: int) -> float:
    """The share of the patients that fits in memory; says what is expected, and warns where it is less than all."""
    needed, free = cases * expected_bytes_per_case, psutil.virtual_memory().available // ranks_on_this_machine()
    budget = free * MEMORY_SHARE_FOR_CACHE
    logger.info(f"caching {cases} cases: {needed / 1e9:.2f} GB expected, {free / 1e9:.1f} GB of memory free")
    if needed <= budget:
        return 1.0
    rate: float = budget / needed
    logger.warning(
        f"only {rate:.0%} of the cases fit in memory and are cached; the others are read again in every epoch. "
        "A smaller size_px, a narrower slice_range or a machine with more memory would avoid that, and a cache_dir "
        "shorten it."
    )
    return rate
