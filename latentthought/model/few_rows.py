"""Products of few rows with a weight on the CPU, which reading the weight bounds: a pass over one thought column is made of them.

The kernels behind `F.linear` are made for many rows and read the weight at half the speed of memory; no one kernel is best at all
sizes. What follows was measured for fp32 and GPT-2 small's weights on two cores (ms for all of them, 14 at the speed of memory):

    rows                            4             8            52
    F.linear, weight read across    26            27           52
    in blocks of inputs             19            22           97
    F.linear, weight read along     26            33           57
    in blocks of outputs            19            22           104
    oneDNN                          22            24           48

Sums are taken in another order than `F.linear` takes them; gradients are the caller's affair. Rejected: kernels of our own (a
compiler on the user's machine) and weights packed beforehand (they change with every step).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# most rows of a product in blocks, and of one by oneDNN
MOST_IN_BLOCKS = 8
MOST_ROWS = 64
# inputs and outputs of a block: the first that divides the weight
INPUTS = (48, 64, 32)
OUTPUTS = 16


def linear(inputs_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`F.linear` of rows, by the fastest kernel for as many."""
    rows, (outputs, inputs) = len(inputs_NI), weight_OI.shape
    if not 0 < rows <= MOST_ROWS or weight_OI.device.type != "cpu" or weight_OI.dtype != torch.float32:
        return F.linear(inputs_NI, weight_OI, bias_O)
    along = weight_OI.is_contiguous()
    if rows <= MOST_IN_BLOCKS and along and outputs % OUTPUTS == 0:
        return _in_blocks_of_outputs(inputs_NI, weight_OI, bias_O)
    if rows <= MOST_IN_BLOCKS and not along and weight_OI.t().is_contiguous():
        for size in INPUTS:
            if inputs % size == 0:
                return _in_blocks_of_inputs(inputs_NI, weight_OI, bias_O, size)
    if along and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(inputs_NI, weight_OI, bias_O, "none", [], "")
    return F.linear(inputs_NI, weight_OI, bias_O)


def _in_blocks_of_outputs(inputs_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    blocks_KIO = weight_OI.view(-1, OUTPUTS, weight_OI.shape[1]).transpose(1, 2)
    rows_KNI = inputs_NI.expand(len(blocks_KIO), *inputs_NI.shape)
    if bias_O is None:
        products_KNO = torch.bmm(rows_KNI, blocks_KIO)
    else:
        products_KNO = torch.baddbmm(bias_O.view(-1, 1, OUTPUTS), rows_KNI, blocks_KIO)
    return products_KNO.transpose(0, 1).reshape(len(inputs_NI), -1)


def _in_blocks_of_inputs(inputs_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, size: int) -> Tensor:
    blocks_KIO = weight_OI.t().view(-1, size, weight_OI.shape[0])
    rows_KNI = inputs_NI.view(len(inputs_NI), -1, size).transpose(0, 1)
    product_NO = torch.bmm(rows_KNI, blocks_KIO).sum(0)
    return product_NO if bias_O is None else product_NO.add_(bias_O)
