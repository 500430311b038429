// Charts of the last minutes (uPlot), and the small ones in tables.
import { h } from './dom.js';

// colour asks the browser what a colour of the style sheet is now.
function colour(name) {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const c = getComputedStyle(probe).color;
  probe.remove();
  return c;
}

/** chart draws one line over time into an element, and returns how to show other data. */
export function chart(at, data, name, format, signal, stroke = '--accent') {
  let plot;
  const make = () => {
    plot?.destroy();
    plot = undefined;
    if (data()[0].length < 2) return; // no line yet

    const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    plot = new window.uPlot({
      width: at.clientWidth, height: at.clientHeight, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { show: false },
      scales: { x: { range: (_, min, max) => [Math.min(min, max - 60), max] }, y: { range: (_, min, max) => [0, Math.max(max * 1.1, 1)] } },
      axes: [
        { ...axis, size: 26, space: 70, values: (_, list) => list.map(t => new Date(t * 1000).toLocaleTimeString('en-GB')) },
        { ...axis, size: 58, space: 34, values: (_, list) => list.map(format) },
      ],
      series: [{}, { stroke: colour(stroke), width: 1.5, fill: colour(stroke).replace(/^rgb\((.*)\)$/, 'rgba($1, 0.12)'), points: { show: false }, label: name }],
    }, data(), at);
  };
  make();
  const resized = new ResizeObserver(() => plot?.setSize({ width: at.clientWidth, height: at.clientHeight }));
  resized.observe(at);
  window.addEventListener('themechange', make, { signal });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', make, { signal });
  signal.addEventListener('abort', () => { resized.disconnect(); plot?.destroy(); });
  return () => plot ? plot.setData(data()) : make();
}

/** spark draws the history of a rate into a cell. */
export function spark(td, history) {
  const line = td.querySelector('polyline') || td.appendChild(h('svg', { class: 'spark', viewBox: '0 0 60 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, h('polyline', {}))).firstChild;
  const top = Math.max(...(history || []), 0.001);
  const points = (history || []).map((v, i) => `${60 - history.length + i + 1},${(19 - v / top * 18).toFixed(1)}`).join(' ');
  if (line.getAttribute('points') !== points) line.setAttribute('points', points);
}
