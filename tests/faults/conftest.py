"""The fault tests use the fake engine and the workplace of the pipeline's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pipeline"))
