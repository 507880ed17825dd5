"""A stand-in for SGLang's compiled kernels, which need libcuda even to be imported.

SGLang imports them by name all over the place; serving a dense model on a CPU calls none of them. Here every attribute
and every submodule can be imported, and a call says what is missing.
"""

import sys
from functools import partial
from importlib.machinery import ModuleSpec

__version__ = "0.4.1"


class _Kernel:
    """A name inside the package; names inside it (`scalar_types.uint4`) exist as well."""

    def __init__(self, name: str):
        self.__name__ = name

    def __getattr__(self, name: str) -> "_Kernel":
        return _attribute(self.__name__, name)

    def __call__(self, *args, **kwargs):
        raise RuntimeError(
            f"{self.__name__} is a compiled SGLang kernel, and this is only its stand-in for machines without a GPU. "
            "On a GPU, install the real package: pip install sglang-kernel"
        )

    def __repr__(self) -> str:
        return f"<missing kernel {self.__name__}>"


def _attribute(owner: str, name: str) -> _Kernel:
    if name.startswith("__"):  # protocols must not seem to be supported
        raise AttributeError(f"{owner} has no attribute {name}")
    return _Kernel(f"{owner}.{name}")


class _Submodules:
    """Finds and makes `sgl_kernel.<anything>`."""

    @staticmethod
    def find_spec(fullname: str, path=None, target=None) -> ModuleSpec | None:
        return (
            ModuleSpec(fullname, _Submodules, is_package=True)
            if fullname.startswith(f"{__name__}.")
            else None
        )

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module) -> None:
        module.__getattr__ = partial(_attribute, module.__name__)


sys.meta_path.append(_Submodules)
__getattr__ = partial(_attribute, __name__)
