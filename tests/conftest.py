"""What every test may use: fixtures are registered here and live in modules of their own.

Hypothesis makes the same examples in every run, so that a change is judged by itself and not
by the day's luck. ``HYPOTHESIS_PROFILE=search`` makes new ones in every run.
"""

import os

from hypothesis import settings

pytest_plugins = ["hadoop"]

settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", derandomize=False, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
