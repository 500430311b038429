// What is live now: connections of TCP and sessions of UDP.
import { get } from '../api.js';
import { fill, h, setText } from '../dom.js';
import { age, ago, bytes, count, ms, servicePort, whole } from '../format.js';
import { live } from '../live.js';
import { every } from '../poll.js';
import { opener, Table } from '../table.js';
import { openDialog } from '../dialog.js';

const most = 1000;
const text = (name, of, more) => ({ name, value: of, draw: (td, c) => { setText(td, of(c)); td.title = td.textContent; }, ...more });
const measure = (name, field, format, more) => ({ name, numeric: true, value: c => c[field], draw: (td, c) => setText(td, format(c[field])), ...more });
const target = c => servicePort(c.namespace, c.service, c.port_name);
const bytesIn = measure('In', 'bytes_in', bytes, { class: 'wide', width: '90px' });
const bytesOut = measure('Out', 'bytes_out', bytes, { class: 'wide', width: '90px' });

const tcpColumns = [
  { name: 'Client', value: c => c.client, draw: (td, c) => opener(td, c.client, () => showConnection(c)) },
  text('Service', target),
  text('Endpoint', c => c.pod || c.endpoint || 'none yet', { class: 'wide' }),
  { name: 'State', width: '104px', value: c => c.state, draw: (td, c) => { setText(td, c.state); td.classList.toggle('warn', c.state === 'waiting' || c.state === 'connecting'); } },
  measure('Age', 'age_seconds', age, { width: '74px' }), bytesIn, bytesOut,
];

const udpColumns = [
  text('Client', s => s.client), text('Service', target),
  text('Endpoint', s => s.pod || s.endpoint, { class: 'wide' }),
  { name: 'Answered', width: '92px', value: s => Number(s.answered), draw: (td, s) => { setText(td, s.answered ? 'yes' : 'never'); td.classList.toggle('warn', !s.answered); } },
  measure('Age', 'age_seconds', age, { width: '74px' }), measure('Idle', 'idle_seconds', age, { class: 'mid', width: '74px' }), bytesIn, bytesOut,
];

const kinds = {
  tcp: { name: 'TCP connections', word: 'connection', path: '/v1/connections', list: 'connections', columns: tcpColumns, sort: [4, -1], key: c => c.id },
  udp: { name: 'UDP sessions', word: 'session', path: '/v1/sessions', list: 'sessions', columns: udpColumns, sort: [4, -1], key: s => `${s.client} ${s.vip} ${s.endpoint}` },
};

export function connections(main, parts, query, signal) {
  const kind = kinds[parts[0]] || kinds.tcp;
  const table = new Table({ label: kind.name, columns: kind.columns, key: kind.key, sort: kind.sort });
  table.element.hidden = true;
  const told = h('p', { class: 'muted', role: 'status' });
  const empty = h('p', { class: 'empty' }, 'Asking usher…');
  const service = h('input', { type: 'text', name: 'service', placeholder: 'name or namespace/name', value: query.get('service') || '', autocomplete: 'off', spellcheck: 'false' });
  const client = h('input', { type: 'text', name: 'client', placeholder: 'address or CIDR', value: query.get('client') || '', autocomplete: 'off', spellcheck: 'false' });
  fill(main, h('div', { class: 'head' }, h('h1', {}, 'Connections'), told),
    h('form', { class: 'tools', 'aria-label': 'Filters', onsubmit: e => { e.preventDefault(); ask(signal); } },
      h('div', { class: 'choices' }, Object.entries(kinds).map(([k, v]) => h('a', { href: `#/connections/${k}`, class: 'tab', 'aria-current': v === kind && 'true' }, v.name))),
      h('label', { class: 'field' }, 'Service', service), h('label', { class: 'field' }, 'Client', client), h('button', { class: 'main', type: 'submit' }, 'Filter')),
    empty, table.element);

  let shown = false;
  async function ask(until) {
    const filters = { service: service.value.trim(), client: client.value.trim() };
    try {
      const answer = await get(kind.path, { ...filters, limit: most }, until);
      const list = answer[kind.list] || [];
      shown = true;
      table.set(list);
      table.element.hidden = !list.length;
      empty.hidden = list.length > 0;
      setText(told, list.length ? count(list.length, kind.word) + (answer.more ? ` of ${whole(list.length + answer.more)}: the oldest` : '') : '');
      setText(empty, filters.service || filters.client ? `No ${kind.word} fits the filters.` : `No ${kind.word} is open now. ${live.status ? `usher began ${ago(live.status.started)} ago.` : ''}`);
    } catch (e) {
      if (until.aborted || shown && e.kind !== 'refused') return;
      table.element.hidden = true;
      empty.hidden = false;
      setText(told, '');
      setText(empty, e.kind === 'refused' ? e.message : `No data: ${e.message}.`);
    }
  }
  every(2000, ask, signal);
}

// showConnection asks for all that is known of one, TCP_INFO included.
async function showConnection(c) {
  const at = h('div', {}, connection(c));
  const over = new AbortController();
  openDialog(`${target(c)} from ${c.client}`, at).addEventListener('close', () => over.abort());
  every(2000, async () => {
    const { connections: [now] } = await get('/v1/connections', { id: c.id }, over.signal);
    if (!now) { over.abort(); at.prepend(h('p', { class: 'warn' }, 'It has ended since: Flows tells how.')); } else fill(at, connection(now));
  }, over.signal);
}

function connection(c) {
  const facts = (of, names) => h('dl', {}, names.filter(([k]) => of[k] !== undefined && of[k] !== '').map(([k, name, format]) => [h('dt', {}, name), h('dd', {}, format ? format(of[k]) : String(of[k]))]));
  const side = (name, info) => info && h('div', {}, h('h3', {}, name), facts(info, [
    ['state', 'state'], ['rtt_us', 'round trip', n => ms(n / 1000)], ['retrans', 'segments sent again'], ['lost', 'thought lost'], ['snd_mss', 'segment size', bytes], ['snd_cwnd', 'congestion window'],
    ['unacked', 'not acknowledged'], ['unsent', 'not arrived', bytes], ['last_recv_ms', 'last received', n => `${ms(n)} ago`], ['last_sent_ms', 'last sent', n => `${ms(n)} ago`]]));
  return [
    facts(c, [['state', 'state'], ['age_seconds', 'age', age], ['vip', 'dialled'], ['vip_kind', 'which is'], ['endpoint', 'endpoint'], ['pod', 'pod'], ['node', 'node'], ['zone', 'zone'], ['balancer', 'balancer'], ['affinity', 'affinity'],
      ['source', 'endpoint sees the address of the'], ['connect_ms', 'connecting took', ms], ['bytes_in', 'bytes in', bytes], ['bytes_out', 'bytes out', bytes], ['closed', 'closed by'], ['id', 'id']]),
    (c.attempts || []).length ? [h('h3', {}, 'Failed attempts'), h('dl', {}, c.attempts.map(a => [h('dt', {}, a.pod || a.endpoint), h('dd', {}, `${a.errno || a.result} after ${ms(a.duration_ms)}`)]))] : null,
    side('Towards the client (TCP_INFO)', c.tcp_client), side('Towards the endpoint (TCP_INFO)', c.tcp_backend),
  ];
}
