// The frame: navigation, theme, the banner that says when there is no data, and which view
// is shown. A view is a function (main, parts of the address, query, signal) that fills
// main and stops when signal is aborted.
import { fill, h, setText } from './dom.js';
import { age, ago } from './format.js';
import { begin, live, onLive } from './live.js';
import { connections } from './views/connections.js';
import { flows } from './views/flows.js';
import { map } from './views/map.js';
import { overview } from './views/overview.js';
import { rules } from './views/rules.js';
import { service } from './views/service.js';
import { services } from './views/services.js';

const views = { overview, services, service, flows, map, rules, connections };
const names = [['overview', 'Overview'], ['services', 'Services'], ['flows', 'Flows'], ['map', 'Map'], ['rules', 'Rules'], ['connections', 'Connections']];

const $ = id => document.getElementById(id);
fill($('nav'), names.map(([view, name]) => h('a', { href: `#/${view}`, 'data-view': view }, name)));

let shown = new AbortController();

function show() {
  const [path, search] = location.hash.slice(1).split('?');
  const [name, ...parts] = path.split('/').slice(1).map(decodePart);
  const view = Object.hasOwn(views, name) ? name : 'overview';
  shown.abort();
  shown = new AbortController();
  for (const a of $('nav').children) {
    const current = a.dataset.view === (view === 'service' ? 'services' : view);
    if (current) { a.setAttribute('aria-current', 'page'); reveal(a); } else a.removeAttribute('aria-current');
  }
  document.querySelector('dialog')?.close();
  const title = view === 'service' ? parts.join('/') : names.find(([v]) => v === view)[1];
  document.title = `${title} · usher`;
  const main = fill($('main'));
  window.scrollTo(0, 0);
  views[view](main, parts, new URLSearchParams(search), shown.signal);
}

// reveal scrolls the row of views to a link. scrollIntoView would have Tab begin behind it, and
// not with the link to the content.
function reveal(a) {
  const nav = $('nav'), left = a.offsetLeft - nav.offsetLeft, right = left + a.offsetWidth - nav.clientWidth;
  nav.scrollLeft = Math.max(Math.min(nav.scrollLeft, left), right);
}

function decodePart(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

window.addEventListener('hashchange', () => { show(); $('main').focus({ preventScroll: true }); });
$('skip').addEventListener('click', e => { e.preventDefault(); $('main').focus(); });

// The theme: as the system has it, light, dark.
const themes = ['', 'light', 'dark'];
const root = document.documentElement;

function showTheme() {
  const words = { '': 'auto', light: 'light', dark: 'dark' };
  const theme = root.dataset.theme || '';
  fill($('theme'), { '': '◐', light: '○', dark: '●' }[theme]);
  $('theme').title = `Theme: ${words[theme]}`;
  $('theme').setAttribute('aria-label', `Theme: ${words[theme]}. Change`);
}

$('theme').addEventListener('click', () => {
  const next = themes[(themes.indexOf(root.dataset.theme || '') + 1) % themes.length];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  try { localStorage.setItem('usher-theme', next); } catch { /* for this time only */ }
  showTheme();
  window.dispatchEvent(new Event('themechange'));
});
showTheme();

// The banner says why there is nothing new, and that usher has restarted.
const newsFor = 30000;

onLive(() => {
  const banner = $('banner');
  const restarted = live.restarted && Date.now() - live.restarted < newsFor;
  banner.hidden = !live.trouble && !restarted;
  banner.className = live.trouble ? '' : 'note';
  if (live.trouble) {
    const seen = live.status ? ` What is shown is ${age((Date.now() - live.statusAt) / 1000)} old.` : '';
    const again = live.trouble.kind === 'session' ? '' : ' The page tries again by itself.';
    setText(banner, `No data: ${live.trouble.message}.${seen}${again}`);
  } else if (restarted) setText(banner, `usher has restarted, ${ago(live.status.started)} ago: its counters have begun anew.`);
  const s = live.status;
  setText($('where'), s ? `${s.node} · ${s.version || 'unknown version'} · up ${ago(s.started)}` : '');
}, new AbortController().signal);

begin();
show();
