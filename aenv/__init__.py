"""Joins this folder to the AEnvironment SDK, which is a package `aenv` too.

`import aenv` gives the SDK's modules, with `aenv.examples` beside them.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

_here = Path(__file__).resolve().parent
_elsewhere = [path for path in sys.path if Path(path, "aenv").resolve() != _here]
_spec = PathFinder.find_spec(__name__, _elsewhere)
if _spec is None or _spec.loader is None or _spec.submodule_search_locations is None:
    raise ModuleNotFoundError(
        "the AEnvironment SDK is missing: pip install -r aenv/examples/tau2_rl/requirements.txt",
        name=__name__,
    )
_spec.submodule_search_locations.append(str(_here))
sys.modules[__name__] = module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
