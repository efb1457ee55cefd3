"""How long the sums are of which an operation's result is made: what its rounding is judged by."""

from __future__ import annotations

import math

from reprodebug.zoom.log import Op, Value

_NAMES = (
    "add add_ sub sub_ mul mul_ div div_ rsub neg abs exp log sqrt rsqrt sin cos tanh sigmoid relu relu_ gelu silu erf pow reciprocal "
    "threshold_backward tanh_backward sigmoid_backward gelu_backward silu_backward clamp clamp_min clamp_max where masked_fill addcmul "
    "addcmul_ addcdiv addcdiv_ lerp lerp_ _to_copy copy_ native_dropout clone hardtanh leaky_relu elu softplus square uniform_ normal_ "
    "exponential_ log_normal_ cauchy_ geometric_ bernoulli_ rand randn rand_like randn_like fill_ full expm1 log1p log2 log10 exp2 tan asin "
    "acos atan atan2 sinh cosh asinh acosh atanh erfc erfinv lgamma digamma logit softplus_backward elu_backward leaky_relu_backward "
    "hardswish mish selu celu glu prelu sgn sign round floor ceil remainder fmod maximum minimum complex polar angle"
)
_ONE_BY_ONE = frozenset(_NAMES.split())
"""each element of the result comes from one element of each argument"""


def terms(op: Op, output: Value) -> int | None:
    """Terms in the sum behind each element of ``output``; 1 where there is no sum, None where that is not known.

    Matrix products: the inner size; convolutions: input channels of a group times the kernel's size, and for the gradient of the
    weight the batch times the output's positions; reductions: elements of the input for each of the output; normalisations: the
    size that is normalised over.
    """
    base = op.name.split(".")[1] if op.name.startswith("aten.") else op.name
    given = {v.name: v.shape for v in op.inputs}
    try:
        if base in _ONE_BY_ONE:
            return 1
        if base in ("mm", "bmm", "_int_mm", "dot", "mv"):
            return given["self"][-1]
        if base in ("addmm", "addmm_"):
            return given["mat1"][-1]
        if base in ("baddbmm", "baddbmm_"):
            return given["batch1"][-1]
        if base in ("convolution", "mkldnn_convolution", "_slow_conv2d_forward", "convolution_overrideable", "cudnn_convolution"):
            return math.prod(given["weight"][1:])
        if base == "convolution_backward":
            n = int(output.name.partition(".")[2] or 0)
            grad, weight = given["grad_output"], given["weight"]
            return weight[0] * math.prod(weight[2:]) if n == 0 else grad[0] * math.prod(grad[2:])
        if base in ("sum", "mean", "var", "std", "var_mean", "linalg_vector_norm", "norm", "cumsum", "logsumexp", "prod"):
            return math.prod(given["self"]) // max(1, math.prod(output.shape))
        if base in ("_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data"):
            first = next(iter(given.values()))
            return first[int(op.arguments.get("dim", "-1"))]
        if base == "native_layer_norm":
            return math.prod(int(n) for n in op.arguments["normalized_shape"].strip("[]()").split(",") if n.strip())
        if base in ("native_batch_norm", "native_batch_norm_backward", "cudnn_batch_norm"):
            shape = given.get("input") or given["grad_out"]
            return math.prod(shape) // shape[1]
        if base in ("nll_loss_forward", "mse_loss", "binary_cross_entropy"):
            return math.prod(next(iter(given.values()))) // max(1, math.prod(output.shape))
    except (KeyError, IndexError, ValueError):
        return None
    return None
