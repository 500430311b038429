// The whole story of one connection, in a dialog.
import { openDialog } from '../dialog.js';
import { h } from '../dom.js';
import { bytes, clock, hostPort, ms, servicePort } from '../format.js';
import { timeline } from './timeline.js';

const sides = { none: 'both sides', client: 'the client', backend: 'the endpoint', proxy: 'usher' };
const phases = { accept: 'as it began', pick: 'as an endpoint was chosen', connect: 'while connecting', data: 'after data could pass', drain: 'because of a change' };

/** showRecord tells a record of /v1/flows. */
export function showRecord(r) {
  const at = h('div', { class: 'timeline' });
  const attempts = r.attempts || [];
  openDialog(`${servicePort(r.ns, r.service, r.port_name)}, ended at ${clock(r.ts)}`,
    h('p', { class: 'sentence' }, r.msg || r.reason),
    at,
    attempts.length ? h('div', {}, h('h3', {}, 'Attempts'), h('table', { class: 'plain' },
      h('thead', {}, h('tr', {}, [['Endpoint', ''], ['Began', 'num began'], ['Took', 'num'], ['Result', '']].map(([t, c]) => h('th', { scope: 'col', class: c }, t)))),
      h('tbody', {}, attempts.map(a => h('tr', {}, h('td', {}, a.pod || a.backend, a.pod ? h('div', { class: 'muted mono' }, a.backend) : null), h('td', { class: 'num began' }, ms(a.start_ms)), h('td', { class: 'num' }, ms(a.dur_ms)),
        h('td', { class: a.result === 'ok' ? 'good' : 'bad' }, a.errno ? `${a.result} (${a.errno})` : a.result)))))) : null,
    h('div', {}, h('h3', {}, 'How it ended'), h('dl', { class: 'short' }, [
      ['reason', `${r.reason} (${r.code})${r.errno ? `, ${r.errno}` : ''}`],
      ['ended by', `${sides[r.side] || r.side}, ${phases[r.phase] || r.phase}`],
      ['client', hostPort(r.client_ip, r.client_port) + (r.client_ip_kind ? `, ${r.client_ip_kind}` : '')],
      ['dialled', r.vip ? `${hostPort(r.vip, r.vip_port)}${r.vip_kind ? `, ${r.vip_kind}` : ''}` : '–'],
      ['endpoint', r.backend_ip ? `${hostPort(r.backend_ip, r.backend_port)}${r.backend_node ? ` on ${r.backend_node}` : ''}` : 'none'],
      ['bytes', `${bytes(r.bytes_in)} in, ${bytes(r.bytes_out)} out`],
      r.unsent_client > 0 && ['not arrived', `${bytes(r.unsent_client)} at the client`],
      r.unsent_backend > 0 && ['not arrived', `${bytes(r.unsent_backend)} at the endpoint`],
    ].filter(Boolean).map(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]))),
    h('details', {}, h('summary', {}, 'All fields, as in the JSON log'), h('dl', {}, Object.keys(r).sort().map(k => [h('dt', {}, k), h('dd', {}, typeof r[k] === 'object' ? JSON.stringify(r[k]) : String(r[k]))]))));
  timeline(at, r);
}
