// The picture of the packet's way: from the client to the endpoints, in a row where there
// is room, else one below the other.
import { fill, fitted, h } from '../dom.js';
import { ago, hostPort, ms, rate, whole, byteRate } from '../format.js';

const wideFrom = 860;
const endsShown = 6;

/** way draws it into an element. What is not known is left out, not guessed. */
export function way(at, of) {
  const width = Math.max(260, at.clientWidth - 36);
  const steps = stations(of);
  const ends = endpoints(of.port);
  const bad = !(of.port.endpoints || []).some(e => e.state === 'in');
  fill(at, width >= wideFrom ? row(width, steps, ends, of, bad) : column(width, steps, ends, of, bad));
}

// stations are the boxes before the endpoints: a name, a main line, and lines below.
function stations({ service, spec, port, traffic, listener, status }) {
  const per = traffic?.per, now = traffic?.now;
  const vip = hostPort((service?.addresses || []).find(a => a.includes(':') === (port.family === 'IPv6')), port.port);
  const family = (spec?.families || []).find(f => f.family === port.family);
  const rules = status?.rules || {};
  const more = [spec?.node_port && `NodePort ${spec.node_port}`, (service?.external || []).length && `${service.external.length} external`].filter(Boolean).join(', ');
  return [
    { name: 'Clients', main: per ? `${rate(per.opened)} conn/s` : 'no traffic yet', lines: [now ? `${whole(now.opened)} in all` : '', per ? `${byteRate(per.bytes_in)} in` : ''] },
    { name: 'Service address', main: vip, lines: [more || service?.type || '', `${port.protocol.toUpperCase()}, ${port.family}`] },
    { name: 'Rule', main: status?.capture === 'bind' ? 'none needed' : status?.capture || 'unknown', bad: Boolean(rules.failing), lines: [rules.failing ? 'writing fails' : status?.capture === 'bind' ? 'bound to the address' : rules.written ? `written ${ago(rules.written)} ago` : 'not written yet', ''] },
    { name: 'Listener', main: listener?.address || 'unknown', bad: (listener?.answer || family?.answer || 'serve') !== 'serve', lines: [answers[listener?.answer || family?.answer] || '', now ? `${whole(now.active)} active${now.waiting ? `, ${whole(now.waiting)} waiting` : ''}` : ''] },
    { name: 'Balancer', main: port.balancer || 'unknown', lines: [per ? `${rate(per.retries)} retries/s` : '', now?.recent ? `connect p99 ${ms(now.recent.connect_p99_ms)}` : ''] },
  ];
}

const answers = { serve: 'serves', refuse: 'refuses', silence: 'is silent' };

function endpoints(port) {
  const list = [...port.endpoints || []].sort((a, b) => (a.state === 'out') - (b.state === 'out'));
  const shown = list.length > endsShown ? list.slice(0, endsShown - 1) : list;
  const boxes = shown.map(e => ({ name: shortName(e), out: e.state !== 'in', line: e.state === 'in' ? `${e.connections === undefined || e.connections === null ? 'in' : `${whole(e.connections)} active`}` : 'out' }));
  if (list.length > shown.length) {
    const rest = list.slice(shown.length);
    boxes.push({ name: `and ${rest.length} more`, out: rest.every(e => e.state !== 'in'), line: `${rest.filter(e => e.state === 'in').length} in` });
  }
  if (!boxes.length) boxes.push({ name: 'no endpoint', out: true, line: '' });
  return boxes;
}

const shortName = e => e.pod ? e.pod.split('/').pop() : e.address;

const boxHeight = 84, endHeight = 40;

function box(x, y, width, step) {
  return h('g', {}, h('title', {}, [step.name, step.main, ...step.lines].filter(Boolean).join(', ')),
    h('rect', { class: `box${step.bad ? ' bad' : ''}`, x, y, width, height: boxHeight, rx: 8 }),
    h('text', { class: 'muted', x: x + 11, y: y + 20 }, step.name),
    h('text', { class: 'strong', x: x + 11, y: y + 40 }, fitted(step.main, width - 18, 7.2)),
    step.lines.map((l, i) => h('text', { class: 'muted', x: x + 11, y: y + 58 + i * 16 }, fitted(l, width - 18))));
}

function end(x, y, width, e) {
  return h('g', {}, h('title', {}, `${e.name}: ${e.line}`),
    h('rect', { class: `box ${e.out ? 'bad' : 'accent'}`, x, y, width, height: endHeight - 8, rx: 6 }),
    h('text', { class: 'strong', x: x + 10, y: y + 21 }, fitted(e.name, width - 84, 7)),
    h('text', { class: e.out ? 'bad' : 'muted', x: x + width - 10, y: y + 21, 'text-anchor': 'end' }, e.line));
}

const flowing = of => of.traffic && (of.traffic.per.opened > 0 || of.traffic.per.bytes_in + of.traffic.per.bytes_out > 0);
const lineClass = (of, out) => out ? 'bad' : flowing(of) ? 'flowing' : '';

function row(width, steps, ends, of, bad) {
  const gap = 22, endWidth = Math.max(190, width * 0.2), each = (width - endWidth - 56 - gap * (steps.length - 1)) / steps.length;
  const height = Math.max(boxHeight, ends.length * endHeight), middle = height / 2;
  const lines = [], boxes = [];
  steps.forEach((s, i) => {
    const x = 1 + i * (each + gap);
    boxes.push(box(x, middle - boxHeight / 2, each, s));
    if (i) lines.push(h('path', { class: lineClass(of, bad), d: `M${x - gap} ${middle}H${x}` }));
  });
  const from = 1 + steps.length * each + (steps.length - 1) * gap, to = width - endWidth - 1;
  ends.forEach((e, i) => {
    const y = middle - ends.length * endHeight / 2 + i * endHeight + 4, at = y + (endHeight - 8) / 2;
    lines.push(h('path', { class: lineClass(of, e.out), d: `M${from} ${middle}C${(from + to) / 2} ${middle} ${(from + to) / 2} ${at} ${to} ${at}` }));
    boxes.push(end(to, y, endWidth, e));
  });
  return picture(width, height, lines, boxes, steps, ends);
}

function column(width, steps, ends, of, bad) {
  const gap = 16, lines = [], boxes = [];
  steps.forEach((s, i) => {
    const y = 1 + i * (boxHeight + gap);
    boxes.push(box(1, y, width - 2, s));
    if (i) lines.push(h('path', { class: lineClass(of, bad), d: `M26 ${y - gap}V${y}` }));
  });
  const start = 1 + steps.length * (boxHeight + gap), x = 48;
  ends.forEach((e, i) => {
    const y = start + i * endHeight, at = y + (endHeight - 8) / 2;
    lines.push(h('path', { class: lineClass(of, e.out), d: `M26 ${start - gap}V${at - 8}Q26 ${at} 34 ${at}H${x}` }));
    boxes.push(end(x, y, width - x - 1, e));
  });
  return picture(width, start + ends.length * endHeight, lines, boxes, steps, ends);
}

function picture(width, height, lines, boxes, steps, ends) {
  const told = steps.map(s => `${s.name} ${s.main}`).concat(ends.map(e => `endpoint ${e.name} ${e.line}`)).join(', then ');
  return h('svg', { role: 'img', 'aria-label': told, viewBox: `0 0 ${width} ${height}`, width, height }, lines, boxes);
}
