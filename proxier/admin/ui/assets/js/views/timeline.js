// What happened when within one connection: tries above, then the bytes, and what each side did.
import { fill, fitted, h } from '../dom.js';
import { ms } from '../format.js';

const how = { fin: 'FIN', rst: 'RST', timeout: 'timeout', local: 'destroyed on this node' };

/** timeline draws a record. Time runs by its square root: what is interesting is early. */
export function timeline(at, r) {
  const total = Math.max(r.duration_ms || 0, 0.01);
  const width = Math.max(260, at.clientWidth), pad = 6;
  const x = t => pad + Math.sqrt(Math.max(0, Math.min(1, t / total))) * (width - 2 * pad);
  const lanes = [], marks = events(r, total);
  let y = 0;
  const lane = (label, bars) => {
    lanes.push(h('text', { class: 'muted', x: pad, y: y + 12 }, fitted(label, width - 12)), h('rect', { class: 'track', x: pad, y: y + 18, width: width - 2 * pad, height: 10, rx: 3 }));
    for (const [from, to, kind, title] of bars) lanes.push(h('rect', { class: kind, x: x(from), y: y + 18, width: Math.max(3, x(to) - x(from)), height: 10, rx: 3 }, h('title', {}, title)));
    y += 38;
  };
  if (r.accept_wait_ms > 0) lane(`waited ${ms(r.accept_wait_ms)} for its turn`, [[0, r.accept_wait_ms, 'wait', 'waiting']]);
  for (const a of r.attempts || []) {
    const took = a.start_ms + a.dur_ms, failed = a.result !== 'ok';
    lane(`try ${a.pod || a.backend}: ${failed ? a.errno || a.result : 'connected'} after ${ms(a.dur_ms)}`, [[a.start_ms, took, failed ? 'fail' : 'ok', a.result]]);
  }
  const begins = connected(r);
  if (r.proto === 'udp') lane('datagrams', [[0, total, 'data', 'session']]);
  else if (begins >= 0) lane('data both ways', [[begins, total, 'data', 'connected']]);
  else lane('no endpoint, no data', []);
  const bottom = y;
  for (const m of marks) {
    lanes.push(h('line', { class: 'mark', x1: x(m.at), x2: x(m.at), y1: bottom - 22, y2: bottom - 8 }, h('title', {}, m.text)));
  }
  fill(at, h('svg', { viewBox: `0 0 ${width} ${bottom + 4}`, width, height: bottom + 4, role: 'img', 'aria-label': marks.map(m => `${ms(m.at)} ${m.text}`).join(', ') }, lanes),
    h('ol', { class: 'legend' }, marks.map(m => h('li', {}, h('strong', {}, ms(m.at)), ` ${m.text}`))), h('p', { class: 'hint' }, 'Early times are drawn wider.'));
}

function connected(r) {
  const ok = (r.attempts || []).find(a => a.result === 'ok');
  return ok ? ok.start_ms + ok.dur_ms : r.connect_ms >= 0 ? r.connect_ms : -1;
}

// events are in the order in which they happened.
function events(r, total) {
  const list = [{ at: 0, text: r.proto === 'udp' ? 'first datagram' : 'accepted' }];
  const add = (at, text) => { if (at >= 0 && text) list.push({ at, text }); };
  add(connected(r), r.proto === 'udp' ? '' : 'connected');
  add(r.first_byte_client_ms, 'first byte of the client');
  add(r.first_byte_backend_ms, r.proto === 'udp' ? 'first answer' : 'first byte of the endpoint');
  add(r.client_close_ms, how[r.client_close] && `client: ${how[r.client_close]}`);
  add(r.backend_close_ms, how[r.backend_close] && `endpoint: ${how[r.backend_close]}`);
  list.push({ at: total, text: `end${how[r.sent_client] ? `, ${how[r.sent_client]} to the client` : ''}${how[r.sent_backend] ? `, ${how[r.sent_backend]} to the endpoint` : ''}` });
  return list.sort((a, b) => a.at - b.at);
}
