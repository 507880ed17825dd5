"""What all tests share: a quiet tau2, no network for Hugging Face, modules importable."""

import os
import sys
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("TAU2_DATA_DIR", None)
sys.path.insert(0, str(Path(__file__).parent))

from loguru import logger

logger.disable("tau2")
