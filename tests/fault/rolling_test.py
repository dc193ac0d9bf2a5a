#!/usr/bin/env python3
"""Rolling restarts and rolling kill -9 under load: clients that name all servers see nothing of it (K22, F-40).

    rolling_test.py SLUICE HOW BASE_PORT

HOW: restart (SIGTERM; the server must end with exit code 0), kill (SIGKILL), twice (SIGTERM two times at once), or
frozen (SIGSTOP, and SIGCONT after a few commands). One server after another, again and again, until SLUICE_ROLLING
commands (short form: 120; `make soak`: 10000) have ended. None may fail, and every blob must be as it was put.
Only processes started here are signalled, by their ids.
"""
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

from kill_test import Cluster

CLIENTS = 3
SMALL, LARGE = 300, 3 << 20  # inside the log, and beside it
END_SECONDS = 60  # for a server to end


class Load:
    """Commands one after another by each of several clients."""

    def __init__(self, cluster, commands):
        self.cluster = cluster
        self.left = commands
        self.done = 0
        self.failed = []
        self.slowest = {}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(i,)) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def take(self):
        with self.lock:
            if self.left <= 0 or self.failed:
                return False
            self.left -= 1
            return True

    def command(self, first, *words):
        if not self.take():
            return None
        begin = time.monotonic()
        done = subprocess.run([self.cluster.program, *words, "--server", self.cluster.addresses(first)],
                              capture_output=True)
        with self.lock:
            self.done += 1
            took = time.monotonic() - begin
            self.slowest[words[0]] = max(took, self.slowest.get(words[0], 0))
            if done.returncode != 0:
                self.failed.append((words, done.returncode, done.stderr.decode()))
        return done.stdout

    def client(self, number):
        rng = random.Random(number)
        path = self.cluster.folder / f"source-{number}"
        copy = self.cluster.folder / f"copy-{number}"
        turn = 0
        while True:
            turn += 1
            name = f"client-{number}/{turn}"
            data = rng.randbytes(rng.choice([SMALL, SMALL, LARGE]))
            path.write_bytes(data)
            first = rng.randrange(3)
            if self.command(first, "put", str(path), "--name", name) is None:
                return
            if self.command(rng.randrange(3), "get", name, "-o", str(copy)) is None:
                return
            if not self.failed and copy.read_bytes() != data:
                with self.lock:
                    self.failed.append((("get", name), 0, "other bytes than were put"))
            for words in (("stat", name), ("ls", f"client-{number}/"), ("rm", name)):
                if self.command(rng.randrange(3), *words) is None:
                    return

    def running(self):
        return any(thread.is_alive() for thread in self.threads)

    def progress(self, count):
        """Waits until that many more commands have ended, or the load is over."""
        end = self.done + count
        while self.running() and self.done < end:
            time.sleep(0.05)  # tidy-allow: between looks at a counter

    def join(self):
        for thread in self.threads:
            thread.join()


def disturb(cluster, load, how, victim):
    server = cluster.servers[victim]
    if how == "frozen":
        server.send_signal(signal.SIGSTOP)
        load.progress(6)
        server.send_signal(signal.SIGCONT)
        cluster.wait_ready()
        return
    server.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
    if how == "twice":
        time.sleep(0.05)  # tidy-allow: the second signal comes while the first is served
        server.send_signal(signal.SIGTERM)
    code = server.wait(timeout=END_SECONDS)
    if how == "restart" and code != 0:
        raise SystemExit(f"n{victim} ended with {code} after SIGTERM; logs in {cluster.folder}")
    load.progress(3)
    cluster.start(victim)
    cluster.wait_ready()


def main():
    program, how, base_port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    commands = int(os.environ.get("SLUICE_ROLLING", 120))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-rolling-", dir=".")).resolve()
    cluster = Cluster(program, folder, base_port)
    rounds = 0
    load = None
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        load = Load(cluster, commands)
        while load.running():
            disturb(cluster, load, how, rounds % 3)
            rounds += 1
            load.progress(3)
        load.join()
    finally:
        if load:
            load.left = 0
            load.join()
        for server in cluster.servers:
            if server and server.poll() is None:
                server.send_signal(signal.SIGCONT)
        cluster.stop()
    slowest = ", ".join(f"{name} {took:.1f} s" for name, took in sorted(load.slowest.items()))
    print(f"{how}: {load.done} commands, {rounds} times one server, {len(load.failed)} failed; slowest: {slowest}")
    if load.failed:
        raise SystemExit(f"failed: {load.failed[:3]}; logs in {folder}")
    if load.done < commands:
        raise SystemExit(f"only {load.done} of {commands} commands ended")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
