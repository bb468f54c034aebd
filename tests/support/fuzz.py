"""Fuzz each target for its share of a time: ``fuzz.py SECONDS [TARGET...]``.

With atheris, inputs that reach new code are kept in ``.cache/fuzz`` and changed further; without
it inputs are changed blindly. Exits with 1 after a failure, and prints the input that brings it
about.
"""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

CORPUS = Path(__file__).parents[2] / ".cache" / "fuzz"

#: Bytes of one input, and seconds that it may take.
MOST, SLOW = 4096, 20


def main(arguments: list[str]) -> int:
    """Run; the exit status."""
    if arguments[0] == "--guided":
        _guided(arguments[1], arguments[2])
    from fuzz_targets import TARGETS

    seconds, names = float(arguments[0]), arguments[1:] or list(TARGETS)
    guided = importlib.util.find_spec("atheris") is not None
    failed = []
    for name in names:
        share = seconds / len(names)
        print(f"{name}: {share:.0f} s, {'guided by coverage' if guided else 'blind'}", flush=True)
        if guided:
            command = [sys.executable, __file__, "--guided", name, str(max(1, round(share)))]
            succeeded = subprocess.run(command, check=False).returncode == 0
        else:
            succeeded = _blind(name, share)
        if not succeeded:
            failed.append(name)
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _blind(name: str, seconds: float) -> bool:
    from fuzz_targets import TARGETS, mutations

    target, seeds = TARGETS[name]
    seed = random.SystemRandom().randrange(1 << 32)
    end, tried = time.monotonic() + seconds, 0
    for data in mutations(seeds, random.Random(seed)):
        try:
            target(data)
        except Exception:
            traceback.print_exc()
            print(f"{name} fails for {data!r}", file=sys.stderr)
            return False
        tried += 1
        if time.monotonic() > end:
            break
    print(f"{name}: {tried} inputs, seed {seed}")
    return True


def _guided(name: str, seconds: str) -> None:
    """Fuzz with atheris, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["trough"]):
        from fuzz_targets import TARGETS
    target, seeds = TARGETS[name]

    def run(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            print(f"{name} fails for {data!r}", file=sys.stderr)
            raise

    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-max_len={MOST}", f"-timeout={SLOW}"]
    kept = f"-artifact_prefix={CORPUS}/failed-{name}-"
    atheris.Setup([sys.argv[0], str(corpus), *limits, kept, "-verbosity=0"], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
