#!/usr/bin/env python3
"""Three real servers, kill -9 at the worst moments, and every acknowledged file compared on every server.

    kill_test.py SLUICE SCENARIO ROUNDS BASE_PORT

Scenarios: leader (of an upload's group, in mid-upload), receiver (of the upload, in mid-upload), all (three at once,
right after an acknowledgement). F-34, F-35. Only processes started here are killed, by their ids.
"""
import filecmp
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

START_SECONDS = 60
TTL = "3s"  # of stages that make no progress


class Cluster:
    def __init__(self, program, folder, base_port, options=(), environment=None):
        self.program = program
        self.options = list(options)
        self.environment = environment
        self.folder = folder
        self.ports = [base_port + 10 * i for i in range(3)]
        self.servers = [None] * 3
        self.logs = [open(folder / f"n{i}.log", "ab") for i in range(3)]

    def address(self, i):
        return f"127.0.0.1:{self.ports[i]}"

    def addresses(self, first=0):
        return ",".join(self.address((first + i) % 3) for i in range(3))

    def start(self, i, bootstrap=False):
        peers = ",".join(f"n{k}@{self.address(k)}" for k in range(3))
        command = [self.program, "serve", "--id", f"n{i}", "--listen", self.address(i), "--peers", peers,
                   "--data", str(self.folder / f"n{i}"), "--upload-idle-ttl-ms", TTL, *self.options]
        if bootstrap:
            command.append("--bootstrap")
        self.servers[i] = subprocess.Popen(command, stdout=self.logs[i], stderr=self.logs[i],
                                           env=self.environment)

    def kill(self, i):
        self.servers[i].send_signal(signal.SIGKILL)
        self.servers[i].wait()

    def status(self, i):
        done = subprocess.run([self.program, "status", "--json", "--server", self.address(i)],
                              capture_output=True, text=True)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def leader(self, group_id=None):
        for i in range(3):
            status = self.status(i)
            for group in (status or {}).get("groups", []):
                if group.get("leader") and group_id in (None, group["id"]):
                    return int(group["leader"][1:])
        return None

    def wait_ready(self):
        """Until each server follows a leader; each poll is a process of its own, so this does not spin."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if all(subprocess.run([self.program, "status", "--server", self.address(i)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
                   for i in range(3)):
                return
        raise SystemExit(f"the cluster is not ready after {START_SECONDS} s; logs in {self.folder}")

    def stop(self):
        for server in self.servers:
            if server and server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in self.servers:
            if server:
                server.wait()


def put(cluster, path, name, first, during=None):
    """Streams a file in; runs `during` once some of it is on its way. True if it was acknowledged."""
    process = subprocess.Popen([cluster.program, "put", str(path), "--name", name, "--server",
                                cluster.addresses(first)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if during:
        threading.Thread(target=during, daemon=True).start()
    error = process.communicate()[1].decode()
    if process.returncode != 0:
        print(f"  not acknowledged: {error.strip()}")
    return process.returncode == 0


def verify(cluster, files):
    for name, path in files.items():
        for i in range(3):
            copy = cluster.folder / "copy"
            subprocess.run([cluster.program, "get", name, "-o", str(copy), "--server", cluster.address(i)], check=True,
                           stdout=subprocess.DEVNULL)
            if not filecmp.cmp(path, copy, shallow=False):
                raise SystemExit(f"{name} differs on n{i}: {copy} is not {path}")
            copy.unlink()


def wait_stages_gone(cluster):
    """F-27: every stage is reclaimed after its time-to-live, on every server."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        left = [p for i in range(3) for p in (cluster.folder / f"n{i}" / "blobs" / "stage").iterdir()]
        if not left:
            return
        cluster.status(0)  # takes a moment, as a poll should
    raise SystemExit(f"stages are left after {START_SECONDS} s: {left}")


def main():
    program, scenario, rounds, base_port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rounds = int(os.environ.get("SLUICE_KILL_ROUNDS", rounds))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-kill-", dir="."))
    cluster = Cluster(program, folder.resolve(), base_port)
    source = cluster.folder / "source"
    rng = random.Random(7)
    source.write_bytes(rng.randbytes(48 << 20))
    files = {}
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        for turn in range(rounds):
            name = f"{scenario}-{turn}"
            first = turn % 3
            victims = []

            def strike():
                victim = cluster.leader() if scenario == "leader" else first
                if victim is not None:
                    victims.append(victim)
                    cluster.kill(victim)

            acknowledged = put(cluster, source, name, first, None if scenario == "all" else strike)
            if acknowledged:
                files[name] = source
            if scenario == "all":
                victims = [0, 1, 2]
                for i in victims:
                    cluster.servers[i].send_signal(signal.SIGKILL)
                for i in victims:
                    cluster.servers[i].wait()
            for i in range(3):
                if cluster.servers[i].poll() is not None:
                    cluster.start(i)
            cluster.wait_ready()
            verify(cluster, files)
            print(f"round {turn}: killed {victims}, acknowledged {acknowledged}, {len(files)} files equal on all",
                  flush=True)
        wait_stages_gone(cluster)
        if not files:
            raise SystemExit("nothing was acknowledged: this run has shown nothing")
    finally:
        cluster.stop()
    shutil.rmtree(cluster.folder)


if __name__ == "__main__":
    main()
