// What all views share: the status and the traffic of now, and rates since before.
import { get } from './api.js';
import { ago } from './format.js';
import { every } from './poll.js';

const period = 2000;
const kept = 150; // of the totals: five minutes
const keptOfService = 60;

/** live is what is known. trouble is null while usher answers. */
export const live = {
  status: null, statusAt: 0, trouble: null, restarted: 0,
  totals: { time: [], conns: [], bytes: [], trouble: [] },
  services: new Map(), // by NAMESPACE/NAME: sums over its ports
  ports: new Map(),    // by NAMESPACE/NAME PORT/PROTOCOL
};

const watchers = new Set();

/** onLive calls f now and whenever there is news, until signal is aborted. */
export function onLive(f, signal) {
  watchers.add(f);
  signal.addEventListener('abort', () => watchers.delete(f));
  f();
}

/** begin asks from now on. */
export function begin() {
  every(period, async () => {
    try {
      const [status, traffic] = await Promise.all([get('/v1/status'), get('/v1/traffic').catch(absent)]);
      if (live.status && live.status.started !== status.started) forget();
      live.status = status;
      live.statusAt = Date.now();
      live.trouble = null;
      if (traffic) take(traffic);
    } catch (e) {
      live.trouble = e;
    }
    for (const f of watchers) f();
  }, new AbortController().signal);
}

function absent(e) {
  if (e.kind === 'absent') return null;
  throw e;
}

// forget begins anew: the counters of another process begin at zero.
function forget() {
  live.restarted = Date.now();
  live.ports.clear();
  live.services.clear();
  live.before = 0;
}

const counters = ['opened', 'closed', 'trouble', 'failed', 'retries', 'retried', 'bytes_in', 'bytes_out', 'datagrams_in', 'datagrams_out', 'dropped'];

/** portKey is the key of ports. */
export const portKey = (namespace, service, port, protocol) => `${namespace}/${service} ${port}/${protocol}`;

function take(traffic) {
  const now = Date.parse(traffic.time) / 1000;
  const seconds = live.before ? now - live.before : 0;
  if (live.before && seconds <= 0) return;
  live.before = now;
  for (const s of live.services.values()) Object.assign(s, nothing());
  for (const t of traffic.ports || []) {
    const key = portKey(t.namespace, t.service, t.port_name, t.protocol);
    const before = live.ports.get(key);
    const p = rates(t, before && before.now, seconds);
    live.ports.set(key, p);
    add(`${t.namespace}/${t.service}`, p);
  }
  const sum = nothing();
  for (const s of live.services.values()) {
    if (seconds) s.history.push(s.conns);
    if (s.history.length > keptOfService) s.history.shift();
    for (const k of ['conns', 'in', 'out', 'troubles']) sum[k] += s[k];
  }
  if (!seconds) return;
  const t = live.totals;
  t.time.push(now); t.conns.push(sum.conns); t.bytes.push(sum.in + sum.out); t.trouble.push(sum.troubles);
  if (t.time.length > kept) for (const list of Object.values(t)) list.shift();
}

const nothing = () => ({ conns: 0, active: 0, waiting: 0, in: 0, out: 0, troubles: 0, retries: 0, p99: -1, opened: 0 });

// What usher leaves out is 0.
const sent = { waiting: 0, ...Object.fromEntries(counters.map(c => [c, 0])) };

// rates are those of one port. A counter that has fallen is one that began anew.
function rates(told, before, seconds) {
  const now = { ...sent, ...told }, per = {};
  for (const c of counters) per[c] = before && seconds && now[c] >= before[c] ? (now[c] - before[c]) / seconds : 0;
  return { now, per };
}

function add(key, { now, per }) {
  let s = live.services.get(key);
  if (!s) live.services.set(key, s = { ...nothing(), history: [] });
  s.conns += per.opened; s.in += per.bytes_in; s.out += per.bytes_out;
  s.troubles += per.trouble; s.retries += per.retries;
  s.active += now.active; s.waiting += now.waiting; s.opened += now.opened;
  if (now.recent) s.p99 = Math.max(s.p99, now.recent.connect_p99_ms);
}

/** since is how long the usher that answers has run, for the end of a sentence. */
export const since = () => live.status ? ` since usher began ${ago(live.status.started)} ago` : '';
