"""Puts training/ on the path, as its scripts do when they are run."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "training"))
