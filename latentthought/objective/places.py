"""Sites of a batch's rows as index tensors, by which their states are gathered on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latentthought.objective.alignment import Sites, repeated

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Places:
    """Where N sites of a batch stand, for one side of a comparison.

    rows_M, columns_M: (M,) int64, every position of every site. owner_M: (M,) int64, the site that it belongs to. sizes_N: (N,)
    int64, positions of each site. Integers throughout: engines cast what floats a batch holds to their own precision.
    """

    rows_M: Tensor
    columns_M: Tensor
    owner_M: Tensor
    sizes_N: Tensor

    @classmethod
    def of(cls, rows_N: ArrayLike, starts_N: ArrayLike, stops_N: ArrayLike) -> Places:
        """From row of the batch, start and stop of each site, columns of padding counted in; none of them empty."""
        rows_N, starts_N, stops_N = (np.asarray(column, np.int64) for column in (rows_N, starts_N, stops_N))
        sizes_N = stops_N - starts_N
        assert (sizes_N > 0).all(), "a site without positions has no mean"
        owner_M = np.arange(len(sizes_N)).repeat(sizes_N)
        # positions of a site follow each other: what position m is, less m, is one number for all of them
        shifts_N = starts_N - sizes_N.cumsum() + sizes_N
        columns_M = shifts_N[owner_M] + np.arange(len(owner_M))
        return cls(*map(torch.from_numpy, (rows_N[owner_M], columns_M, owner_M, sizes_N)))

    @classmethod
    def in_batch(cls, found: Sequence[Sites], before: Sequence[int], first: int = 0) -> Places:
        """Sites of each of a batch's rows from row `first` on. before: columns of padding before each of them."""
        counts = list(map(len, found))
        shifts_N, rows_N = repeated(before, counts), repeated(range(first, first + len(found)), counts)
        starts_N = np.concatenate([row.starts_N for row in found]) + shifts_N
        return cls.of(rows_N, starts_N, np.concatenate([row.stops_N for row in found]) + shifts_N)

    def __len__(self) -> int:
        return self.sizes_N.shape[0]

    def to(self, device: Any, **options: Any) -> Places:
        """The same on a device."""
        tensors = (self.rows_M, self.columns_M, self.owner_M, self.sizes_N)
        return Places(*(tensor.to(device, **options) for tensor in tensors))

    def gather(self, states_BTD: Tensor) -> Tensor:
        """(N, D), the mean state of each site, in the states' dtype (summed in float32). The host waits for nothing."""
        states_MD = states_BTD[self.rows_M, self.columns_M]
        if len(self) == self.rows_M.shape[0]:  # every site is one position
            return states_MD
        sums_ND = states_MD.new_zeros(len(self), states_MD.shape[1], dtype=torch.float32)
        sums_ND = sums_ND.index_add(0, self.owner_M, states_MD.float())
        return (sums_ND / self.sizes_N[:, None]).to(states_BTD.dtype)
