#!/usr/bin/env python3
"""Three servers under mixed load, stopped and killed in turn; a bad end or a report of a sanitizer fails.

    ended_servers_test.py SERVER CLIENT STREAM_FILES SECONDS BASE_PORT

SERVER is the program, best built with a sanitizer, CLIENT the same without, STREAM_FILES the example that goes through
port +2. Load: puts of all sizes, gets that compare, lists, removals, counter writes, files over streams. Meanwhile servers
are ended by SIGTERM (F-40: exit code 0, whatever goes on) and by SIGKILL, and started again. K18. Only processes
started here are ended, by their ids.
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

SUPPRESSIONS = pathlib.Path(__file__).resolve().parent / "thread_sanitizer.supp"
COUNTER = "00000000-0000-0000-0000-0000000000c0"
STOP_SECONDS = 180  # a bound, not an expectation: sanitized servers on busy machines take their time


class Sanitized(Cluster):
    def __init__(self, server, client, folder, base_port):
        super().__init__(client, folder, base_port)
        self.server = server
        common = f"log_path={folder / 'report'}:halt_on_error=1"
        self.environment = dict(os.environ)
        self.environment["ASAN_OPTIONS"] = f"{common}:exitcode=99:detect_leaks=0"
        self.environment["UBSAN_OPTIONS"] = f"{common}:print_stacktrace=1"
        self.environment["TSAN_OPTIONS"] = (f"{common}:exitcode=99:ignore_noninstrumented_modules=1:"
                                            f"suppressions={SUPPRESSIONS}")

    def start(self, i, bootstrap=False):
        peers = ",".join(f"n{k}@{self.address(k)}" for k in range(3))
        command = [self.server, "serve", "--id", f"n{i}", "--listen", self.address(i), "--peers", peers,
                   "--data", str(self.folder / f"n{i}"), "--upload-idle-ttl-ms", "3s",
                   "--group", f"{COUNTER}=counter"]
        if bootstrap:
            command.append("--bootstrap")
        self.servers[i] = subprocess.Popen(command, stdout=self.logs[i], stderr=self.logs[i], env=self.environment)

    def end(self, i, how):
        """Ends a server. By SIGTERM it must end well."""
        self.servers[i].send_signal(how)
        code = self.servers[i].wait(timeout=STOP_SECONDS)
        if how == signal.SIGTERM and code != 0:
            raise SystemExit(f"n{i} was told to stop and ended with {code}; logs in {self.folder}")

    def wait_ready(self):
        try:
            super().wait_ready()
        except SystemExit:
            self.check_reports()  # the sanitizer ended one of them
            raise

    def check_reports(self):
        reports = [p for p in self.folder.glob("report*") if p.stat().st_size > 0]
        for report in reports:
            print(report.read_text(errors="replace")[:20_000], file=sys.stderr)
        if reports:
            raise SystemExit(f"{len(reports)} reports of the sanitizer; logs in {self.folder}")
        for i, server in enumerate(self.servers):
            if server.poll() not in (None, 0, -signal.SIGKILL):
                raise SystemExit(f"n{i} ended by itself with {server.returncode}; logs in {self.folder}")


class Load:
    """Threads that use the cluster until told to stop. Commands may fail: servers go. Wrong bytes must not come."""

    def __init__(self, cluster, stream_files, seed):
        self.cluster = cluster
        self.stream_files = stream_files
        self.over = threading.Event()
        self.done = {}
        self.wrong = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(work, random.Random(seed + k)))
                        for k, work in enumerate([self.files, self.files, self.counter, self.streams])]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def work(self, work, rng):
        folder = self.cluster.folder / f"load-{rng.getrandbits(32):08x}"
        folder.mkdir()
        while not self.over.is_set():
            work(rng, folder)

    def run(self, kind, *command):
        code = subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=STOP_SECONDS).returncode
        with self.lock:
            ok, all_ = self.done.get(kind, (0, 0))
            self.done[kind] = (ok + (code == 0), all_ + 1)
        return code == 0

    def files(self, rng, folder):
        client = self.cluster.program
        servers = self.cluster.addresses(rng.randrange(3))
        size = rng.choice([0, 1000, 65536, 65537, 300_000, 5_000_000])
        name = f"f/{rng.getrandbits(40):x}"
        source, copy = folder / "source", folder / "copy"
        source.write_bytes(rng.randbytes(size))
        if not self.run("put", client, "put", source, "--name", name, "--server", servers):
            return
        copy.unlink(missing_ok=True)
        one = self.cluster.addresses(rng.randrange(3))
        if self.run("get", client, "get", name, "-o", copy, "--server", one) and \
                copy.read_bytes() != source.read_bytes():
            self.wrong.append(name)
        if rng.random() < 0.5:
            self.run("rm", client, "rm", name, "--server", servers)
        if rng.random() < 0.2:
            self.run("ls", client, "ls", "--server", one)

    def counter(self, rng, _):
        self.run("counter", self.cluster.program, "bench", "log", "--machine", "counter", "--group-id", COUNTER,
                 "--in-flight", "8", "--seconds", "1s", "--server", self.cluster.addresses(rng.randrange(3)))

    def streams(self, rng, folder):
        port = f"127.0.0.1:{self.cluster.ports[rng.randrange(3)] + 2}"
        source, copy = folder / "source", folder / "copy"
        source.write_bytes(rng.randbytes(rng.choice([100, 100_000, 3_000_000])))
        name = f"s/{rng.getrandbits(40):x}"
        if self.run("stream put", self.stream_files, "put", port, source, name) and \
                self.run("stream get", self.stream_files, "get", port, name, copy) and \
                copy.read_bytes() != source.read_bytes():
            self.wrong.append(name)


def main():
    server, client, stream_files, seconds, base_port = sys.argv[1:6]
    seconds = int(os.environ.get("SLUICE_ENDED_SECONDS", seconds))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-ended-", dir=".")).resolve()
    cluster = Sanitized(server, client, folder, int(base_port))
    seed = int(os.environ.get("SLUICE_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        turns = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        end = time.monotonic() + seconds
        with Load(cluster, stream_files, seed) as load:
            while time.monotonic() < end or min(turns.values()) == 0:
                before = dict(load.done)
                while load.done == before and not load.wrong:  # some of the load has gone through since the last turn
                    if cluster.status(0) is None:
                        cluster.check_reports()
                victim = rng.randrange(3)
                how = min(turns, key=turns.get) if min(turns.values()) == 0 else \
                    rng.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])
                cluster.end(victim, how)
                turns[how] += 1
                cluster.start(victim)
                cluster.wait_ready()
                cluster.check_reports()
                if load.wrong:
                    raise SystemExit(f"wrong bytes came for {load.wrong}; folder {folder}")
            # The end of all, under load as well.
            for i in range(3):
                cluster.end(i, signal.SIGTERM)
        cluster.check_reports()
        if load.wrong or not all(ok for ok, _ in load.done.values()):
            raise SystemExit(f"wrong {load.wrong}, done {load.done}; logs in {folder}")
        stops = turns[signal.SIGTERM] + 3
        print(f"{stops} stops, {turns[signal.SIGKILL]} kills; " +
              ", ".join(f"{kind} {ok} of {all_}" for kind, (ok, all_) in sorted(load.done.items())))
    finally:
        for one in cluster.servers:
            if one is not None and one.poll() is None:
                one.kill()
                one.wait()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
