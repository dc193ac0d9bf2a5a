#!/usr/bin/env python3
"""Style is a test: fails on what is never right in this tree, and reports sizes, which are aims.

  tidy_test.py ROOT         every finding as file:line: rule: what is wrong; exit code 1 if there is one
  tidy_test.py --self-test  shows on a tiny bad tree that each rule can fail, and on a good one that none does

A line that is right although a rule says no ends in a comment `tidy-allow: why`.
"""

import os
import re
import sys
import tempfile

# --- The arrows: a room may include these rooms, or these headers of a room. Its own headers are always allowed, and
# its tests may use the simulated world.
ARROWS = {
    "base": [],
    "env": ["base/"],
    "wire": ["base/"],
    "raft": ["base/"],
    "log": ["base/", "env/", "raft/types.h"],
    "blob": ["base/", "env/"],
    "node": ["base/", "env/", "raft/", "log/", "blob/", "sluice/"],
    "edge": ["base/", "env/", "wire/", "raft/types.h", "node/", "sluice/"],
    "client": ["base/", "env/", "wire/", "edge/", "sluice/"],
    "app": ["base/", "env/", "node/", "edge/", "client/", "sluice/"],
    "sim": ["base/", "env/", "raft/", "log/", "blob/", "node/", "sluice/"],
    "sluice": ["base/"],  # include/sluice, the public headers
}
# inspect and repair look at a data folder offline
EXTRA_ARROWS = [("src/app/inspect", ["log/", "blob/"]), ("src/app/repair", ["log/"]),
                # simulated servers talk by the edge's own transports
                ("sim/cluster/", ["edge/", "wire/"])]

# --- Third-party headers: which paths may include them. "" is everywhere.
THIRD_PARTY = [
    (r".*\.grpc\.pb\.h", ["src/edge/", "src/client/"]),
    (r".*\.pb\.h|google/protobuf/.*", ["src/wire/", "src/edge/", "src/client/", "sim/cluster/"]),
    (r"grpc(pp)?/.*", ["src/edge/", "src/client/"]),
    (r"asio(/.*|\.hpp)", ["src/env/", "src/edge/", "src/client/", "sim/cluster/"]),
    (r"liburing.*", ["src/env/"]),
    (r"openssl/.*", ["src/base/digest", "src/edge/tls"]),
    (r"isa-l.*", ["src/base/"]),
    (r"rocksdb/.*", ["src/blob/"]),
    (r"snappy\.h|zlib\.h", ["src/wire/brpc/"]),
    (r"spdlog/.*", ["src/base/"]),
    (r"prometheus/.*", ["src/base/", "src/edge/http/"]),
    (r"civetweb\.h", ["src/edge/http/"]),
    (r"CLI/.*|toml\+\+.*|toml\.hpp|gperftools/.*", ["src/app/"]),
    (r"nlohmann/.*", ["src/app/", "src/edge/http/", "bench/"]),
    (r"(absl|fmt|gtest|gmock|benchmark)/.*", [""]),
    (r"(sys|linux|netinet|arpa|net|bits|experimental)/.*", [""]),  # the operating system
]

LOCK_FREE = ("src/raft/", "src/node/")
LOCKS = re.compile(r"\b(std::(recursive_|shared_|timed_)*mutex|std::condition_variable|(absl::)?Mutex(Lock)?\b|pthread_mutex)")
SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|SleepFor|time\.Sleep|time\.sleep|Thread\.sleep|sleep)\s*\(")
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\([^)]{8,}\))")
PAYLOAD = re.compile(r"\bstd::string\s*[&*]*\s*(payload|content|contents|chunk|body|bytes)_?\s*[,;=){]")
PAYLOAD_ROOMS = ("src/raft/", "src/log/", "src/blob/", "src/node/", "src/edge/", "src/client/", "include/sluice/")
NOUN = re.compile(r"\b(class|struct)\s+\w*(Manager|Utils?|Helpers?)\b(?!;)")
# Written in pieces, so that this file does not find itself.
MACHINE = re.compile("/wor" r"k/|/roo" r"t/|/hom" r"e/\w|deb\.debian\." r"org|pypi\." r"org|proxy\.golang\." r"org"
                     r"|crates\." r"io|registry\.npmjs|repo1?\.maven")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

CPP = (".h", ".cc")
TEXT = CPP + (".cmake", ".py", ".sh", ".md", ".proto", ".txt", ".json", ".go", ".java", ".xml", ".in", ".toml")
SKIPPED = {"build", ".git", "target", "testdata", "corpus", "__pycache__", "sluice-data", "venv", ".venv", "vectors"}
FILE_LINES, FUNCTION_LINES = 600, 70


def files_of(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        for name in sorted(names):
            if name.endswith(TEXT) or name == "Makefile":
                yield os.path.relpath(os.path.join(folder, name), root)


def room_of(path):
    match = re.match(r"src/(\w+)/|(sim)/|include/(sluice)/", path)
    return next((g for g in match.groups() if g), None) if match else None


def is_test(path):
    return path.endswith(("_test.cc", "_test_support.h")) or path.startswith(("sim/", "tests/"))


def without_comment(line):
    return re.sub(r"//.*", "", line)


def check_include(path, quote, header):
    """What is wrong with this include, or None."""
    room = room_of(path)
    first = header.split("/")[0]
    for pattern, allowed in THIRD_PARTY:
        if re.fullmatch(pattern, header):
            if not room or path.startswith(tuple(allowed)):  # bench, examples and tests/ stand outside the rooms
                return None
            return "third-party", f"{header} is confined to {' '.join(allowed)}"
    if not room:
        return None
    if first in ARROWS and "/" in header:
        allowed = ARROWS[room] + [room + "/"]
        for prefix, extra in EXTRA_ARROWS:
            allowed = allowed + extra if path.startswith(prefix) else allowed
        if is_test(path) and room != "base":
            allowed = allowed + ["sim/"]
        return None if header.startswith(tuple(allowed)) else ("arrow", f"{room} may not include {header}")
    if quote == '"':
        return "arrow", f'"{header}" does not begin with a room'
    if "/" in header:
        return "third-party", f"tests/tidy does not know who may include {header}"
    return None


def check_cpp_line(path, line):
    code = without_comment(line)
    include = INCLUDE.match(code)
    if include:
        finding = check_include(path, *include.groups())
        if finding:
            yield finding
    if path.startswith(LOCK_FREE) and not is_test(path) and LOCKS.search(code):
        yield "lock", "a lock in a room whose code lives on one shard"
    if path.startswith(PAYLOAD_ROOMS) and path.endswith(".h") and PAYLOAD.search(code):
        yield "payload", "payload travels in sluice::Bytes, not in std::string"
    if NOUN.search(code):
        yield "noun", "a class that manages, helps or is useful needs a better noun"


def check_line(path, line):
    if "tidy-allow: " in line:
        return
    if path.endswith(CPP):
        yield from check_cpp_line(path, line)
    if is_test(path) and not path.startswith("tests/tidy/") and SLEEP.search(without_comment(line)):
        yield "sleep", "a test waits for the event, not for time"
    if not path.startswith("tests/tidy/") and TODO.search(line):
        yield "todo", "TODO needs its reason: TODO(why it can wait)"
    if "\t" in line and not path.endswith((".go", "Makefile")):
        yield "tab", "tab"
    if line != line.rstrip():
        yield "trailing-space", "trailing space"
    if MACHINE.search(line):
        yield "machine", "a path or host of one machine"


def functions_of(lines):
    """(line, length) of bodies, found by layout: clang-format puts the closing brace under the first line."""
    start = re.compile(r"^( {0,4})(?!(if|for|while|switch|else|do|namespace|class|struct|enum|union|return)\b)\S.*\{$")
    for number, line in enumerate(lines, 1):
        match = start.match(line)
        if match and "(" in "".join(lines[max(0, number - 4):number]):
            end = next((n for n in range(number, len(lines)) if lines[n].startswith(match.group(1) + "}")), None)
            if end:
                yield number, end - number


# --- Fault cases: every number that a test carries has a row in docs/faults.md, every row a test or a reason.
CASES = [*range(1, 58), *range(69, 73)]
NAMED = re.compile(r"(?:TEST|TEST_F|TEST_P)\((\w+), *(\w+)\)|add_test\(NAME (\S+)|^set\(\w+ (F\d\d_\S+)\)")


def test_names(root):
    names = set()
    for path in files_of(root):
        if path.endswith("_test.cc") or path.endswith("CMakeLists.txt"):
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
                for suite, name, ctest, other in NAMED.findall(file.read()):
                    names.add(f"{suite}.{name}" if suite else ctest or other)
    scripts = os.path.join(root, "src/raft/testdata")
    return names | set(os.listdir(scripts) if os.path.isdir(scripts) else [])


def check_faults(root):
    page = os.path.join(root, "docs/faults.md")
    if not os.path.exists(page):
        return
    with open(page, encoding="utf-8") as file:
        rows = dict(re.findall(r"^\| F-(\d\d) \|(.*)\|$", file.read(), re.M))
    names = test_names(root)
    # ctest makes names out of lists; what stands before the first variable has to do.
    stems = {re.split(r"[$]", name)[0] for name in names if "$" in name}
    for case in CASES:
        if f"{case:02}" not in rows:
            yield f"docs/faults.md:1: faults: no row for F-{case:02}"
    for case, row in rows.items():
        told = re.findall(r"`([^` ]+)`", row.split("*open:*")[0])
        for test in told:
            if "make" in test or any(test in name for name in names) or any(test.startswith(s) for s in stems if s):
                continue
            yield f"docs/faults.md:1: faults: F-{case} names {test}, and there is no such test"
        if not told and "*open:*" not in row:
            yield f"docs/faults.md:1: faults: F-{case} has neither a test nor a reason"
    for name in names:
        for case in re.findall(r"(?:^|[._])F(\d\d)(?=_)", name):
            if int(case) in CASES and case not in rows:
                yield f"docs/faults.md:1: faults: {name} carries F-{case}, which has no row"


def check_tree(root):
    """(findings, sizes): lines to print."""
    findings, sizes, seen = [], [], 0
    for path in files_of(root):
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
        seen += path.endswith(CPP)
        if path.endswith(".h") and not re.match(r"// \w.{8,}", lines[0]):
            findings.append(f"{path}:1: header-comment: the first line says in one sentence what this is")
        for number, line in enumerate(lines, 1):
            findings += [f"{path}:{number}: {rule}: {what}" for rule, what in check_line(path, line)]
        if path.endswith(CPP):
            if len(lines) > FILE_LINES:
                sizes.append(f"{path}: {len(lines)} lines, aim {FILE_LINES}")
            sizes += [f"{path}:{at}: function of {size} lines, aim {FUNCTION_LINES}"
                      for at, size in functions_of(lines) if size > FUNCTION_LINES]
    findings += check_faults(root)
    if not seen:
        findings.append(f"{root}: empty: no C++ file found, so nothing was checked")
    return findings, sizes


# --- The test of the test: each bad file must give exactly its rule, each good one nothing.
HEAD = "// A small thing that is used by this test.\n"
BAD = [
    ("arrow", "src/raft/a.h", HEAD + '#include "env/clock.h"\n'),
    ("arrow", "src/log/a.h", HEAD + '#include "raft/core.h"\n'),
    ("arrow", "src/edge/ratis/a.h", HEAD + '#include "raft/core.h"\n'),
    ("arrow", "src/client/a.cc", '#include "node/host.h"\n'),
    ("arrow", "src/app/status.cc", '#include "log/log.h"\n'),
    ("arrow", "src/node/a.cc", '#include "sim/oracle.h"\n'),
    ("arrow", "include/sluice/a.h", HEAD + '#include "node/host.h"\n'),
    ("arrow", "src/log/b.cc", '#include "log.h"\n'),
    ("third-party", "src/node/a.cc", "#include <asio/post.hpp>\n"),
    ("third-party", "src/wire/a.cc", "#include <grpcpp/server.h>\n"),
    ("third-party", "src/node/b.cc", '#include "ratis/raft.pb.h"\n'),
    ("third-party", "src/wire/b.cc", '#include "ratis/grpc.grpc.pb.h"\n'),
    ("third-party", "src/base/crc32c.cc", "#include <openssl/evp.h>\n"),
    ("third-party", "src/log/a.cc", "#include <rocksdb/db.h>\n"),
    ("third-party", "src/edge/z.cc", "#include <zlib.h>\n"),
    ("third-party", "src/log/c.cc", "#include <boost/asio.hpp>\n"),
    ("lock", "src/raft/a.cc", "std::mutex mutex_;\n"),
    ("lock", "src/node/c.cc", "absl::MutexLock lock(&mutex_);\n"),
    ("sleep", "src/log/a_test.cc", "std::this_thread::sleep_for(kPause);\n"),
    ("sleep", "tests/interop/a.py", "time.sleep(1)\n"),
    ("todo", "src/log/d.cc", "// TO" "DO: later\n"),
    ("tab", "src/log/e.cc", "\tint a;\n"),
    ("trailing-space", "docs/a.md", "text \n"),
    ("header-comment", "src/log/f.h", "#pragma once\n"),
    ("payload", "src/blob/a.h", HEAD + "void Append(const std::string& payload);\n"),
    ("noun", "src/blob/b.h", HEAD + "class BlobManager {};\n"),
    ("machine", "docs/b.md", "see /wor" "k/main\n"),
]
GOOD = [
    ("src/log/a.h", HEAD + '#include "raft/types.h"\n#include <sys/uio.h>\n#include <vector>\n'),
    ("src/app/inspect.cc", '#include "log/log.h"\n#include "blob/store.h"\n'),
    ("src/app/repair.cc", '#include "log/repair.h"\n'),
    ("src/base/digest.cc", "#include <openssl/evp.h>\n"),
    ("src/raft/a.cc", "// no std::mutex here\n"),
    ("src/log/a_test_support.h", HEAD + '#include "sim/world.h"\n'),
    ("src/log/a_test.cc", '#include "sim/sim_files.h"\n'),
    ("src/node/a.cc", '#include "sluice/state_machine.h"\n#include "absl/status/status.h"\n'),
    ("sim/a.cc", '#include "sim/oracle.h"\n// TO' "DO(needs the snapshot format)\n"),
    ("tests/interop/a.py", "time.sleep(1)  # tidy-allow: the foreign peer tells nobody that it is up\n"),
]


def findings_for(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files:
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        return check_tree(root)


def self_test():
    failures = []
    for rule, path, text in BAD:
        rules = {f.split(": ")[1] for f in findings_for([(path, text), ("src/base/ok.cc", "\n")])[0]}
        if rules != {rule}:
            failures.append(f"{path}: expected {rule}, found {sorted(rules)}")
    failures += [f"good tree: {finding}" for finding in findings_for(GOOD)[0]]
    if not findings_for([("docs/a.md", "text\n")])[0]:
        failures.append("a tree without C++ files passes")
    rows = [f"| F-{case:02} | it holds | `Suite.F{case:02}_Holds` |" for case in CASES]
    tests = [("src/log/a_test.cc", "".join(f"TEST(Suite, F{case:02}_Holds) {{}}\n" for case in CASES[1:]))]
    page = findings_for([("docs/faults.md", "\n".join(rows[:-1]) + "\n"), *tests])[0]
    if len(page) != 3:
        failures.append(f"faults: a row without its test, a case and a test without a row: found {page}")
    long_function = "int F() {\n" + "  G();\n" * (FILE_LINES + 1) + "}\n"
    if len(findings_for([("src/log/a.cc", long_function)])[1]) != 2:
        failures.append("a file and a function over their sizes are not reported")
    print("\n".join(failures) or f"tidy: each of {len(BAD)} bad files is found, {len(GOOD)} good ones pass")
    return 1 if failures else 0


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.argv[1] == "--self-test":
        return self_test()
    findings, sizes = check_tree(sys.argv[1])
    if sizes:
        print("Sizes, aims rather than limits:", *sizes, sep="\n  ")
    print("\n".join(findings) or "tidy: clean")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
