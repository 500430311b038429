// How a connection would go, without sending anything.
import { get } from '../api.js';
import { fill, h } from '../dom.js';
import { percent } from '../format.js';

const marks = { ok: ['✓', 'good'], stop: ['✗', 'bad'], note: ['!', 'warn'] };

/** explainPanel asks for a client's address. choose(port) says which Service port. */
export function explainPanel(where, signal) {
  let port = null, asked;
  const from = h('input', { type: 'text', id: 'from', placeholder: 'any client', autocomplete: 'off', spellcheck: 'false' });
  const answer = h('div', { 'aria-live': 'polite' });
  const form = h('form', { class: 'tools', onsubmit: e => { e.preventDefault(); ask(); } },
    h('label', { class: 'field' }, 'From IP', from), h('button', { class: 'main', type: 'submit' }, 'Explain'));
  const element = h('section', { class: 'card', 'aria-labelledby': 'explain' }, h('h2', { id: 'explain' }, 'How would a connection go?'), form, answer);

  async function ask() {
    if (!port) return;
    asked?.abort();
    const mine = asked = new AbortController();
    try {
      const e = await get('/v1/explain', { ...where, port: port.port_name || port.port, protocol: port.protocol, family: from.value.trim() ? '' : port.family, from: from.value.trim() }, AbortSignal.any([signal, mine.signal]));
      fill(answer, explanation(e));
    } catch (e) {
      if (!signal.aborted && !mine.signal.aborted) fill(answer, h('p', { class: 'empty' }, e.kind === 'refused' ? e.message : `No data: ${e.message}.`));
    }
  }

  return { element, choose(p) { const first = !port || port.port_name !== p.port_name || port.protocol !== p.protocol || port.family !== p.family; port = p; if (first) ask(); } };
}

function explanation(e) {
  return [
    h('p', { class: 'verdict' }, e.verdict),
    h('p', { class: 'muted' }, `${e.client ? `${e.client_kind || ''} ${e.client}` : 'Nobody in particular'} dials ${e.vip}. Nothing is sent to find this out.`),
    h('ol', { class: 'steps' }, (e.steps || []).map(s => {
      const [mark, tone] = marks[s.result] || ['·', 'muted'];
      return h('li', {}, h('span', { class: `mark ${tone}`, role: 'img', 'aria-label': s.result }, mark), h('span', { class: 'muted' }, s.name), h('span', {}, s.text),
        (s.evidence || []).length ? h('pre', {}, s.evidence.map((line, i) => [i ? h('br') : null, line])) : null);
    })),
    (e.candidates || []).length ? [h('h3', {}, 'Candidates'), h('ol', { class: 'steps' }, e.candidates.slice(0, 50).map(c => h('li', {},
      h('span', { class: `mark ${c.state === 'in' ? 'good' : 'bad'}`, role: 'img', 'aria-label': c.state }, c.state === 'in' ? '✓' : '✗'),
      h('span', { class: 'muted' }, c.order ? `try ${c.order}` : c.share ? percent(c.share) : c.state),
      h('span', {}, `${c.pod || c.address}: ${c.why}`)))),
    e.candidates.length > 50 ? h('p', { class: 'muted' }, `and ${e.candidates.length - 50} more`) : null] : null,
  ];
}
