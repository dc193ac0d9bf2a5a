#!/usr/bin/env python3
"""Three real servers, one of them away for a while: it catches up by itself, beside writes and reads, and in the end
every server has the same state.

    catch_up_test.py SLUICE COUNTER SCENARIO BASE_PORT

Scenarios: log (away for fewer entries than are kept), snapshot (away for more; SLUICE_CATCH_UP_ENTRIES of them), empty
(its folder is gone: it follows, and does not vote), ex_leader (the leader is killed behind a log that begins late, and
comes back one entry behind: by the log). All but the first keep little log, and wait until it does not reach back any
more. K1, K2, K29, F-20, F-30. What is compared is state: the counter by stale reads of each server, blobs byte for
byte. Only processes started here are killed, by their ids.
"""
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from kill_test import Cluster, put, verify

GROUP = "00000000-0000-0000-0000-0000000000c9"
CATCH_UP_SECONDS = 240  # far more than it takes: the machine may be busy
LITTLE_LOG = ["--checkpoint-ms", "200ms", "--compact-keep-entries", "1000"]


class CatchUp(Cluster):
    def __init__(self, program, counter, folder, base_port, options=()):
        super().__init__(program, folder, base_port, ["--group", f"{GROUP}=counter", *options])
        self.counter = counter
        self.acknowledged = 0

    def count(self, *words, servers=None):
        """What the counter program says; None if it failed."""
        done = subprocess.run([self.counter, servers or self.addresses(), GROUP, *map(str, words)],
                              capture_output=True, text=True)
        return int(done.stdout) if done.returncode == 0 else None

    def write(self, count, rate=0, servers=None):
        acknowledged = self.count("write", count, rate, servers=servers)
        if acknowledged != count:
            raise SystemExit(f"{acknowledged} of {count} increments were acknowledged")
        self.acknowledged += acknowledged

    def group(self, i):
        """The counter group as server i sees it; {} if it does not answer."""
        status = self.status(i) or {}
        for server in status.get("servers", []):
            for group in server.get("groups", []):
                if group["id"] == GROUP:
                    return group
        return {}

    def group_leader(self):
        end = time.monotonic() + CATCH_UP_SECONDS
        while time.monotonic() < end:
            for i in range(3):
                if self.servers[i].poll() is None and self.group(i).get("role") == "leader":
                    return i
        raise SystemExit("the counter group has no leader")

    def wait_for(self, i, what, index):
        """Until server i says so much of `what`. Each poll is a process of its own, so this does not spin."""
        end = time.monotonic() + CATCH_UP_SECONDS
        seen = None
        while time.monotonic() < end:
            seen = self.group(i)
            if seen.get(what, -1) >= index:
                return
        raise SystemExit(f"n{i}: \"{what}\" is not {index} after {CATCH_UP_SECONDS} s; it says {seen}; "
                         f"logs in {self.folder}")

    def wait_applied(self, i, index):
        self.wait_for(i, "applied", index)

    def snapshots_installed(self, i):
        text = (self.folder / f"n{i}.log").read_text(errors="replace")
        return [line for line in text.splitlines() if GROUP in line and "snapshot up to entry" in line
                and "installed" in line]


class Beside:
    """Writes and reads that go on while a server catches up. Each must succeed."""

    def __init__(self, cluster, turn, source, servers):
        self.cluster = cluster
        self.turn = turn
        self.servers = servers  # that are up, "host:port,..."
        self.source = source
        self.files = {}
        self.rounds = 0
        self.failure = None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        if self.failure:
            raise SystemExit(self.failure)
        if self.rounds == 0:
            raise SystemExit("nothing was written beside: this run has shown nothing")

    def run(self):
        while not self.ending.is_set() and not self.failure:
            name = f"beside-{self.turn}-{self.rounds}"
            done = subprocess.run([self.cluster.program, "put", str(self.source), "--name", name, "--server",
                                   self.servers], capture_output=True, text=True)
            if done.returncode != 0:
                self.failure = f"put beside: {done.stderr.strip()}"
                return
            self.files[name] = self.source
            acknowledged = self.cluster.count("write", 100, 0, servers=self.servers)
            value = self.cluster.count("get", servers=self.servers)
            if acknowledged != 100 or value is None or value < self.cluster.acknowledged + 100:
                self.failure = f"beside: {acknowledged} of 100 acknowledged, counter {value}"
                return
            self.cluster.acknowledged += acknowledged
            self.rounds += 1


def compare(cluster, files):
    """Everything that was acknowledged is the state of each server, no more and no less."""
    index = max(cluster.group(i).get("commit", -1) for i in range(3))
    for i in range(3):
        cluster.wait_applied(i, index)
        value = cluster.count("stale", index, servers=cluster.address(i))
        if value != cluster.acknowledged:
            raise SystemExit(f"n{i} counts {value}, {cluster.acknowledged} increments were acknowledged")
    verify(cluster, files)


def wait_no_transfer_files(cluster):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        left = [p for i in range(3) for p in (cluster.folder / f"n{i}" / "snapshots").iterdir()]
        if not left:
            return
        cluster.status(0)  # takes a moment, as a poll should
    raise SystemExit(f"snapshots are left: {left}")


def one_round(cluster, scenario, entries, turn, source, small, files):
    """One server goes away and comes back; gives which one, after how many seconds it was equal, and what went on."""
    # The counter group's leader, or a server that leads nothing there.
    leader = cluster.group_leader()
    away = leader if scenario == "ex_leader" else (leader + 1) % 3
    if scenario == "ex_leader":
        cluster.write(entries)
        for i in range(3):
            cluster.wait_for(i, "first", 1)
            cluster.wait_applied(i, entries)
    has = cluster.group(away)["last"]
    cluster.kill(away)
    up = ",".join(cluster.address(i) for i in range(3) if i != away)
    began = time.monotonic()
    if scenario == "ex_leader":
        while cluster.group_leader() == away:
            pass
        cluster.write(1, servers=up)  # the new leader is ready; calls to the old one have failed
    else:
        cluster.write(entries, servers=up)
        if not put(cluster, small, f"while-away-{turn}", (away + 1) % 3):
            raise SystemExit("a put was not acknowledged with two servers of three")
        files[f"while-away-{turn}"] = small
    if scenario in ("snapshot", "empty"):
        cluster.wait_for(cluster.group_leader(), "first", has + 2)
    print(f"n{away} was away for {time.monotonic() - began:.1f} s", flush=True)
    if scenario == "empty":
        shutil.rmtree(cluster.folder / f"n{away}")
    target = cluster.group(cluster.group_leader())["last"]
    began = time.monotonic()
    with Beside(cluster, turn, small, up) as beside:
        cluster.start(away)
        cluster.wait_applied(away, target)
        caught_up = time.monotonic() - began
        while beside.rounds < 3 and not beside.failure:  # and it keeps up
            cluster.status(away)
    files.update(beside.files)
    return away, caught_up, beside.rounds


def main():
    program, counter, scenario, base_port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-catch-up-", dir=os.environ.get("SLUICE_TEST_DIR", ".")))
    options = [] if scenario == "log" else LITTLE_LOG
    cluster = CatchUp(program, os.path.abspath(counter), folder.resolve(), base_port, options)
    source = cluster.folder / "source"
    source.write_bytes(random.Random(11).randbytes(3 << 20))
    small = cluster.folder / "small"
    small.write_bytes(random.Random(12).randbytes(5000))
    entries = int(os.environ.get("SLUICE_CATCH_UP_ENTRIES", 12_000)) if scenario == "snapshot" else 3000
    snapshots_wanted = 1 if scenario in ("snapshot", "empty") else 0
    files = {}
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        if not put(cluster, source, "before", 0):
            raise SystemExit("the first put was not acknowledged")
        files["before"] = source
        cluster.write(500)
        for turn in range(2 if scenario == "ex_leader" else 1):
            away, caught_up, rounds = one_round(cluster, scenario, entries, turn, source, small, files)
            compare(cluster, files)
            snapshots = cluster.snapshots_installed(away)
            print(f"n{away} caught up in {caught_up:.1f} s beside {rounds} rounds of writes and reads; "
                  f"{len(snapshots)} snapshots; {len(files)} files and a counter of {cluster.acknowledged} equal on all",
                  flush=True)
            if len(snapshots) != snapshots_wanted:
                raise SystemExit(f"{snapshots_wanted} snapshots were to be enough, and needed: {snapshots}")
        wait_no_transfer_files(cluster)
    finally:
        cluster.stop()
    shutil.rmtree(cluster.folder)


if __name__ == "__main__":
    main()
