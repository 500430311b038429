// A live table of flows, the newest first, as usher sends them.
import { stream } from '../api.js';
import { h, setText } from '../dom.js';
import { bytes, clock, count, hostPort, ms, servicePort, whole } from '../format.js';
import { live, since } from '../live.js';
import { pause } from '../poll.js';
import { opener, rowHeight, Table } from '../table.js';
import { showRecord } from './record.js';

const kept = 2000; // rows

// isTrouble says whether a client may have missed something, as the level of the log does.
const isTrouble = r => r.level ? r.level !== 'info' && r.level !== 'debug' : r.reason !== 'ok' && r.reason !== 'idle';

const text = (name, of, more) => ({ name, draw: (td, r) => { setText(td, of(r)); td.title = td.textContent; }, ...more });

const columns = of => [
  { name: 'Ended', class: 'when', draw: (td, r) => opener(td, clock(r.ts), () => showRecord(r)) },
  of ? null : text('Service', r => servicePort(r.ns, r.service, r.port_name)),
  text('Client', r => hostPort(r.client_ip, r.client_port), { class: 'wide' }),
  text('Endpoint', r => r.backend_pod || (r.backend_ip ? hostPort(r.backend_ip, r.backend_port) : 'none'), { class: of ? '' : 'wide' }),
  { name: 'Reason', class: 'reason', draw: (td, r) => { setText(td, r.reason); td.classList.toggle('bad', isTrouble(r)); td.title = r.msg || ''; } },
  { name: 'Tries', numeric: true, width: '58px', class: 'mid', draw: (td, r) => { const n = (r.attempts || []).length; setText(td, n || '–'); td.classList.toggle('warn', n > 1); } },
  text('Lasted', r => ms(r.duration_ms), { numeric: true, class: 'mid', width: '84px' }),
  text('In', r => bytes(r.bytes_in), { numeric: true, class: 'mid', width: '84px' }),
  text('Out', r => bytes(r.bytes_out), { numeric: true, class: 'mid', width: '84px' }),
].filter(Boolean);

/** flowTable is the table, what is said while it is empty, and what follows usher. of says
 * that all are of one Service. */
export function flowTable({ label, of = false }) {
  const tall = !of;
  const table = new Table({ label, columns: columns(of), key: r => r.id, tall, rowClass: r => isTrouble(r) ? 'trouble' : '' });
  if (!tall) table.element.style.maxHeight = '420px';
  const empty = h('p', { class: 'empty' }, 'Asking usher…');
  const at = { table, element: table.element, empty, paused: false, lost: 0, rows: [], waiting: [], onnews: () => {} };
  table.element.hidden = true;
  let timer;

  at.show = () => {
    timer = undefined;
    if (!at.paused && at.waiting.length) {
      const top = table.element.scrollTop;
      const added = at.waiting.reverse();
      at.waiting = [];
      at.rows = added.concat(at.rows).slice(0, kept);
      table.element.hidden = at.rows.length === 0;
      table.set(at.rows);
      if (top > 4) table.element.scrollTop = top + added.length * rowHeight; // what is read stays where it is
    }
    empty.hidden = at.rows.length > 0;
    at.onnews();
  };
  const later = () => { timer ??= setTimeout(at.show, 200); };

  function take(r) {
    if (r.lost !== undefined && !r.id) at.lost += r.lost;
    else if (at.waiting.push(r) > kept) at.waiting.shift();
    later();
  }

  /** follow shows what fits the query until signal is aborted. While the page is hidden, or
   * usher is away, it waits, and begins anew. */
  at.follow = async (query, signal, nothing) => {
    while (!signal.aborted) {
      const hidden = new AbortController();
      const hide = () => { if (document.hidden) hidden.abort(); };
      document.addEventListener('visibilitychange', hide);
      const known = new Set(at.rows.concat(at.waiting).map(r => r.id));
      let said = '';
      const words = setTimeout(() => { setText(empty, quiet(nothing)); at.show(); }, 700);
      try {
        hide();
        await stream('/v1/flows', { ...query, follow: true }, r => { if (!known.has(r.id)) take(r); known.size > 4 * kept && known.clear(); }, AbortSignal.any([signal, hidden.signal]));
      } catch (e) {
        if (!signal.aborted && !hidden.signal.aborted) said = e.message;
        if (e.kind === 'refused' || e.kind === 'absent') at.refused = said;
      }
      clearTimeout(words);
      document.removeEventListener('visibilitychange', hide);
      if (signal.aborted) return;
      setText(empty, said ? `No data: ${said}.` : quiet(nothing));
      if (at.refused) { at.refused = ''; at.onnews(); return; }
      await pause(2000, signal);
    }
  };
  at.clear = () => { at.rows = []; at.waiting = []; at.lost = 0; table.set([]); table.element.hidden = true; empty.hidden = false; setText(empty, 'Asking usher…'); };
  at.summary = () => [count(at.rows.length, 'flow'), at.rows.length >= kept && 'older ones are left out', at.paused && at.waiting.length && `${whole(at.waiting.length)} new`,
    at.lost && `${whole(at.lost)} lost, as this page was too slow`].filter(Boolean).join(' · ');
  return at;
}

function quiet(nothing) {
  const s = live.status;
  if (live.trouble) return `No data: ${live.trouble.message}.`;
  return `${nothing}${since()}${s && s.connections ? `; ${count(s.connections, 'connection')} are open, and a flow is told at its end` : ''}.`;
}
