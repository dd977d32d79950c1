#!/usr/bin/env python3
"""Makes the captures of this directory from the full ones they are taken from.

    python3 shrink.py DIRECTORY_OF_THE_FULL_CAPTURES [OUTPUT_DIRECTORY]

Nothing is rewritten: a small simulated capture is the header and the leading lines of a full one (every
query is valid where it stands, so a prefix is a capture too), and of a live one whole lines are kept. The
same input gives the same bytes: gzip headers carry neither a time nor a name.
"""
import gzip
import io
import itertools
import json
import pathlib
import sys

# name here -> (name of the full capture, lines taken, header included). Each is long enough for evictions,
# further copies of a block and their removal, adapters and salts to occur (the counts: README.md).
SIMULATED = {
    "sim-cbor-small": ("sim-20k", 1400),
    "sim-full-reports-small": ("sim-full-reports-3k", 1300),
    "sim-sha256-bytes-small": ("sim-sha256-bytes-2k", 800),
    "sim-hybrid-swa-small": ("sim-hybrid-swa-3k", 600),
}
# name here -> (name of the full capture, what its subscriber saw, what a replay socket sent)
LIVE = {
    "live-3pods": ("connect-3pods", ["events-scenario", "events-workload"], "replay-all-*.jsonl"),
    "live-late-join": ("bind-late-join", ["events-live"], "replay.jsonl"),
}
END_OF_REPLAY = "//////////8="  # sequence number -1
# What is needed of a pod's description.
POD_KEYS = ("pod", "topic", "events_mode", "block_size", "num_blocks", "hash_algo", "hash_seed",
            "int_block_hashes", "lora")


def write(path, lines):
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.writelines(line.encode() for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getvalue())


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        yield from file


def is_needed(line):
    """An exchange the reader uses: adapters, resets, and completions that came in one piece with token ids.
    Requests sent at the same moment are left out: in which order the engine saw them is not known."""
    exchange = json.loads(line)
    request, response = exchange["request"], exchange["response"]
    if request["path"] in ("/v1/models", "/reset_prefix_cache"):
        return True
    body = request["body"] if isinstance(request["body"], dict) else {}
    whole = response["status"] == 200 and "prompt_token_ids" in (response.get("body") or "")
    return whole and body.get("return_token_ids") is True and not exchange["name"].startswith("concurrent")


def live(source, target, subscribed, replayed):
    pods = json.loads((source / "pods.json").read_text())
    pods = [{key: pod[key] for key in POD_KEYS} for pod in pods]
    target.mkdir(parents=True, exist_ok=True)
    (target / "pods.json").write_text(json.dumps(pods, indent=1) + "\n")
    seen = set()
    for name in subscribed:
        lines = list(lines_of(source / f"{name}.jsonl"))
        seen.update(tuple(json.loads(line).get("frames", [])[-3:]) for line in lines)
        write(target / f"{name}.jsonl.gz", lines)
    # Of the replays only what the subscriber had missed; END_OF_REPLAY carries no batch.
    missed = []
    for path in sorted(source.glob(replayed)):
        for line in lines_of(path):
            message = json.loads(line)
            batch = tuple(message.get("frames", [])[-3:])
            if message.get("dir") == "in" and batch[1] != END_OF_REPLAY and batch not in seen:
                missed.append(line)
    if missed:
        write(target / "replay-missed.jsonl.gz", missed)
    write(target / "workload.jsonl.gz", lines_of(source / "workload.jsonl"))
    for path in sorted(source.glob("http-*.jsonl")):
        write(target / f"{path.name}.gz", filter(is_needed, lines_of(path)))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent
    for name, (full, count) in SIMULATED.items():
        with gzip.open(source / f"{full}.jsonl.gz", "rt", encoding="utf-8") as file:
            write(target / f"{name}.jsonl.gz", itertools.islice(file, count))
    for name, (full, subscribed, replayed) in LIVE.items():
        live(source / full, target / name, subscribed, replayed)


if __name__ == "__main__":
    main()
