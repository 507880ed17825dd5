"""A stand-in for SGLang's compiled kernels, which cannot even be imported without libcuda.

SGLang imports the kernels by name in many places, but calls none of them when it serves a dense
model on a CPU. Here every attribute and every submodule can be imported. A call raises an error
that says what is missing.
"""

import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.4.1"


class _Kernel:
    """A name inside the package; names inside it (`scalar_types.uint4`) exist as well."""

    def __init__(self, name: str):
        self.__name__ = name

    def __getattr__(self, name: str) -> "_Kernel":
        return _attribute(self.__name__, name)

    def __call__(self, *args, **kwargs):
        raise RuntimeError(
            f"{self.__name__} is a compiled SGLang kernel, and this is only its stand-in for "
            "machines without a GPU. "
            "On a GPU, install the real package: pip install sglang-kernel"
        )

    def __repr__(self) -> str:
        return f"<missing kernel {self.__name__}>"


def _attribute(owner: str, name: str) -> _Kernel:
    # the stand-in must not seem to support Python's protocols
    if name.startswith("__"):
        raise AttributeError(f"{owner} has no attribute {name}")
    return _Kernel(f"{owner}.{name}")


class _Submodules(MetaPathFinder, Loader):
    """Finds and makes every submodule of this package that somebody imports."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return None: Python makes an ordinary module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = partial(_attribute, module.__name__)


sys.meta_path.append(_Submodules())
__getattr__ = partial(_attribute, __name__)
