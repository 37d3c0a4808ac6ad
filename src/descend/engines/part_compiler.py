"""How Numba compiles what is put into kernels: as far as they link it in, and no further.

Left to itself Numba optimises every part by itself and makes machine code of it, which nobody runs: a third of the
time of a first fit.
"""

from __future__ import annotations

from typing import Any

from numba._dynfunc import make_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering


class _PartLibrary(JITCodeLibrary):
    def _optimize_final_module(self) -> None:
        """Left to kernels, but where wide vectors are asked for: inside a kernel that would be forgotten."""
        functions = self._final_module.functions
        if any(b"prefer-vector-width" in kind for function in functions for kind in function.attributes):
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        state.flags.no_compile = True  # as Numba has it for subroutines, which it hands to nobody but LLVM
        super().run_pass(state)
        lowered = state["cr"]
        entry = make_function(lowered.fndesc.lookup_module(), lowered.fndesc.qualname, "", 0, lowered.env, ())
        state.targetctx.insert_user_function(entry, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class Part(CPUDispatcher):
    """What kernels call. Python cannot: there is no machine code."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self.py_func.__qualname__} is a part of kernels: call it from one")


class PartCompiler(CompilerBase):
    """Numba's own pipeline with its last step but one replaced."""

    def define_pipelines(self) -> list[PassManager]:
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes = PassManager("part")
        for step, description in usual.passes:
            passes.add_pass(_PartLowering if step is NativeLowering else step, description)
        passes.finalize()
        return [passes]
