"""Publishes KV-event batches as vLLM's ZmqEventPublisher does (facts: vLLM 0.32.0, `vllm/distributed/kv_events.py`).

    python publisher.py --endpoint tcp://127.0.0.1:5557 [--connect] [--replay tcp://127.0.0.1:5600] [--old]
                        [--topic kv@pod-0@m] [--hwm 100000] [--buffer-steps 10000] [--first 0]

One thread publishes and answers replays, as in vLLM. Commands come on standard input, one a line:

    batch BASE64   number it, publish it, keep it
    lose BASE64    number it and keep it, but publish it to nobody
    forget         number one that nobody ever sees
    sleep SECONDS  publish nothing and answer nothing
    flush          answers "flushed NEXT" on standard output

The first line of standard output is "ready ENDPOINT REPLAY_ENDPOINT". It ends with its standard input.
"""

import argparse
import base64
import collections
import os
import sys
import time

import zmq

END = (2**64 - 1).to_bytes(8, "big")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--connect", action="store_true")
    parser.add_argument("--replay")
    parser.add_argument("--old", action="store_true", help="replies without a topic, as before vLLM 0.26")
    parser.add_argument("--topic", default="")
    parser.add_argument("--hwm", type=int, default=100_000)
    parser.add_argument("--buffer-steps", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()

    context = zmq.Context()
    publish = context.socket(zmq.PUB)
    publish.set_hwm(arguments.hwm)
    (publish.connect if arguments.connect else publish.bind)(arguments.endpoint)
    replay = None
    replay_endpoint = ""
    if arguments.replay:
        replay = context.socket(zmq.ROUTER)
        replay.bind(arguments.replay)
        replay_endpoint = replay.getsockopt_string(zmq.LAST_ENDPOINT)
    print("ready", publish.getsockopt_string(zmq.LAST_ENDPOINT), replay_endpoint, flush=True)

    topic = arguments.topic.encode()
    kept = collections.deque(maxlen=arguments.buffer_steps)
    following = arguments.first

    def answer() -> None:
        client, delimiter, start = replay.recv_multipart()
        assert delimiter == b""
        for number, payload in kept:
            if number >= int.from_bytes(start, "big"):
                frames = [number.to_bytes(8, "big"), payload]
                replay.send_multipart([client, b""] + ([] if arguments.old else [topic]) + frames)
        replay.send_multipart([client, b""] + ([] if arguments.old else [b""]) + [END, b""])

    # Lines are read from the descriptor: a reader with a buffer of its own would hide them from poll.
    poller = zmq.Poller()
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    if replay:
        poller.register(replay, zmq.POLLIN)
    rest = b""
    while True:
        ready = dict(poller.poll())
        if replay in ready:
            answer()
        if sys.stdin.fileno() not in ready:
            continue
        read = os.read(sys.stdin.fileno(), 1 << 20)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            command, _, argument = line.decode().partition(" ")
            if command == "batch":
                payload = base64.b64decode(argument)
                publish.send_multipart([topic, following.to_bytes(8, "big"), payload])
                kept.append((following, payload))
                following += 1
            elif command == "lose":
                kept.append((following, base64.b64decode(argument)))
                following += 1
            elif command == "forget":
                following += 1
            elif command == "sleep":
                time.sleep(float(argument))
            elif command == "flush":
                print("flushed", following, flush=True)
            else:
                sys.exit(f"unknown command {command!r}")


main()
