#!/usr/bin/env python3
"""Three real servers whose index syncs are slow, kill -9 of the leader in a loop, and one client that increments.

    once_test.py SLUICE INCREMENTS SLOW_SYNC ROUNDS BASE_PORT

A call that was in the log when its leader died comes again at the next one, which may not have applied it yet: it must
be executed once (P3, D-05, K4). INCREMENTS is the client, SLOW_SYNC the library to preload. Only processes started here
are killed, by their ids.
"""
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from kill_test import Cluster

GROUP = "00000000-0000-0000-0000-0000000c0c0c"
SLOW_MS = os.environ.get("SLUICE_SLOW_MS", "400")


def await_progress(client, dots):
    """Until the client was acknowledged so many hundred increments more."""
    while dots > 0:
        told = client.stdout.read(1)
        if told == "":
            raise SystemExit(f"the client ended with {client.wait()}")
        if told == ".":
            dots -= 1
        elif told != "\n":  # what a call that was not answered ended with; the verdict comes with the end
            client.stdout.readline()


def main():
    program, increments, slow_sync = sys.argv[1:4]
    rounds, base_port = int(os.environ.get("SLUICE_KILL_ROUNDS", sys.argv[4])), int(sys.argv[5])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-once-", dir=".")).resolve()
    slow = dict(os.environ, LD_PRELOAD=slow_sync, SLOW_PART="/index", SLOW_MS=SLOW_MS)
    cluster = Cluster(program, folder, base_port, ["--group", f"{GROUP}=counter"], slow)
    rng = random.Random(int(os.environ.get("SLUICE_SEED", "4")))
    client = None
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        client = subprocess.Popen([increments, cluster.addresses(), GROUP], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        for turn in range(rounds):
            await_progress(client, rng.randint(1, 8))
            leader = cluster.leader(GROUP)
            if leader is None:
                continue
            cluster.kill(leader)
            await_progress(client, 1)  # the others have elected
            cluster.start(leader)
            cluster.wait_ready()
            print(f"round {turn}: n{leader} was killed", flush=True)
        told = client.communicate()[0]
        print(told.strip(), flush=True)
        if client.returncode != 0:
            raise SystemExit(f"the counter is not what was acknowledged; logs in {folder}")
    finally:
        if client and client.poll() is None:
            client.kill()
        cluster.stop()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
