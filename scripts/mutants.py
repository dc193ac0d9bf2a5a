#!/usr/bin/env python3
"""One-line bugs, planted one at a time: does a test notice? tests/mutants/*.txt lists them, README.md there says how.

    scripts/mutants.py check                every one applies to the tree as it is, once
    scripts/mutants.py run [--minutes N] [--jobs N] [--only WORD] [--again] [--survivors]
                                            builds and runs tests with one planted, until one fails
    scripts/mutants.py report               docs/mutants.md from the results

The tree is copied to build/mutants/tree, where all building happens. Results are kept in build/mutants/results.json
after each mutant, so that a run goes on where the last one stopped; a mutant whose text or whose file changed since is
run again, and with --survivors, after a new test, those that none had noticed. Exit code 1: one does not apply, or fewer
than 97 in 100 of those that ran were noticed.
"""

import argparse
import collections
import hashlib
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
LISTS = ROOT / "tests" / "mutants"
WORK = ROOT / "build" / "mutants"
TREE, RESULTS = WORK / "tree", WORK / "results.json"
ASKED_PERCENT = 97
BUILD_SECONDS, TEST_SECONDS = 3000, 240
# A room's own tests first, then those of the rooms above it, up to whole clusters.
CLUSTER = [("cluster_test", "-*ClusterRandom*:*ClusterReplay*"), ("cluster_test", "Shard/ClusterRandom.*/0")]
PROGRAMS = {
    "raft": [("raft_test", "*")] + CLUSTER,
    "env": [("env_test", "*")] + CLUSTER,
    "log": [("log_test", "*")] + CLUSTER,
    "blob": [("blob_test", "*")] + CLUSTER,
    "node": [("node_test", "*")] + CLUSTER,
    "edge": [("edge_test", "*"), ("client_test", "*")] + CLUSTER,
    "client": [("client_test", "*")],
    "app": [("app_test", "*")],
}
RANDOM_SEEDS = "40"  # of which the shard above runs a quarter
Mutant = collections.namedtuple("Mutant", "name file rules why old new")


def load():
    mutants, names = [], set()
    for path in sorted(LISTS.glob("*.txt")):
        for block in re.split(r"^== ", path.read_text(), flags=re.M)[1:]:
            lines = block.rstrip("\n").split("\n")
            name, file, *rules = lines[0].split()
            why = " ".join(line for line in lines[1:] if line and line[0] not in "-+")
            old = "\n".join(line[1:] for line in lines[1:] if line.startswith("-"))
            new = "\n".join(line[1:] for line in lines[1:] if line.startswith("+"))
            if not rules or not why or not old or name in names:
                sys.exit(f"{path}: {name}: a name of its own, a rule, a reason and the old text are needed")
            names.add(name)
            mutants.append(Mutant(name, file, rules, why, old, new))
    return mutants


def planted(mutant, text):
    """The file's text with the bug in it; None unless the old text stands there exactly once."""
    return text.replace(mutant.old, mutant.new) if text.count(mutant.old) == 1 else None


def check(mutants):
    wrong = []
    for mutant in mutants:
        path = ROOT / mutant.file
        text = path.read_text() if path.exists() else ""
        if planted(mutant, text) in (None, text):
            wrong.append(f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file}")
    print("\n".join(wrong) if wrong else f"{len(mutants)} mutants, each applies")
    return not wrong


def room(mutant):
    return mutant.file.split("/")[1]


def stamp(mutant):
    return hashlib.sha256("\0".join([mutant.old, mutant.new, (ROOT / mutant.file).read_text()]).encode()).hexdigest()[:16]


def copy_tree():
    """The files that git knows, as they are now; only what differs is written, so that builds stay small."""
    names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, TREE / name
        if not source.is_file():
            continue
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        os.utime(target)
    known = set(names)
    for path in (TREE / "src").rglob("*"):
        if path.is_file() and str(path.relative_to(TREE)) not in known:
            path.unlink()


def call(command, seconds, environment=None):
    """(exit code or None after `seconds`, output). Ends what it started, children included."""
    process = subprocess.Popen(command, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True, env={**os.environ, **(environment or {})})
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output


def build(targets, jobs):
    return call(["ninja", "-C", "build/mutant", f"-j{jobs}", *targets], BUILD_SECONDS)


def program(target):
    return next(p for p in (TREE / "build/mutant").rglob(target) if p.is_file() and os.access(p, os.X_OK))


def judge(mutant, jobs):
    """What noticed the mutant: ("killed", by whom), ("survived", "") or ("broken", why)."""
    steps = PROGRAMS[room(mutant)]
    for target, chosen in steps:
        code, output = build([target], jobs)
        if code != 0:
            return "broken", output[-2000:]
        code, output = call([str(program(target)), f"--gtest_filter={chosen}", "--gtest_fail_fast", "--gtest_brief=1"],
                            TEST_SECONDS, {"SLUICE_SEEDS": RANDOM_SEEDS})
        if code == 0:
            continue
        failed = re.search(r"\[  FAILED  \] (\S+)", output)
        if failed:
            return "killed", failed.group(1)
        return "killed", f"{target} " + ("hangs" if code is None else "aborts")
    return "survived", ""


def results():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def run(mutants, minutes, jobs, only, again, survivors):
    end = time.monotonic() + 60 * minutes
    WORK.mkdir(parents=True, exist_ok=True)
    copy_tree()
    code, output = call(["cmake", "-S", ".", "-B", "build/mutant", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=None",
                         "-DCMAKE_CXX_COMPILER=clang++-14", "-DCMAKE_CXX_FLAGS=-O1 -g0",
                         "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=mold"], 600)
    if code != 0:
        sys.exit(output)
    todo = [m for m in mutants if only in m.name or only in m.file]
    known = results()
    if survivors:
        todo = [m for m in todo if known.get(m.name, {}).get("outcome") not in (None, "killed")]
    elif not again:
        todo = [m for m in todo if known.get(m.name, {}).get("stamp") != stamp(m)]
    programs = sorted({target for m in todo for target, _ in PROGRAMS[room(m)]})
    code, output = build(programs, jobs) if programs else (0, "")
    if code != 0:
        why = "it takes longer" if code is None else output[-2000:]
        sys.exit(f"the tree does not build without a mutant in {BUILD_SECONDS} s: {why}")
    for mutant in todo:
        if time.monotonic() > end:
            print(f"{minutes} minutes are over; the next run goes on here")
            break
        path = TREE / mutant.file
        clean = path.read_text()
        bug = planted(mutant, clean)
        if bug is None:
            sys.exit(f"{mutant.name} does not apply")
        path.write_text(bug)
        begun = time.monotonic()
        try:
            outcome, by = judge(mutant, jobs)
        finally:
            path.write_text(clean)
        known = results()
        known[mutant.name] = {"stamp": stamp(mutant), "outcome": outcome, "by": by}
        RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True))
        print(f"{outcome:8} {mutant.name} ({time.monotonic() - begun:.0f} s) {by.splitlines()[-1] if by else ''}", flush=True)
    return summary(mutants)


def summary(mutants):
    known = results()
    ran = [m for m in mutants if m.name in known]
    killed = [m for m in ran if known[m.name]["outcome"] == "killed"]
    for mutant in ran:
        if known[mutant.name]["outcome"] != "killed":
            print(f"{known[mutant.name]['outcome'].upper()}: {mutant.name} {mutant.file}: {mutant.why}")
    percent = 100 * len(killed) / len(ran) if ran else 0
    print(f"{len(mutants)} mutants, {len(ran)} ran, {len(killed)} noticed ({percent:.1f} %), {ASKED_PERCENT} % asked")
    return bool(ran) and percent >= ASKED_PERCENT


# Kept below the results in docs/mutants.md when that is written anew.
EXPLAINED = "## Survivors, explained\n"


def report(mutants):
    known = results()
    page = ROOT / "docs" / "mutants.md"
    before = page.read_text() if page.exists() else ""
    explained = before[before.index(EXPLAINED):] if EXPLAINED in before else EXPLAINED + "None yet.\n"
    lines = ["# Mutants", "",
             "One-line bugs that a careless developer could make, planted one at a time (`tests/mutants`,",
             "`make soak PART=mutants`). Written by `scripts/mutants.py report`; what explains a survivor is kept.", "",
             "| room | listed | ran | noticed |", "|---|---|---|---|"]
    rooms = sorted({room(m) for m in mutants})
    for each in rooms + ["all"]:
        those = [m for m in mutants if each in ("all", room(m))]
        ran = [m for m in those if m.name in known]
        killed = [m for m in ran if known[m.name]["outcome"] == "killed"]
        lines.append(f"| {each} | {len(those)} | {len(ran)} | {len(killed)} |")
    lines += ["", "| mutant | file | rule | outcome |", "|---|---|---|---|"]
    for mutant in mutants:
        result = known.get(mutant.name)
        outcome = "not run yet" if result is None else \
            f"`{result['by']}`" if result["outcome"] == "killed" else f"**{result['outcome']}**"
        lines.append(f"| {mutant.name} | `{mutant.file[4:]}` | {' '.join(mutant.rules)} | {outcome} |")
    page.write_text("\n".join(lines) + "\n\n" + explained)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "run", "report"])
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="those whose name or file contains this")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--survivors", action="store_true", help="those that no test noticed, and no others")
    given = parser.parse_args()
    mutants = load()
    if given.what == "check":
        return 0 if check(mutants) else 1
    if given.what == "report":
        return 0 if report(mutants) else 1
    return 0 if check(mutants) and run(mutants, given.minutes, given.jobs, given.only, given.again,
                                       given.survivors) else 1


if __name__ == "__main__":
    sys.exit(main())
