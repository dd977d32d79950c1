"use strict";
// Shows status.json, again every two seconds while somebody looks. Names come from pods and clients: they are only ever
// set as text.

const PAUSE_MS = 2000;
const MOST_PODS = 200;
const open = new Map(); // number of a decision -> its explanation, or null while it is fetched

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else made.setAttribute(key, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child ?? "–"))));
  return made;
};
const cell = (text, kind = "") => element("td", kind ? { class: kind } : {}, text);
const number = (value) => cell(value == null ? null : count(value), "n");

const count = (value) => Math.round(value).toLocaleString("en-US");
const share = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const bytes = (value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
};
const duration = (seconds) => {
  if (seconds == null) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 2 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
};
const time = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");
const ranked = (name, rank) => (rank ? `${name} / ${rank}` : name);

const GOOD = { ready: "good", exact: "good", hit: "good", learning: "middling", draining: "middling",
  degraded: "middling", approximate: "middling", partial: "middling", "load-only": "bad", silent: "bad",
  unusable: "bad", miss: "soft", unknown: "soft" };

function rate(label, part, whole) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  bar.setAttribute("height", "100%");
  bar.setAttribute("width", `${whole > 0 ? Math.min(100, (100 * part) / whole) : 0}%`);
  svg.append(bar);
  return element("span", { class: "rate" }, svg, element("span", {}, `${share(part, whole)} ${label}`));
}

function figures(status) {
  const { gateway, router } = status;
  const sum = (field) => gateway.pods.reduce((sum, pod) => sum + pod[field], 0);
  const shown = [
    ["requests", count(sum("requests"))],
    ["in flight", count(gateway.in_flight)],
    ["expected hit rate", share(sum("expected_cached_tokens"), sum("prompt_tokens"))],
    ["hit rate by the engines", share(sum("confirmed_cached_tokens"), sum("confirmed_prompt_tokens"))],
    ["blocks known", count(router.index.blocks)],
    ["index", bytes(router.index.bytes + router.index.view_bytes)],
    ["sessions", count(router.counters.sessions)],
  ];
  return shown.map(([name, value]) => element("div", {}, element("b", {}, value), element("i", {}, name)));
}

function podRows(status) {
  const routed = new Map(status.router.pods.map((pod) => [pod.id, pod]));
  const key = (name, rank) => JSON.stringify([name, rank]);
  const tokens = new Map(status.gateway.pods.map((pod) => [key(pod.name, pod.dp_rank), pod]));
  const lags = new Map(status.fleet.events.streams.map((s) => [key(s.pod, s.dp_rank), s.lag_seconds]));
  const rows = [];
  for (const pod of status.fleet.pods) {
    const ranks = pod.ranks.length ? pod.ranks : [{ rank: 0 }];
    for (const rank of ranks) {
      if (rows.length === MOST_PODS) return rows;
      const known = routed.get(rank.id);
      const did = tokens.get(key(pod.name, rank.rank));
      const load = rank.load;
      const models = (pod.known?.models ?? []).map((model) => model.name);
      const name = element("td", { class: "name" }, element("b", {}, ranked(pod.name, rank.rank)),
        element("span", { class: "sub" }, pod.url));
      if (pod.error) name.append(element("span", { class: "sub trouble" }, pod.error));
      const capacity = pod.known?.blocks?.value;
      const held = known && Math.max(0, known.stream.blocks_stored - known.stream.blocks_removed);
      const hits = element("td", {});
      if (did) {
        hits.append(rate("expected", did.expected_cached_tokens, did.prompt_tokens));
        if (did.confirmed_prompt_tokens) {
          hits.append(rate("by the engine", did.confirmed_cached_tokens, did.confirmed_prompt_tokens));
        }
      } else hits.append("–");
      const heldCell = number(held);
      if (held != null && known) {
        const trust = known.parked_blocks ? `${count(known.parked_blocks)} wait` : capacity ? `of ${count(capacity)}` : "";
        if (trust) heldCell.append(element("span", { class: "sub" }, trust));
      }
      const stale = rank.stale && load ? `, ${duration(rank.load_seconds_ago)} old` : "";
      rows.push(element("tr", {}, name, cell(pod.state, GOOD[pod.state]), cell(known?.role),
        element("td", { class: "name" }, models.join(", ") || "–",
          ...(pod.domain ? [element("span", { class: "sub" }, pod.domain)] : [])),
        cell(known?.trust, GOOD[known?.trust]),
        cell(load ? `${load.running} + ${load.waiting}${stale}` : null, "n"),
        cell(load ? share(load.kv_usage, 1) : null, "n"),
        heldCell, number(known?.predicted.blocks), number(did?.requests ?? 0), hits,
        cell(duration(lags.get(key(pod.name, rank.rank))), "n")));
    }
  }
  return rows;
}

function decisionRow(decision) {
  const show = (event) => { event.stopPropagation(); toggle(decision.number); };
  const what = `${decision.endpoint}${decision.model ? ` · ${decision.model}` : ""}`;
  const pod = decision.pod == null ? null : ranked(decision.pod, decision.dp_rank);
  const isOpen = open.has(decision.number);
  return element("tr", { class: "decision", onclick: show },
    element("td", {}, element("button", { onclick: show, "aria-expanded": isOpen }, time(decision.ended))),
    cell(what, "name"),
    element("td", { class: "name" }, pod,
      ...(decision.prefill_pod ? [element("span", { class: "sub" }, `prefill: ${decision.prefill_pod}`)] : [])),
    cell(decision.reason), number(decision.prompt_tokens), number(decision.expected_cached_tokens),
    number(decision.engine_cached_tokens), cell(decision.cache, GOOD[decision.cache]),
    cell(decision.margin && decision.margin.toPrecision(2), "n"), cell(duration(decision.overhead_seconds), "n"),
    cell(duration(decision.first_byte_seconds), "n"),
    cell(decision.status || decision.end, decision.status >= 400 || !decision.status ? "n bad" : "n"));
}

function explained(explanation) {
  const head = ["", "pod", "total", "cached blocks", "predicted", "to compute", "in flight", "trust", "scores", ""];
  const rows = explanation.pods.map((pod, at) => {
    const blocks = pod.matched_blocks.map(([tier, blocks]) => `${blocks} ${tier}`).join(", ") || "0";
    const scores = pod.scores.map((s) => `${s.scorer} ${s.value.toFixed(3)} × ${s.weight}`).join(", ");
    const why = [pod.dropped_by && `dropped by ${pod.dropped_by}`, explanation.overruled === at && "overruled",
      pod.overloaded && "overloaded", pod.note].filter(Boolean).join("; ");
    return element("tr", explanation.picked === at ? { class: "picked" } : {},
      cell(explanation.picked === at ? "▸" : ""), cell(ranked(pod.pod, pod.dp_rank), "name"), cell(pod.total.toFixed(3), "n"),
      cell(`${blocks} of ${pod.searchable_blocks}`), number(pod.predicted_blocks), cell(`${count(pod.uncached_tokens)} tokens`, "n"),
      number(pod.in_flight), cell(pod.trust, GOOD[pod.trust]), cell(scores), cell(why, "soft"));
  });
  const parts = [element("p", {}, `profile ${explanation.profile}, picker ${explanation.picker}: ${explanation.reason}` +
    (explanation.session ? `; session: ${explanation.session}` : "") +
    (explanation.unused ? `; not used: ${explanation.unused}` : "") +
    (explanation.not_sampled ? `; ${count(explanation.not_sampled)} pods were not looked at` : "")),
    element("table", {}, element("thead", {}, element("tr", {}, ...head.map((name) => element("th", {}, name)))),
      element("tbody", {}, ...rows))];
  if (explanation.prefill) parts.push(element("p", {}, "prefill"), ...explained(explanation.prefill));
  return parts;
}

function decisionRows(decisions) {
  const kept = new Set(decisions.map((decision) => decision.number));
  for (const number of open.keys()) if (!kept.has(number)) open.delete(number);
  return decisions.flatMap((decision) => {
    const row = decisionRow(decision);
    if (!open.has(decision.number)) return [row];
    const explanation = open.get(decision.number);
    const why = element("td", { class: "why", colspan: 12 }, ...(explanation ? explained(explanation) : ["…"]));
    return [row, element("tr", {}, why)];
  });
}

let last = null;

async function toggle(number) {
  if (open.delete(number)) return show(last);
  open.set(number, null);
  show(last);
  const answer = await fetch(`decisions/${number}`).catch(() => null);
  if (!open.has(number)) return;
  if (answer?.ok) open.set(number, (await answer.json()).explanation);
  else open.delete(number);
  show(last);
}

function show(status) {
  const { gateway } = status;
  document.getElementById("figures").replaceChildren(...figures(status));
  const pods = podRows(status);
  document.querySelector("#pods tbody").replaceChildren(...pods);
  const ready = status.fleet.pods.filter((pod) => pod.state === "ready").length;
  document.getElementById("pods-note").textContent = `${ready} of ${status.fleet.pods.length} ready` +
    (pods.length === MOST_PODS ? `; the first ${MOST_PODS} are shown` : "");
  document.querySelector("#decisions tbody").replaceChildren(...decisionRows(status.decisions));
  document.getElementById("none").hidden = status.decisions.length > 0;
  const state = document.getElementById("state");
  state.className = "";
  state.textContent = `${gateway.version}, up ${duration(gateway.uptime_seconds)}, routing by ` +
    (gateway.routing === "policy" ? `policy "${gateway.profile}"` : "turn") + (gateway.draining ? ", draining" : "");
}

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch("status.json", { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      last = await answer.json();
      show(last);
    } catch (error) {
      const state = document.getElementById("state");
      state.className = "lost";
      state.textContent = `the gateway does not answer (${error.message})`;
    }
  }
  setTimeout(look, PAUSE_MS);
}

look();
