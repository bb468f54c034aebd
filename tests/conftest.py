"""What every test may use: fixtures are registered here and live in modules of their own.

Hypothesis makes the same examples in every run, so that a change is judged by itself and not
by the day's luck. ``HYPOTHESIS_PROFILE=search`` makes new ones in every run.
"""

import os
import signal

from hypothesis import settings

pytest_plugins = ["hadoop", "machine_clients", "rethinkdb_server", "small_disk"]

settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", derandomize=False, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# A shell without job control has what it starts in the background ignore Ctrl-C, and so would
# each process that a test starts and then interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
