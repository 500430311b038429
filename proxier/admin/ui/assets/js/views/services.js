// All Services with what passes them now.
import { get } from '../api.js';
import { spark } from '../chart.js';
import { fill, h, setText } from '../dom.js';
import { byteRate, count, ms, rate, whole } from '../format.js';
import { live, onLive } from '../live.js';
import { every } from '../poll.js';
import { link, serviceLink, Table } from '../table.js';

const quiet = { conns: 0, active: 0, in: 0, out: 0, troubles: 0, retries: 0, p99: -1 };
const of = s => live.services.get(s.key) || quiet;

const number = (name, field, format, extra) => ({
  name, numeric: true, value: s => of(s)[field], ...extra,
  draw(td, s) { const v = of(s)[field]; setText(td, format(v)); td.classList.toggle('zero', !(v > 0)); td.classList.toggle('bad', field === 'troubles' && v > 0); },
});

const columns = [
  { name: 'Service', class: 'name', value: s => s.key, draw: (td, s) => link(td, s.key, serviceLink(s.namespace, s.name)) },
  { name: 'Endpoints', width: '92px', numeric: true, value: s => s.usable, draw: (td, s) => { setText(td, `${s.usable}/${s.endpoints}`); td.classList.toggle('bad', !s.usable); td.title = `${s.usable} of ${s.endpoints} endpoints are used${s.ill ? `, ${s.ill} left out for their health` : ''}`; } },
  { name: '', width: '110px', class: 'mid', draw: (td, s) => spark(td, of(s).history) },
  number('Conn/s', 'conns', rate),
  number('Active', 'active', whole, { class: 'wide' }),
  number('In', 'in', byteRate, { class: 'wide' }),
  number('Out', 'out', byteRate, { class: 'wide' }),
  number('Trouble/s', 'troubles', rate),
  number('Retries/s', 'retries', rate, { class: 'mid' }),
  number('p99 connect', 'p99', ms, { class: 'wide', width: '104px' }),
];

export function services(main, parts, query, signal) {
  const table = new Table({ label: 'Services', columns, key: s => s.key, sort: [3, -1] });
  const filter = h('input', { type: 'search', id: 'filter', placeholder: 'name, namespace or address', value: query.get('filter') || '', autocomplete: 'off', spellcheck: 'false' });
  const shown = h('p', { class: 'muted', role: 'status' }, 'Asking usher…');
  const empty = h('p', { class: 'empty', hidden: true });
  fill(main,
    h('div', { class: 'head' }, h('h1', {}, 'Services'), shown),
    h('div', { class: 'tools' }, h('label', { class: 'field' }, 'Filter', filter)),
    empty, table.element);

  let all = null;
  const update = () => {
    if (!all) return;
    const wanted = filter.value.trim().toLowerCase();
    const rows = wanted ? all.filter(s => s.search.includes(wanted)) : all;
    table.set(rows);
    setText(shown, rows.length === all.length ? count(all.length, 'Service') : `${whole(rows.length)} of ${count(all.length, 'Service')}`);
    table.element.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
    setText(empty, all.length ? `No name or address contains “${filter.value}”.` : 'No Services are served: usher has been told of none. Its filters (--service-selector, the label service.kubernetes.io/service-proxy-name) may leave out some.');
  };
  filter.addEventListener('input', update);
  filter.addEventListener('keydown', e => { if (e.key === 'Escape') { filter.value = ''; update(); } });
  every(10000, async () => {
    try {
      all = (await get('/v1/services', {}, signal) || []).map(summed);
      update();
    } catch (e) {
      if (!signal.aborted && !all) { setText(shown, ''); empty.hidden = false; table.element.hidden = true; setText(empty, `No data: ${e.message}.`); }
    }
  }, signal);
  onLive(update, signal);
}

// summed adds to a Service what is sorted and searched by.
function summed(s) {
  let usable = 0, endpoints = 0, ill = 0;
  for (const p of s.ports || []) for (const f of p.families || []) { usable += f.usable; endpoints += f.endpoints; ill += f.ill; }
  const key = `${s.namespace}/${s.name}`;
  const search = [key, ...s.addresses || [], ...s.external || []].join(' ').toLowerCase();
  return { ...s, key, usable, endpoints, ill, search };
}
