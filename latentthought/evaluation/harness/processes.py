"""The processes that share an evaluation: lm-eval deals the rows out and gathers the results, and asks the model how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from latentthought.processes import process_count


@dataclass(frozen=True)
class Processes:
    """This process among `count`. device: the one it is to use; None where there is a choice.

    A model that is handed over ready made stays in one process: the program that made it knows what its ranks are doing.
    """

    rank: int = 0
    count: int = 1
    device: str | None = None

    @classmethod
    def of(cls, pretrained: Any) -> Self:
        """Under torchrun or accelerate, the group is joined here."""
        if not isinstance(pretrained, str) or process_count() < 2:
            return cls()
        from accelerate import PartialState

        state = PartialState()
        return cls(state.process_index, state.num_processes, str(state.device))

    def all_gather(self, tensor: Any) -> Any:
        """The tensors of all processes, one after the other along their first axis."""
        if self.count == 1:
            return tensor
        from accelerate.utils import gather

        return gather(tensor)

    def gather_object(self, obj: Any, destination: int = 0) -> list[Any] | None:
        """The objects of all processes, at `destination`; None elsewhere."""
        if self.count == 1:
            return [obj]
        import torch.distributed

        found = [None] * self.count if self.rank == destination else None
        torch.distributed.gather_object(obj, found, dst=destination)
        return found

    def barrier(self) -> None:
        """Wait for all."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()
