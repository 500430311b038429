// Who talks to whom, as far as the ring reaches back.
import { get } from '../api.js';
import { fill, fitted, h, setText } from '../dom.js';
import { age, bytes, count, whole } from '../format.js';
import { since } from '../live.js';
import { every } from '../poll.js';
import { link, serviceLink, Table } from '../table.js';

const shownNodes = 14; // in each column

const columns = [
  { name: 'Client', value: e => client(e), draw: (td, e) => { setText(td, client(e)); td.title = td.textContent; } },
  { name: 'Service', value: e => target(e), draw: (td, e) => link(td, target(e), serviceLink(e.namespace, e.service)) },
  { name: 'Endpoint', value: e => endpoint(e), draw: (td, e) => { setText(td, endpoint(e)); td.title = td.textContent; } },
  { name: 'Count', numeric: true, value: e => e.count, draw: (td, e) => setText(td, whole(e.count)) },
  { name: 'Active', numeric: true, class: 'wide', value: e => e.active, draw: (td, e) => setText(td, whole(e.active)) },
  { name: 'Trouble', numeric: true, value: e => e.trouble, draw: (td, e) => { setText(td, whole(e.trouble)); td.classList.toggle('bad', e.trouble > 0); } },
  { name: 'Failed tries', numeric: true, class: 'wide', value: e => e.failed, draw: (td, e) => { setText(td, whole(e.failed)); td.classList.toggle('bad', e.failed > 0); } },
  { name: 'Bytes', numeric: true, class: 'wide', value: e => e.bytes, draw: (td, e) => setText(td, bytes(e.bytes)) },
];

const client = e => e.client_pod || e.client;
const target = e => `${e.namespace}/${e.service}`;
const endpoint = e => e.pod || e.endpoint || 'none found';

export function map(main, parts, query, signal) {
  const table = new Table({ label: 'Who talks to whom', columns, key: e => `${e.client} ${target(e)} ${e.endpoint || ''}`, sort: [3, -1], tall: false });
  table.element.style.maxHeight = '480px';
  const facts = h('p', { class: 'muted' }, 'Asking usher…');
  const picture = h('section', { class: 'card talk', 'aria-label': 'Map' });
  const list = h('section', { 'aria-labelledby': 'astable' }, h('h2', { id: 'astable' }, 'The same as a table'), table.element);
  fill(main, h('div', { class: 'head' }, h('h1', {}, 'Map'), facts), picture, list);
  let talk = null, drawn = '';
  const draw = () => {
    if (!talk?.edges?.length) return;
    const now = JSON.stringify([talk.edges, picture.clientWidth]);
    if (now === drawn || picture.contains(document.activeElement)) return;
    drawn = now;
    drawMap(picture, talk.edges);
  };
  every(4000, async () => {
    try {
      talk = await get('/v1/map', {}, signal);
      const edges = talk.edges || [];
      list.hidden = !edges.length;
      setText(facts, edges.length ? `the last ${age(talk.seconds)}${talk.more ? `, without ${count(talk.more, 'less busy edge')}` : ''}. Width: connections; red: trouble or failed tries, 5 % or more of them.` : '');
      if (edges.length) { draw(); table.set(edges); } else { drawn = ''; fill(picture, h('p', { class: 'empty' }, `Nobody has talked to a Service${since()}. Only what usher still remembers is drawn.`)); }
    } catch (e) {
      if (signal.aborted || talk && e.kind !== 'absent') return;
      setText(facts, '');
      list.hidden = true;
      fill(picture, h('p', { class: 'empty' }, `No data: ${e.message}.`));
    }
  }, signal);
  const resized = new ResizeObserver(draw);
  resized.observe(picture);
  signal.addEventListener('abort', () => resized.disconnect());
}

// serious says whether trouble is more than a few of many: a whole edge is not red for those.
const serious = (trouble, n) => trouble > 0 && trouble >= 0.05 * n;

// nodes are those of a column, first those with trouble, then the busiest; the rest as one.
function nodes(edges, of) {
  const all = new Map();
  for (const e of edges) {
    const n = all.get(of(e)) || { name: of(e), count: 0, trouble: 0, failed: 0, edge: e };
    n.count += e.count; n.trouble += e.trouble; n.failed += of === endpoint ? e.failed : 0;
    all.set(n.name, n);
  }
  for (const n of all.values()) n.bad = serious(n.trouble + n.failed, n.count);
  const list = [...all.values()].sort((a, b) => Boolean(b.bad) - Boolean(a.bad) || b.count - a.count || (a.name < b.name ? -1 : 1));
  if (list.length <= shownNodes) return list;
  const rest = list.slice(shownNodes - 1);
  const others = { name: `${rest.length} others`, all: new Set(rest.map(n => n.name)), count: 0, trouble: 0 };
  for (const n of rest) { others.count += n.count; others.trouble += n.trouble; others.bad ||= n.bad; }
  return [...list.slice(0, shownNodes - 1), others];
}

function drawMap(at, edges) {
  const width = Math.max(260, at.clientWidth - 32), nodeWidth = Math.min(230, width * 0.27), each = 36, top = 24;
  const sides = [nodes(edges, client), nodes(edges, target), nodes(edges, endpoint)];
  const most = Math.max(...sides.map(s => s.length)), height = top + most * each;
  const xs = [1, (width - nodeWidth) / 2, width - nodeWidth - 1];
  const place = sides.map((side, s) => {
    const found = new Map();
    side.forEach((n, i) => {
      Object.assign(n, { x: xs[s], y: top + (most - side.length) * each / 2 + i * each + 4, paths: new Set() });
      for (const name of n.all || [n.name]) found.set(name, n);
    });
    return found;
  });
  const lines = [];
  const connect = (from, of, to, toOf, a, b) => {
    const sums = new Map();
    for (const e of edges) {
      const f = from.get(of(e)), t = to.get(toOf(e)), key = `${sides[a].indexOf(f)} ${sides[b].indexOf(t)}`;
      const sum = sums.get(key) || { f, t, count: 0, trouble: 0 };
      sum.count += e.count; sum.trouble += e.trouble + (b === 2 ? e.failed : 0);
      sums.set(key, sum);
    }
    const busiest = Math.max(...[...sums.values()].map(s => s.count), 1);
    for (const { f, t, count: n, trouble } of sums.values()) {
      const x1 = f.x + nodeWidth, x2 = t.x, y1 = f.y + 14, y2 = t.y + 14, m = (x1 + x2) / 2;
      const path = h('path', { class: serious(trouble, n) ? 'trouble' : '', d: `M${x1} ${y1}C${m} ${y1} ${m} ${y2} ${x2} ${y2}`, 'stroke-width': (1 + 9 * Math.sqrt(n / busiest)).toFixed(1) },
        h('title', {}, `${f.name} to ${t.name}: ${n} connections${trouble ? `, ${trouble} with trouble` : ''}`));
      f.paths.add(path); t.paths.add(path);
      lines.push(path);
    }
  };
  connect(place[0], client, place[1], target, 0, 1);
  connect(place[1], target, place[2], endpoint, 1, 2);
  // In or with the focus on a node, only its own edges stay.
  const light = n => { for (const p of lines) p.classList.toggle('dim', n !== null && !n.paths.has(p)); };
  const boxes = sides.flatMap((side, s) => side.map(n => {
    const go = () => { if (s === 1 && n.edge && !n.all) location.hash = serviceLink(n.edge.namespace, n.edge.service); };
    return h('g', {
      class: `node${n.bad ? ' trouble' : ''}`, tabindex: '0', role: s === 1 && !n.all ? 'link' : 'img', 'aria-label': `${n.name}: ${count(n.count, 'connection')}${n.trouble ? `, ${n.trouble} with trouble` : ''}`,
      onfocus: () => light(n), onblur: () => light(null), onmouseenter: () => light(n), onmouseleave: () => light(null),
      onclick: go, onkeydown: e => { if (e.key === 'Enter') go(); if (e.key === 'Escape') e.currentTarget.blur(); },
    }, h('title', {}, n.name), h('rect', { x: n.x, y: n.y, width: nodeWidth, height: 28, rx: 6 }),
    h('text', { x: n.x + 8, y: n.y + 18.5 }, nodeWidth > 150 ? fitted(n.name, nodeWidth - 58) : fitted(n.name.split('/').pop(), nodeWidth - 14)),
    nodeWidth > 150 ? h('text', { class: 'muted', x: n.x + nodeWidth - 8, y: n.y + 18.5, 'text-anchor': 'end' }, whole(n.count)) : null);
  }));
  fill(at, h('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'group', 'aria-label': 'Clients, Services and endpoints' },
    ['Clients', 'Services', 'Endpoints'].map((t, i) => h('text', { class: 'muted', x: xs[i], y: 12 }, t)), lines, boxes));
}
