"""What the schema of an operation says of its arguments and results, and where it does not say the truth.

Refuses to look at values: an operation is known by its name.
"""

from __future__ import annotations

from typing import Any

MOST_WORDS = 400
"""characters of an argument that is no tensor"""
_UNDEFINED = frozenset(
    {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", "_empty_affine_quantized", "resize_"}
)
"""operations whose result holds whatever lay in memory"""
_FILLS = frozenset(
    {
        "uniform_", "normal_", "fill_", "zero_", "copy_", "bernoulli_", "random_", "exponential_", "cauchy_", "log_normal_", "geometric_",
        "set_", "set_data",
    }
)  # fmt: skip
"""operations that overwrite their first tensor: what it held before is no input"""
_SHAPED = frozenset(
    {
        "bernoulli.p", "rand_like", "randn_like", "randint_like", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones",
        "new_full", "new_empty",
    }
)  # fmt: skip
"""operations that ask their first tensor for its shape alone"""
_SILENT = {"native_batch_norm": (3, 4), "cudnn_batch_norm": (3, 4), "miopen_batch_norm": (3, 4)}
"""operations that write arguments which their schema does not say they write: positions of those"""
_VIEWS = frozenset({"_unsafe_view", "_reshape_alias", "view_copy", "_reshape_copy", "lift_fresh_copy"})
"""operations that change no value, though their schema does not say so"""


class Schemas:
    """The operations that were met."""

    def __init__(self, torch: Any) -> None:
        self._seeded = torch.Tag.nondeterministic_seeded
        self._known: dict[Any, dict[str, Any]] = {}

    def of(self, func: Any) -> dict[str, Any]:
        """What is to be known of an operation, by the names of its arguments."""
        found: dict[str, Any] | None = self._known.get(func)
        if found is None:
            schema = getattr(func, "_schema", None)
            if schema is None:  # a higher-order operator: a branch, a loop, an attention with a program of its own
                found = self._known[func] = {
                    "name": str(func), "names": [f"arg{n}" for n in range(16)], "defaults": {}, "writes": [], "out": set(), "view": False,
                    "undefined": False, "fills": False, "random": False,
                }  # fmt: skip
                return found
            base = schema.name.partition("::")[2]
            writes = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
            writes += [schema.arguments[n].name for n in _SILENT.get(base, ()) if n < len(schema.arguments)]
            returns = [r.alias_info for r in schema.returns]
            found = self._known[func] = {
                "name": str(func),
                "names": [a.name for a in schema.arguments],
                "defaults": {
                    a.name: repr(a.default_value)[:MOST_WORDS]
                    for a in schema.arguments
                    if a.has_default_value() and "Tensor" not in str(a.type) and "Generator" not in str(a.type)
                },
                "writes": writes,
                "out": {a.name for a in schema.arguments if getattr(a, "is_out", False)},
                "view": base in _VIEWS
                or (base != "lift_fresh" and bool(returns) and all(r is not None and not r.is_write for r in returns)),
                "undefined": base in _UNDEFINED,
                "fills": base in _FILLS or base in _SHAPED or f"{base}.{schema.overload_name}" in _SHAPED,
                "random": self._seeded in func.tags,
            }
        return found
