#!/usr/bin/env python3
"""`sluice repair` on folders of real servers: it tells first, changes nothing without --yes, and mends with it.

    repair_test.py SLUICE SCENARIO BASE_PORT

Scenarios: as-learner (F-09), drop-damaged (F-06), force-members (F-54). Only processes started here are ended.
"""
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from kill_test import Cluster

GROUP = "00000000-0000-0000-0000-736c75696365"


def run(*command, fails=False):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if (done.returncode != 0) != fails:
        raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Server:
    """A group of one."""

    def __init__(self, program, folder, port):
        self.command = [program, "serve", "--id", "n0", "--listen", f"127.0.0.1:{port}", "--data", folder / "data"]
        self.program, self.folder, self.data = program, folder, folder / "data"
        self.address = f"127.0.0.1:{port}"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2000):
            done = subprocess.run([self.program, "status", "--server", self.address], capture_output=True)
            if done.returncode == 0:
                return
            if self.process.poll() is not None:
                raise SystemExit("the server ended")
        raise SystemExit("the server is not ready")

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        self.process = None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def put(self, name, text):
        path = self.folder / "source"
        path.write_text(text)
        run(self.program, "put", path, "--name", name, "--server", self.address)

    def get(self, name):
        return run(self.program, "get", name, "-o", "-", "--server", self.address)

    def refuses(self, *words):
        told = run(*self.command, fails=True)
        for word in words:
            if word not in told:
                raise SystemExit(f"the refusal does not say {word!r}: {told}")

    def repair(self, kind, *flags):
        before = {path: path.read_bytes() for path in self.data.rglob("*") if path.is_file()}
        print(run(self.program, "repair", kind, self.data, "--group", GROUP, *flags))
        after = {path: path.read_bytes() for path in self.data.rglob("*") if path.is_file()}
        if before != after:
            raise SystemExit("it changed something without --yes")
        run(self.program, "repair", kind, self.data, "--group", GROUP, *flags, "--yes")


def as_learner(program, folder, port):
    server = Server(program, folder, port)
    server.start()
    server.put("a", "kept")
    server.stop()
    state = next(server.data.glob("log/state-*"))
    old = state.read_bytes()
    for _ in range(2):  # each start is a new term
        server.start()
        server.put("b", "kept too")
        server.stop()
    state.write_bytes(old)
    server.refuses("F-09", "sluice repair as-learner")
    if "sluice repair as-learner" not in run(program, "inspect", server.data, fails=True):
        raise SystemExit("inspect does not say what fits")
    server.repair("as-learner")
    server.start()
    assert server.get("a") == "kept" and server.get("b") == "kept too"
    server.put("c", "new")
    server.stop()


def drop_damaged(program, folder, port):
    server = Server(program, folder, port)
    server.start()
    server.put("a", "kept")
    server.put("b", "the entry that is damaged")
    server.put("c", "behind it")
    server.kill()
    for path in server.data.glob("log/segment-*"):
        content = path.read_bytes()
        at = content.find(b"the entry that is damaged")
        if at >= 0:
            path.write_bytes(content[:at] + b"T" + content[at + 1:])
    server.refuses("is damaged after entry", "sluice repair drop-damaged")
    if "sluice repair drop-damaged" not in run(program, "inspect", server.data, fails=True):
        raise SystemExit("inspect does not say what fits")
    server.repair("drop-damaged")
    server.start()
    assert server.get("a") == "kept"
    server.put("d", "new")
    server.stop()


def force_members(program, folder, port):
    cluster = Cluster(program, folder, port)
    try:
        for i in range(3):
            cluster.start(i, bootstrap=True)
        cluster.wait_ready()
        source = folder / "source"
        source.write_text("kept")
        run(program, "put", source, "--name", "a", "--server", cluster.addresses())
        for i in range(3):
            run(program, "get", "a", "-o", "-", "--server", cluster.address(i))
        for i in range(3):
            cluster.kill(i)
        survivor = Server(program, folder, port)
        survivor.data = folder / "n0"
        told = run(program, "inspect", survivor.data)
        if "3 voters" not in told or "sluice repair force-members" not in told:
            raise SystemExit(f"inspect does not say what fits: {told}")
        survivor.repair("force-members", "--member", f"n0@{cluster.address(0)}")
        cluster.start(0)
        assert run(program, "get", "a", "-o", "-", "--server", cluster.address(0)) == "kept"
        run(program, "put", source, "--name", "b", "--server", cluster.address(0))
        # One of the old servers comes back: it is nobody here.
        cluster.start(1)
        for turn in range(5):
            run(program, "put", source, "--name", f"c{turn}", "--server", cluster.address(0))
        told = subprocess.Popen([program, "get", "b", "-o", "-", "--server", cluster.address(1)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            got, why = told.communicate(timeout=5)
        except subprocess.TimeoutExpired:  # it waits for a leader that does not come
            told.kill()
            got, why = told.communicate()
        if told.returncode == 0 or got or told.returncode == 2:
            raise SystemExit(f"a server that was left out serves the group: {told.returncode} {got!r} {why}")
        if cluster.leader() != 0:
            raise SystemExit(f"the leader is {cluster.leader()}")
    finally:
        cluster.stop()


def main():
    program, scenario, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-repair-", dir=".")).resolve()
    {"as-learner": as_learner, "drop-damaged": drop_damaged, "force-members": force_members}[scenario](
        program, folder, port)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
