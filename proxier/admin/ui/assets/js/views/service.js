// One Service: the way of its packets, its endpoints, how a connection would go, and the
// last flows.
import { get } from '../api.js';
import { fill, h, setText } from '../dom.js';
import { count, whole } from '../format.js';
import { live, onLive, portKey } from '../live.js';
import { every } from '../poll.js';
import { explainPanel } from './explain.js';
import { flowTable } from './flowtable.js';
import { way } from './way.js';

export function service(main, parts, query, signal) {
  const [namespace, own] = parts;
  const where = { namespace, service: own };
  const facts = h('p', { class: 'muted' }, 'Asking usher…');
  const choices = h('div', { class: 'choices', role: 'group', 'aria-label': 'Port and address family' });
  const picture = h('section', { class: 'card way', 'aria-label': "The packet's way" });
  const endpoints = h('section', { 'aria-labelledby': 'ends' });
  const explain = explainPanel(where, signal);
  const flows = flowTable({ label: `Last flows of ${own}`, of: true });
  const lastFlows = h('section', { class: 'card', 'aria-labelledby': 'last' }, h('div', { class: 'head' }, h('h2', { id: 'last' }, 'Last flows'),
    h('a', { class: 'fill', href: `#/flows?service=${encodeURIComponent(`${namespace}/${own}`)}` }, 'All flows of this Service')), flows.element, flows.empty);
  fill(main, h('div', { class: 'head' }, h('h1', {}, `${namespace}/${own}`), facts), choices, picture, endpoints,
    h('div', { class: 'columns' }, explain.element, lastFlows));

  const now = { spec: null, ports: [], listeners: [], chosen: query.get('port') || '' };
  const draw = () => {
    const port = chosen(now);
    if (!port) return;
    explain.choose(port);
    fillChoices(choices, now, () => { draw(); });
    const spec = (now.spec?.ports || []).find(p => p.name === port.port_name && p.protocol === port.protocol);
    const traffic = live.ports.get(portKey(namespace, own, port.port_name, port.protocol));
    const listener = now.listeners.find(l => l.port_name === port.port_name && l.protocol === port.protocol && l.family === port.family);
    way(picture, { service: now.spec, spec, port, traffic, listener, status: live.status });
    const told = JSON.stringify(port);
    if (told !== now.told) fill(endpoints, cards(port)); // what is selected stays so while nothing changes
    now.told = told;
  };
  every(3000, async () => {
    try {
      const [specs, ports, listeners] = await Promise.all([
        get('/v1/services', where, signal), get('/v1/endpoints', where, signal),
        get('/v1/listeners', where, signal).catch(() => []), // the picture then says so
      ]);
      now.spec = (specs || [])[0];
      now.ports = ports || [];
      now.listeners = listeners || [];
      if (!now.spec) throw new Error('usher does not serve this Service. It may be gone, or filtered out');
      setText(facts, [now.spec.type, ...now.spec.addresses || [], ...now.spec.external || []].join(' · '));
      now.chosen ||= busiest(now.ports, namespace, own);
      if (!now.ports.length) fill(picture, h('p', { class: 'empty' }, 'No port of this Service is served.'));
      draw();
    } catch (e) {
      if (signal.aborted || now.spec && e.kind) return; // the banner tells it
      setText(facts, '');
      fill(picture, h('p', { class: 'empty' }, `No data: ${e.message}.`));
    }
  }, signal);
  flows.follow({ ...where, last: 50 }, signal, 'Nothing has ended yet');
  const resized = new ResizeObserver(draw);
  resized.observe(picture);
  signal.addEventListener('abort', () => resized.disconnect());
  onLive(draw, signal);
}

const name = p => `${p.port_name || p.port}/${p.protocol} ${p.family}`;

// busiest is the name of the port that has had the most connections.
function busiest(ports, namespace, service) {
  const opened = p => live.ports.get(portKey(namespace, service, p.port_name, p.protocol))?.now.opened || 0;
  return ports.length ? name(ports.reduce((a, b) => opened(b) > opened(a) ? b : a)) : '';
}

const chosen = now => now.ports.find(p => name(p) === now.chosen) || now.ports[0];

function fillChoices(at, now, changed) {
  const list = JSON.stringify([now.ports.map(name), now.chosen]);
  if (at.dataset.list === list) return;
  at.dataset.list = list;
  const focused = at.contains(document.activeElement);
  at.hidden = now.ports.length < 2;
  fill(at, now.ports.map(p => h('button', { type: 'button', 'aria-pressed': String(p === chosen(now)), onclick: () => { now.chosen = name(p); changed(); } }, name(p))));
  if (focused) at.querySelector('[aria-pressed=true]')?.focus();
}

function cards(port) {
  const list = port.endpoints || [];
  const used = list.filter(e => e.state === 'in').length;
  const title = h('h2', { id: 'ends' }, `Endpoints: ${used} of ${list.length} in use`);
  if (!list.length) return [title, h('p', { class: 'empty' }, 'No EndpointSlice names an endpoint: no Pod matches the selector of the Service, or none has been made for it.')];
  const shown = list.slice(0, 200);
  return [title, h('ul', { class: 'ends' }, shown.map(card)),
    list.length > shown.length ? h('p', { class: 'muted' }, `and ${whole(list.length - shown.length)} more: usher get endpoints tells of all.`) : null];
}

// healthMatters says whether the health tells more than why.
const healthMatters = e => e.health?.why && !e.why.includes(e.health.why.replace(/^(in|out), /, ''));

function card(e) {
  const place = [e.node && `node ${e.node}`, e.zone && `zone ${e.zone}`].filter(Boolean).join(', ');
  return h('li', { class: e.state },
    h('div', { class: 'top' }, h('span', {}, e.pod || e.address), h('span', { class: `tag ${e.state}` }, e.state)),
    e.pod ? h('div', { class: 'mono muted' }, e.address) : null,
    h('p', { class: 'why' }, e.why),
    place ? h('div', { class: 'muted' }, place) : null,
    h('div', { class: 'muted' }, [
      e.connections === undefined || e.connections === null ? null : count(e.connections, 'connection'),
      e.weight ? `weight ${e.weight}` : null, (e.sets || []).join(' and ') || 'in no set',
    ].filter(Boolean).join(' · ')),
    healthMatters(e) ? h('div', { class: e.health.out ? 'bad' : 'muted' }, `health: ${e.health.why}`) : null);
}
