"""Muon (momentum with orthogonalised updates) for matrices, Adam for embeddings and gains.

Muon: K. Jordan and others, 2024 (kellerjordan.github.io/posts/muon): the momentum matrix is replaced by an approximation of
its nearest semi-orthogonal matrix, by five Newton-Schulz steps. Matrices of one shape are done as one batch.
"""

import torch
from torch import Tensor


def orthogonalised(x: Tensor) -> Tensor:
    """Five Newton-Schulz steps on a batch of matrices [n, rows, cols] in bf16."""
    transposed = x.shape[1] > x.shape[2]
    x = x.to(torch.bfloat16)
    x = x.mT if transposed else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if transposed else x


class Muon:
    def __init__(self, matrices: list[torch.nn.Parameter], momentum: float = 0.95, decay: float = 0.02):
        self.groups: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
        for matrix in matrices:
            self.groups.setdefault(tuple(matrix.shape), []).append(matrix)
        self.buffers = {
            shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self.groups.items()
        }
        self.momentum, self.decay = momentum, decay
        self.update = orthogonalised

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([matrix.grad for matrix in group])
            buffer = self.buffers[shape]
            buffer.mul_(self.momentum).add_(gradient)
            update = self.update(gradient.add(buffer, alpha=self.momentum))
            size = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(group, 1 - rate * self.decay)
            torch._foreach_add_(group, [part.float() for part in update.unbind(0)], alpha=-size)
