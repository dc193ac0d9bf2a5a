#!/usr/bin/env python3
"""Clusters that must not meet: a folder of another cluster, and a wrong address among --peers (K7, F-19, F-56).

    strangers_test.py SLUICE SCENARIO BASE_PORT

Scenarios: folder (a server of a cluster comes back with the folder that the server of the same id and address had in
an earlier cluster, whose log is longer), peers (a new cluster whose --peers name a server of one that runs). Both must
keep every byte, and both sides must say who was refused, with both ids. Only processes started here are ended.
"""
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from kill_test import START_SECONDS, Cluster

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def run(cluster, *words):
    return subprocess.run([cluster.program, *words, "--server", cluster.addresses()], capture_output=True, text=True)


def expect(done):
    if done.returncode != 0:
        raise SystemExit(f"{done.args[1:]} failed with {done.returncode}: {done.stderr}")
    return done.stdout


def put(cluster, name, text):
    path = cluster.folder / "source"
    path.write_text(text)
    expect(run(cluster, "put", str(path), "--name", name))


def get(cluster, name):
    return expect(run(cluster, "get", name, "-o", "-"))


def id_of(cluster, i=0):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for server in (cluster.status(i) or {}).get("servers", []):
            if server.get("cluster"):
                return server["cluster"]
    raise SystemExit("the cluster has no id")


def wait_refusal(log, *ids):
    """A line of that log names both."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for line in log.read_text(errors="replace").splitlines():
            if "refuse" in line and all(one in line for one in ids):
                return line
        time.sleep(0.2)  # tidy-allow: a log file tells nobody that it has grown
    raise SystemExit(f"{log} names nobody of {ids}")


def start_all(cluster):
    for i in range(3):
        cluster.start(i, bootstrap=True)
    cluster.wait_ready()


def new_cluster(program, folder, port):
    folder.mkdir()
    return Cluster(program, folder, port)


def another_folder(program, folder, port):
    old = new_cluster(program, folder / "old", port)
    try:
        start_all(old)
        for i in range(20):
            put(old, f"old-{i}", f"old {i}")
        for i in (0, 1, 2):  # its terms get higher than those of the other
            old.kill(i)
            old.start(i)
            old.wait_ready()
        theirs = id_of(old)
    finally:
        old.stop()
    cluster = new_cluster(program, folder / "new", port)
    try:
        start_all(cluster)
        ours = id_of(cluster)
        if ours == theirs:
            raise SystemExit("two clusters have one id")
        for i in range(5):
            put(cluster, f"new-{i}", f"new {i}")
        cluster.servers[1].send_signal(signal.SIGTERM)
        cluster.servers[1].wait()
        (cluster.folder / "n1").rename(cluster.folder / "aside")
        (old.folder / "n1").rename(cluster.folder / "n1")
        cluster.start(1)
        print(wait_refusal(cluster.folder / "n1.log", ours, theirs))
        print(min(wait_refusal(cluster.folder / f"n{i}.log", ours, theirs) for i in (0, 2)))
        time.sleep(5)  # tidy-allow: that it does not lead is no event; it has every opportunity
        put(cluster, "after", "after")
        for i in range(5):
            if get(cluster, f"new-{i}") != f"new {i}":
                raise SystemExit(f"new-{i} is lost")
        if "old-" in expect(run(cluster, "ls")):
            raise SystemExit("the names of the other cluster have come")
        mixed = run(cluster, "status")
        if mixed.returncode == 0 or not re.search(f"is of cluster {UUID}", mixed.stdout + mixed.stderr):
            raise SystemExit(f"status does not say that a server is a stranger: {mixed.stdout} {mixed.stderr}")
    finally:
        cluster.stop()


def wrong_address(program, folder, port):
    running = new_cluster(program, folder / "running", port)
    founded = new_cluster(program, folder / "founded", port + 50)
    try:
        start_all(running)
        theirs = id_of(running)
        put(running, "theirs", "theirs")
        before = running.status(0)
        # The third address is the running cluster's own third server.
        peers = [founded.address(0), founded.address(1), running.address(2)]
        for i in (0, 1):
            words = [program, "serve", "--id", f"n{i}", "--listen", founded.address(i), "--data",
                     str(founded.folder / f"n{i}"), "--bootstrap", "--peers",
                     ",".join(f"n{k}@{peers[k]}" for k in range(3))]
            founded.servers[i] = subprocess.Popen(words, stdout=founded.logs[i], stderr=founded.logs[i])
        ours = id_of(founded)
        print(wait_refusal(running.folder / "n2.log", ours, theirs))
        print(wait_refusal(founded.folder / f"n{founded.leader()}.log", ours, theirs))
        put(running, "theirs-too", "theirs too")
        if get(running, "theirs") != "theirs" or get(running, "theirs-too") != "theirs too":
            raise SystemExit("the running cluster has lost bytes")
        if running.status(0)["groups"][0]["term"] != before["groups"][0]["term"]:
            print("note: the running cluster held an election")
        names = subprocess.run([program, "ls", "--json", "--server", founded.address(0)], capture_output=True,
                               text=True)
        if json.loads(expect(names)):
            raise SystemExit("the names of the running cluster have come")
    finally:
        running.stop()
        founded.stop()


def main():
    program, scenario, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-strangers-", dir=".")).resolve()
    {"folder": another_folder, "peers": wrong_address}[scenario](program, folder, port)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
