"""Customer-service agents for tau2-bench: training with AReaL, evaluation, and what both share.

tau2 and litellm read their settings when they are imported. Importing this package first makes
them heed the environment: `TAU2_DATA_DIR`, which the tau2 on PyPI ignores, keys that end in a line
break, and no download of litellm's price list, which costs 10 seconds without a network.
"""

import os
from pathlib import Path

from examples.tau2.episode.keys import strip_keys

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
strip_keys()

if os.environ.get("TAU2_DATA_DIR"):
    # processes that this one starts may run in another folder
    os.environ["TAU2_DATA_DIR"] = os.path.abspath(os.path.expanduser(os.environ["TAU2_DATA_DIR"]))

    from loguru import logger

    # this import warns of a missing .env file; tau2 1.0.1 also lists all that it registers
    logger.disable("tau2")
    import tau2.utils

    logger.enable("tau2")
    tau2.utils.DATA_DIR = tau2.utils.utils.DATA_DIR = Path(os.environ["TAU2_DATA_DIR"])


def quiet_tau2() -> None:
    """Switch off tau2's log, which reports its import and every message of every step.

    A command calls this before it imports tau2.
    """
    from loguru import logger

    logger.disable("tau2")
