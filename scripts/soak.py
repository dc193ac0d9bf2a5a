#!/usr/bin/env python3
"""The long tests, in parts that go on where they stopped: make soak, or make soak PART=seeds

    scripts/soak.py [PART]... [--minutes 50] [--again]

    seeds      10,000 random runs of simulated clusters, and their histories through the linearizability checker
    kills      1,000 kill -9 of real servers, with uploads, reads and counted calls beside, slow index syncs among them
    rolling    10,000 commands of clients while servers are restarted, killed and frozen one after another
    sanitized  the unit ring, and whole servers under load, by the address and by the thread sanitizer
    mutants    one-line bugs, planted one at a time (scripts/mutants.py)

Needs a built build/release. Each part stops after so many minutes and says how far it is; figures are summed in
build/soak, one file a part, and printed as a table. --again forgets them first. Exit code 1: something failed in a part
that was run, now or earlier.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD, FIGURES = ROOT / "build" / "release", ROOT / "build" / "soak"
GOALS = {"seeds": 10_000, "kills": 1_000, "rolling": 10_000, "sanitized": 2, "mutants": 0}
SEEDS_AT_ONCE, ROUNDS_AT_ONCE, COMMANDS_AT_ONCE = 100, 10, 1_000
CHUNK_SECONDS = 3600


class Part:
    """What a part has done: {done, goal, seconds, failed, note}."""

    def __init__(self, name, minutes):
        self.path = FIGURES / f"{name}.json"
        self.figures = {"done": 0, "goal": GOALS[name], "seconds": 0, "failed": [], "note": ""}
        if self.path.exists():
            self.figures.update(json.loads(self.path.read_text()))
        self.end = time.monotonic() + 60 * minutes
        self.last = time.monotonic()

    def over(self):
        return time.monotonic() > self.end or self.figures["done"] >= self.figures["goal"]

    def save(self, done=0, failed=None, note=None):
        now = time.monotonic()
        self.figures["seconds"] = round(self.figures["seconds"] + now - self.last)
        self.last = now
        self.figures["done"] += done
        self.figures["failed"] += failed or []
        self.figures["note"] = self.figures["note"] if note is None else note
        FIGURES.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.figures, indent=1))


def call(command, environment=None, cwd=ROOT):
    """(exit code, output). What it started ends with it."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True, env={**os.environ, **(environment or {})})
    try:
        output, _ = process.communicate(timeout=CHUNK_SECONDS)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 1, process.communicate()[0] + "\ntook too long"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def ctest(pattern, environment=None, build=BUILD):
    """(passed, output) of the tests with these names; not passed if there are none."""
    code, output = call(["ctest", "--test-dir", str(build), "-R", pattern, "-V", "--no-tests=error"], environment)
    return code == 0, output


def names_of(pattern):
    _, output = call(["ctest", "--test-dir", str(BUILD), "-N"])
    return [name for name in re.findall(r"Test +#\d+: (\S+)", output) if re.search(pattern, name)]


def keep(name, output):
    """What failed, where it can be read again."""
    (FIGURES / "failed").mkdir(parents=True, exist_ok=True)
    (FIGURES / "failed" / f"{name}.txt").write_text(output)


def seeds(part):
    program = BUILD / "sim" / "cluster" / "cluster_test"
    checker = FIGURES / "linearizability"
    code, output = call(["go", "build", "-o", str(checker), "."], cwd=ROOT / "tests" / "linearizability")
    if code != 0:
        sys.exit(output)
    undecided = int((part.figures["note"] or "0").split()[0])
    while not part.over():
        first = part.figures["done"] + 1
        histories = FIGURES / f"histories-{first}"
        environment = {**os.environ, "SLUICE_SEED_FIRST": str(first), "SLUICE_SEEDS": str(SEEDS_AT_ONCE),
                       "SLUICE_HISTORIES": str(histories)}
        running = [subprocess.Popen([str(program), f"--gtest_filter=Shard/ClusterRandom.*/{shard}", "--gtest_brief=1"],
                                    env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                   for shard in range(4)]
        failed = []
        for shard, process in enumerate(running):
            output = process.communicate()[0]
            if process.returncode == 0:
                continue
            seed = re.search(r"SLUICE_SEED=(\d+)", output)
            failed.append(f"seed {seed.group(1)}" if seed else f"shard {shard} of {first}: exit {process.returncode}")
            keep(f"seeds-{first}-{shard}", output)
        code, output = call([str(checker), "-seconds", "10", str(histories)])
        undecided += len(re.findall("^undecided", output, re.M))
        if code != 0:
            failed += re.findall(r"NOT LINEARIZABLE +(\S+: .*)", output) or [f"histories of {first}"]
            keep(f"histories-{first}", output)
        else:
            shutil.rmtree(histories)
        part.save(SEEDS_AT_ONCE, failed, f"{undecided} keys undecided")
        print(f"seeds {first} to {first + SEEDS_AT_ONCE - 1}: {'; '.join(failed) or 'pass'}", flush=True)


def chunks(part, pattern, environment, at_once):
    """Runs the tests of these names in turn, so much of each at a time."""
    names = names_of(pattern)
    if not names:
        sys.exit(f"{BUILD} has no test {pattern}")
    while not part.over():
        name = names[part.figures["done"] // at_once % len(names)]
        passed, output = ctest(f"^{name}$", {environment: str(at_once), "SLUICE_SEED": str(part.figures["done"] + 1)})
        failed = [] if passed else [f"{name} after {part.figures['done']}"]
        if not passed:
            keep(f"{name}-{part.figures['done']}", output)
        part.save(at_once, failed)
        print(f"{name}: {at_once} more, {part.figures['done']} in all: {'pass' if passed else 'FAILED'}", flush=True)


def kills(part):
    chunks(part, "^F34_F35_kill_|^P3_K4_once$", "SLUICE_KILL_ROUNDS", ROUNDS_AT_ONCE)


def rolling(part):
    chunks(part, "^K22_F40_rolling_", "SLUICE_ROLLING", COMMANDS_AT_ONCE)


def sanitized(part):
    for preset in ("asan", "tsan")[part.figures["done"]:]:
        if part.over():
            return
        code, output = call([str(ROOT / "scripts" / "sanitized_unit_ring.sh"), preset])
        failed = [] if code == 0 else [f"unit ring by {preset}"]
        code, more = call([str(ROOT / "scripts" / "sanitized_servers.sh"), preset, "240"])
        failed += [] if code == 0 else [f"servers by {preset}"]
        output += more
        if failed:
            keep(f"sanitized-{preset}", output)
        part.save(1, failed)


def mutants(part):
    minutes = max(1, int((part.end - time.monotonic()) / 60))
    code, output = call([str(ROOT / "scripts" / "mutants.py"), "run", "--minutes", str(minutes)])
    told = re.search(r"(\d+) mutants, (\d+) ran, (\d+) noticed \((.*) %\)", output)
    if not told:
        keep("mutants", output)
        return part.save(0, ["mutants.py"])
    part.figures.update(goal=int(told.group(1)), done=int(told.group(2)), failed=[])
    whole = told.group(1) == told.group(2)
    failed = re.findall(r"^(?:SURVIVED|BROKEN): (\S+)", output, re.M) if whole and code != 0 else []
    part.save(0, failed, f"{told.group(3)} noticed, {told.group(4)} %")
    call([str(ROOT / "scripts" / "mutants.py"), "report"])


def table():
    print(f"{'part':10} {'done':>7} {'of':>7} {'minutes':>8} {'failed':>7}  note")
    failures = 0
    for name in GOALS:
        figures = Part(name, 0).figures
        failures += len(figures["failed"])
        print(f"{name:10} {figures['done']:7} {figures['goal']:7} {figures['seconds'] / 60:8.1f} "
              f"{len(figures['failed']):7}  {figures['note']} {'; '.join(figures['failed'][:5])}".rstrip())
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=list(GOALS) + [[]])
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--again", action="store_true", help="forget what the parts have done so far")
    given = parser.parse_args()
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name in given.part or GOALS:
        if given.again:
            (FIGURES / f"{name}.json").unlink(missing_ok=True)
        part = Part(name, given.minutes)
        globals()[name](part)
        part.save()
    return 1 if table() else 0


if __name__ == "__main__":
    sys.exit(main())
