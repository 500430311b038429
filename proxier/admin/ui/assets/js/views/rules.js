// What usher wants in the kernel, and what there is instead.
import { get } from '../api.js';
import { fill, h, setText } from '../dom.js';
import { ago, count } from '../format.js';
import { live, onLive } from '../live.js';
import { every } from '../poll.js';

const shownLines = 5000;

export function rules(main, parts, query, signal) {
  const facts = h('p', { class: 'muted' }, 'Asking usher…');
  const differences = h('div', {}, h('p', { class: 'muted' }, 'Comparing…'));
  const wanted = h('div', {});
  fill(main, h('div', { class: 'head' }, h('h1', {}, 'Rules'), facts),
    h('section', { class: 'card', 'aria-labelledby': 'diff' }, h('h2', { id: 'diff' }, 'Differences'), differences), wanted);

  onLive(() => {
    const s = live.status;
    if (!s) return;
    const r = s.rules || {};
    setText(facts, s.capture === 'bind'
      ? `Capture is bind${s.capture_why ? `, ${s.capture_why}` : ''}. There are no packet filter rules: usher listens on the Service addresses themselves.`
      : `Capture is ${s.capture}${s.capture_why ? `, ${s.capture_why}` : ''}. ${r.failing ? `The last attempt to write has failed: ${r.failing}` : r.written ? `Last written ${ago(r.written)} ago` : 'Not written yet'}${r.foreign_writes ? `, mended ${r.foreign_writes} times after others` : ''}.`);
  }, signal);

  let text;
  every(5000, async () => {
    try {
      const [want, diff] = await Promise.all([get('/v1/rules', {}, signal), get('/v1/rules/diff', {}, signal)]);
      fill(differences, difference(diff || []));
      if (text !== (text = JSON.stringify(want))) fill(wanted, (want || []).length ? want.map(expected) : h('p', { class: 'empty' }, 'usher wants nothing in the kernel now.'));
    } catch (e) {
      if (!signal.aborted) fill(differences, h('p', { class: 'empty' }, `No data: ${e.message}.`));
    }
  }, signal);
}

function difference(list) {
  if (!list.length) return h('p', { class: 'good' }, 'None: the kernel has what usher wants.');
  return [h('p', {}, `${count(list.length, 'thing')} in the kernel ${list.length === 1 ? 'is' : 'are'} not as usher wants. usher mends that by itself; at once with: usher rules repair`),
    h('ul', { class: 'differences' }, list.slice(0, 500).map(d => h('li', {}, `${d.family}: ${d.text}`)))];
}

function expected({ family, text }) {
  const lines = text.replace(/\n$/, '').split('\n');
  const id = `rules-${family}`;
  return h('section', { class: 'card', 'aria-labelledby': id }, h('h2', { id }, `Expected for ${family}, ${count(lines.length, 'line')}`),
    h('div', { class: 'rules', tabindex: '0', role: 'region', 'aria-labelledby': id }, h('ol', {}, lines.slice(0, shownLines).map(line => h('li', {}, line || ' ')))),
    lines.length > shownLines ? h('p', { class: 'muted' }, `The first ${shownLines} lines; usher rules print prints all.`) : null);
}
