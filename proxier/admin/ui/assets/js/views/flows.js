// The flows as they end, filtered by usher.
import { fill, h, setText } from '../dom.js';
import { live } from '../live.js';
import { flowTable } from './flowtable.js';

const fields = [['service', 'Service', 'name or namespace/name'], ['pod', 'Pod', 'tried or connected'], ['client', 'Client', 'address or CIDR'], ['reason', 'Reason', 'such as client_reset']];

export function flows(main, parts, query, signal) {
  const at = flowTable({ label: 'Flows' });
  const inputs = {};
  const reasons = h('datalist', { id: 'reasons' }, (live.status?.recent || []).map(r => h('option', { value: r.reason })));
  for (const [key, name, hint] of fields) {
    inputs[key] = h('input', { type: 'text', name: key, placeholder: hint, value: query.get(key) || '', autocomplete: 'off', spellcheck: 'false', list: key === 'reason' && 'reasons' });
  }
  const errors = h('input', { type: 'checkbox', name: 'errors', onchange: () => again() });
  errors.checked = query.get('errors') === 'true';
  const hold = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => toggle() }, 'Pause');
  const told = h('p', { class: 'muted' });
  fill(main,
    h('div', { class: 'head' }, h('h1', {}, 'Flows'), told),
    h('form', { class: 'tools', 'aria-label': 'Filters', onsubmit: e => { e.preventDefault(); again(); } },
      fields.map(([key, name]) => h('label', { class: 'field' }, name, inputs[key])), reasons,
      h('label', { class: 'tick' }, errors, 'Errors only'), h('button', { class: 'main', type: 'submit' }, 'Filter'), hold),
    at.empty, at.element);

  at.onnews = () => { setText(told, at.summary()); at.empty.hidden = at.rows.length > 0; };

  function toggle() {
    at.paused = !at.paused;
    hold.setAttribute('aria-pressed', String(at.paused));
    fill(hold, at.paused ? 'Go on' : 'Pause');
    at.show();
  }

  let following = new AbortController();
  function begin() {
    const wanted = Object.fromEntries(Object.entries(inputs).map(([k, i]) => [k, i.value.trim()]).filter(([, v]) => v));
    if (errors.checked) wanted.errors = 'true';
    const filtered = Object.keys(wanted).length > 0;
    following.abort();
    following = new AbortController();
    at.clear();
    setText(told, '');
    at.follow({ ...wanted, last: 200 }, AbortSignal.any([signal, following.signal]), filtered ? 'No flow fits the filters' : 'No flows yet: nothing has connected');
    return wanted;
  }
  // The address keeps the filters, for going back and for passing on.
  function again() {
    const search = new URLSearchParams(begin());
    history.replaceState(null, '', `#/flows${search.size ? `?${search}` : ''}`);
  }
  begin();
}
