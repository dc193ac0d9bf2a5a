#!/usr/bin/env python3
"""How long a server that missed many entries takes to be equal again while writes go on, and what they lose by it.

    bench/catch_up.py [--sluice PROGRAM] [--counter PROGRAM] [--entries N] [--rate PER_SECOND] [--port BASE]

Three servers on this machine, a counter group, all options at their defaults. First the rate of undisturbed writes is
measured, then a follower is killed, N entries are written, it is started again, and the same writes go on beside. Prints
seconds until it has applied what the leader had committed a moment before, and the rate beside / undisturbed. The
counter program is built with the tests (tests/fault/counter.cc).
"""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "fault"))

from catch_up_test import CatchUp, compare  # noqa: E402

UNDISTURBED_SECONDS = 20


def paced(cluster, count, rate, servers):
    return subprocess.Popen([cluster.counter, servers, "00000000-0000-0000-0000-0000000000c9", "write", str(count),
                             str(rate)], stdout=subprocess.PIPE, text=True)


def finish(cluster, process, count):
    acknowledged = int(process.communicate()[0])
    if acknowledged != count:
        raise SystemExit(f"{acknowledged} of {count} increments were acknowledged")
    cluster.acknowledged += acknowledged


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--sluice", default=str(ROOT / "build/release/src/app/sluice"))
    options.add_argument("--counter", default=str(ROOT / "build/release/tests/fault/counter"))
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--rate", type=int, default=2000)
    options.add_argument("--port", type=int, default=17400)
    options = options.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-catch-up-", dir="."))
    cluster = CatchUp(options.sluice, options.counter, folder.resolve(), options.port)
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        leader = cluster.group_leader()
        away = (leader + 1) % 3
        up = ",".join(cluster.address(i) for i in range(3) if i != away)

        count = options.rate * UNDISTURBED_SECONDS
        began = time.monotonic()
        finish(cluster, paced(cluster, count, options.rate, up), count)
        undisturbed = count / (time.monotonic() - began)

        cluster.kill(away)
        cluster.write(options.entries, servers=up)
        time.sleep(6)
        began = time.monotonic()
        cluster.start(away)
        beside = paced(cluster, count, options.rate, up)
        done, equal = 0, None
        while True:
            if beside.poll() is not None:
                finish(cluster, beside, count)
                done += count
                if equal:
                    break
                beside = paced(cluster, count, options.rate, up)
            if not equal:
                commit = cluster.group(leader).get("commit", 0)
                if cluster.group(away).get("applied", -1) >= commit - options.rate // 4:
                    equal = time.monotonic() - began
            time.sleep(0.05)
        rate = done / (time.monotonic() - began)
        compare(cluster, {})
        print(f"missed {options.entries} entries: equal after {equal:.1f} s, {len(cluster.snapshots_installed(away))} "
              f"snapshots; writes {rate:.0f}/s beside, {undisturbed:.0f}/s undisturbed: ratio {rate / undisturbed:.2f}")
    finally:
        cluster.stop()
    shutil.rmtree(cluster.folder)


if __name__ == "__main__":
    main()
