// What needs attention first, then how usher is, then what happens.
import { get } from '../api.js';
import { chart } from '../chart.js';
import { fill, h, hear, setText, size } from '../dom.js';
import { age, ago, byteRate, count, percent, rate, whole } from '../format.js';
import { live, onLive } from '../live.js';
import { every } from '../poll.js';
import { serviceLink } from '../table.js';

export function overview(main, parts, query, signal) {
  const attention = h('div', {}, h('p', { class: 'muted' }, 'Asking usher…'));
  const strip = h('div', { class: 'strip' });
  const bars = h('div', {});
  const plots = [
    ['Connections begun', 'conns', rate, 'per second', '--accent'],
    ['Bytes, both ways', 'bytes', n => byteRate(n).replace('/s', ''), 'per second', '--accent'],
    ['Trouble', 'trouble', rate, 'ended per second', '--bad'],
  ].map(([name, key, format, unit, colour]) => {
    const now = h('span', {});
    const at = h('div', { class: 'chart', role: 'img', 'aria-label': `${name} ${unit}, the last minutes` });
    return { name, key, format, unit, colour, now, at, card: h('section', { class: 'card' }, h('h2', {}, name, now), at) };
  });
  fill(main,
    h('h1', {}, 'Overview'),
    h('section', { class: 'card', 'aria-labelledby': 'needs' }, h('h2', { id: 'needs' }, 'Needs attention'), attention),
    h('section', { 'aria-label': 'This node' }, strip),
    h('div', { class: 'charts' }, plots.map(p => p.card)),
    h('section', { class: 'card', 'aria-labelledby': 'why' }, h('h2', { id: 'why' }, 'Why connections ended'), bars),
  );
  for (const p of plots) p.update = chart(p.at, () => [live.totals.time, live.totals[p.key]], p.name, p.format, signal, p.colour);

  let missed = 0; // what clients miss something by
  let told; // the attention that is shown, so that links in it stay while nothing changes
  every(4000, async () => {
    try {
      const list = await get('/v1/attention', {}, signal) || [];
      missed = list.filter(a => a.severity === 'error').length;
      const now = JSON.stringify(list);
      if (now !== told) { told = now; fill(attention, attentionList(list)); }
    } catch (e) {
      if (signal.aborted) return;
      told = null;
      fill(attention, h('p', { class: 'empty' }, `No data: ${e.message}.`));
    }
  }, signal);

  onLive(() => {
    for (const p of plots) {
      const list = live.totals[p.key];
      setText(p.now, list.length ? `${p.format(list.at(-1))} ${p.unit}` : 'measuring…');
      p.update();
    }
    if (!live.status) {
      fill(strip, h('div', {}, h('p', { class: 'muted' }, live.trouble ? 'No data.' : 'Asking usher…')));
      fill(bars, h('p', { class: 'empty' }, live.trouble ? `No data: ${live.trouble.message}.` : 'Asking usher…'));
      return;
    }
    fill(strip, cells(live.status, missed));
    fill(bars, reasons(live.status));
  }, signal);
}

const words = { error: 'Error', warning: 'Warning' };

function attentionList(list) {
  if (!list.length) return h('p', { class: 'good' }, 'Nothing. No Service is without a usable endpoint, and usher has all that it needs.');
  return h('ul', { class: 'attention' }, list.map(a => h('li', { class: a.severity },
    h('span', { class: `tag ${a.severity}` }, words[a.severity] || a.severity),
    h('div', {}, h('strong', {}, subject(a)), h('span', { class: 'muted' }, `  ${a.reason}`)),
    h('p', {}, a.message))));
}

function subject(a) {
  const name = (a.namespace ? `${a.namespace}/` : '') + a.name + (a.port ? ` ${a.port}` : '');
  if (a.kind !== 'Service') return `${a.kind} ${name}`;
  return h('a', { href: serviceLink(a.namespace, a.name) }, name);
}

function cells(s, missed) {
  const watch = (s.watches || []).reduce((worst, w) => !worst || !w.synced || w.age_seconds > worst.age_seconds && worst.synced ? w : worst, null);
  const r = s.rules || {};
  const ring = s.ring || { lost: 0, held: 0, size: 0 }, log = s.log || { dropped: 0 };
  const lost = log.dropped + ring.lost;
  const stale = s.stale_seconds ? `${s.last_state?.served ? 'the last state' : 'what was known'} of ${age(s.stale_seconds)} ago; ` : '';
  return [
    cell('State', s.ready ? 'Serving' : 'Not serving yet', s.ready && !missed && !r.failing ? stale ? 'warn' : 'good' : 'bad',
      `${stale}${missed ? `degraded: clients miss something now (${missed}); ` : ''}${s.capture} capture, ${(s.families || []).join(' and ')}`),
    cell('Services', whole(s.services), '', `${count(s.ports, 'port')}${s.draining ? `, ${s.draining} draining` : ''}`),
    watch ? cell('API server heard', `${age(watch.age_seconds)} ago`, !watch.synced || watch.age_seconds > 120 ? 'bad' : '', watch.synced ? watch.resource : `${watch.resource} not listed yet`)
      : cell('Objects come from', (s.source || 'manifests').split(' ')[0], '', s.source || 'no API server is watched'),
    cell('Rules written', r.failing ? 'Failing' : r.written ? `${ago(r.written)} ago` : 'not yet', r.failing ? 'bad' : '', r.failing || (r.foreign_writes ? `mended ${r.foreign_writes} times after others` : 'nobody else has changed them')),
    gauge('Open files', s.files),
    cell('Connections', whole(s.connections), '', 'live, TCP'),
    cell('UDP sessions', whole(s.udp_sessions), '', 'live'),
    cell('Records lost', whole(lost), lost ? 'warn' : '', lost ? `${log.dropped} of the log, ${ring.lost} of followers` : `${whole(ring.held)} held in memory`),
  ];
}

function cell(name, value, tone, more) {
  return h('div', {}, h('div', { class: 'name' }, name), h('div', { class: `value ${tone}` }, value), h('div', { class: 'more' }, more));
}

function gauge(name, g) {
  if (!g || !g.limit) return cell(name, g ? whole(g.used) : '–', '', 'no limit');
  const share = g.used / g.limit;
  const at = cell(name, whole(g.used), share > 0.8 ? 'bad' : '', `${percent(share)} of ${whole(g.limit)}`);
  at.append(h('div', { class: `meter${share > 0.8 ? ' full' : ''}`, 'aria-hidden': 'true' }, size(h('i', {}), share)));
  return at;
}

function reasons(s) {
  const list = s.recent || [];
  if (!list.length) return h('p', { class: 'empty' }, `Nothing has ended in the last ${age(s.recent_seconds || 300)}, and ${count(s.connections, 'connection')} ${s.connections === 1 ? 'is' : 'are'} open.`);
  const most = Math.max(...list.map(r => r.count));
  return [
    h('p', { class: 'muted' }, `In the last ${age(s.recent_seconds)}. Red: a client may have missed something.`),
    h('ul', { class: 'bars' }, list.map(r => h('li', { class: r.trouble ? 'trouble' : '' },
      h('span', {}, h('a', { href: `#/flows?reason=${encodeURIComponent(r.reason)}` }, r.reason), h('small', {}, r.text)),
      h('span', { class: 'track', 'aria-hidden': 'true' }, size(h('i', {}), r.count / most)),
      h('span', { class: 'num' }, whole(r.count), r.trouble ? hear(` of which ${r.trouble} trouble`) : '')))),
  ];
}
