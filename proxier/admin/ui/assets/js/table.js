// A table that may have very many rows: only those in sight exist as elements.
import { fill, h } from './dom.js';

export const rowHeight = 36; // as in parts.css
const spare = 8; // rows beyond the edges

/**
 * Table has columns {name, class, width, numeric, value(row), draw(td, row)}: value is
 * what is sorted by (none: it cannot be), draw fills a cell and is called for the same
 * cell again and again. key(row) tells rows apart. sort is [index of the column, 1 or -1],
 * null keeps the order of the rows.
 */
export class Table {
  constructor({ label, columns, key, sort = null, tall = true, rowClass = () => '' }) {
    Object.assign(this, { columns, key, sort, rowClass, rows: [], drawn: new Map() });
    this.heads = columns.map((c, i) => h('th', { class: classes(c), scope: 'col' },
      c.value ? h('button', { type: 'button', onclick: () => this.sortBy(i) }, c.name) : c.name));
    this.top = gap();
    this.bottom = gap();
    this.body = h('tbody', { onkeydown: e => this.moved(e) }, this.top, this.bottom);
    const cols = columns.map(c => { const col = h('col', { class: classes(c) }); if (c.width) col.style.width = c.width; return col; });
    this.table = h('table', { 'aria-label': label }, h('colgroup', {}, cols), h('thead', {}, h('tr', {}, this.heads)), this.body);
    this.element = h('div', { class: `grid${tall ? ' tall' : ''}`, tabindex: '0', role: 'region', 'aria-label': label }, this.table);
    this.element.addEventListener('scroll', () => this.later(), { passive: true });
    new ResizeObserver(() => this.later()).observe(this.element);
    this.showSort();
  }

  /** set shows other rows. Their order stays while somebody is about to use one. */
  set(rows) {
    const busy = this.body.matches(':hover, :focus-within');
    this.rows = rows;
    if (this.sort) busy && this.places ? this.keepOrder() : this.order();
    this.later();
  }

  order() {
    const [i, direction] = this.sort;
    const value = this.columns[i].value;
    const keyed = this.rows.map(row => [value(row), this.key(row), row]);
    keyed.sort((a, b) => compare(a[0], b[0]) * direction || compare(a[1], b[1]));
    this.rows = keyed.map(k => k[2]);
    this.places = new Map(keyed.map((k, n) => [k[1], n]));
  }

  keepOrder() {
    const place = row => this.places.get(this.key(row)) ?? Infinity;
    this.rows = [...this.rows].sort((a, b) => compare(place(a), place(b)));
  }

  sortBy(i) {
    const first = this.columns[i].numeric ? -1 : 1;
    this.sort = this.sort && this.sort[0] === i ? [i, -this.sort[1]] : [i, first];
    this.showSort();
    this.order();
    this.element.scrollTop = 0;
    this.later();
  }

  showSort() {
    this.heads.forEach((th, i) => {
      if (this.sort && this.sort[0] === i) th.setAttribute('aria-sort', this.sort[1] > 0 ? 'ascending' : 'descending');
      else th.removeAttribute('aria-sort');
    });
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const head = this.heads[0].offsetHeight;
    const first = Math.max(0, Math.floor(this.element.scrollTop / rowHeight) - spare);
    const last = Math.min(this.rows.length, Math.ceil((this.element.scrollTop + this.element.clientHeight - head) / rowHeight) + spare);
    this.table.setAttribute('aria-rowcount', this.rows.length + 1);
    const before = this.drawn;
    this.drawn = new Map();
    let place = this.top;
    for (let i = first; i < last; i++) {
      const row = this.rows[i], key = this.key(row);
      const tr = before.get(key) || this.newRow();
      before.delete(key);
      this.drawn.set(key, tr);
      tr.setAttribute('aria-rowindex', i + 2);
      tr.className = this.rowClass(row);
      this.columns.forEach((c, n) => c.draw(tr.children[n], row));
      if (place.nextSibling !== tr) place.after(tr);
      place = tr;
    }
    for (const tr of before.values()) tr.remove();
    high(this.top, first);
    high(this.bottom, this.rows.length - last);
  }

  newRow() { return h('tr', {}, this.columns.map(c => h('td', { class: classes(c) }))); }

  // The arrows go from row to row, Home and End to the ends.
  moved(e) {
    const at = e.target.closest('tr')?.getAttribute('aria-rowindex') - 2;
    const page = Math.max(1, Math.floor(this.element.clientHeight / rowHeight) - 2);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1, PageDown: at + page, PageUp: at - page }[e.key];
    if (to === undefined || Number.isNaN(at)) return;
    e.preventDefault();
    this.focusRow(Math.max(0, Math.min(this.rows.length - 1, to)));
  }

  focusRow(i) {
    const head = this.heads[0].offsetHeight, view = this.element;
    if (i * rowHeight < view.scrollTop) view.scrollTop = i * rowHeight;
    const end = (i + 1) * rowHeight + head - view.clientHeight;
    if (end > view.scrollTop) view.scrollTop = end;
    this.draw();
    const row = this.rows[i];
    if (row !== undefined) this.drawn.get(this.key(row))?.querySelector('a, button')?.focus({ preventScroll: true });
  }
}

const classes = c => `${c.numeric ? 'num ' : ''}${c.class || ''}`;
const gap = () => h('tr', { class: 'gap', 'aria-hidden': 'true' }, h('td', {}));
const compare = (a, b) => typeof a === 'string' ? (a < b ? -1 : a > b ? 1 : 0) : (a - b || 0);

function high(tr, rows) {
  tr.hidden = rows <= 0;
  tr.style.height = `${rows * rowHeight}px`;
  tr.firstChild.style.height = `${rows * rowHeight}px`;
}

/** serviceLink is the address of the view of one Service. */
export function serviceLink(namespace, name) {
  return `#/service/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

/** link draws a link into a cell, and leaves one that is there already. */
export function link(td, text, href) {
  const a = td.firstChild || td.appendChild(h('a', { class: 'open' }));
  if (a.getAttribute('href') !== href) { a.setAttribute('href', href); fill(a, text); td.title = a.textContent; }
}

/** opener draws a button into a cell. */
export function opener(td, text, onclick) {
  const b = td.firstChild || td.appendChild(h('button', { class: 'open', type: 'button', onclick: () => b.open() }));
  b.open = onclick;
  if (b.said !== text) { fill(b, text); b.said = text; }
}
