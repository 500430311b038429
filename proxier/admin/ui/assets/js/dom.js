// Elements of HTML and SVG. Strings only ever become text: no name of an object can be
// taken for HTML, and none can hide or turn what stands beside it.

// What is seen instead of itself: controls, formats such as those that turn the direction
// of writing, and halves of characters.
const unseen = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** visible is a text with everything in it that cannot be seen written as \u{...}. */
export function visible(text) {
  return String(text).replace(unseen, c => `\\u{${c.codePointAt(0).toString(16)}}`);
}

const svgNames = new Set(['svg', 'g', 'path', 'rect', 'circle', 'line', 'polyline', 'text', 'title']);

/** h makes an element. Attributes named on... are listeners, false and null are none. */
export function h(name, attributes, ...children) {
  const at = svgNames.has(name) ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === 'function') at.addEventListener(key.slice(2), value);
    else at.setAttribute(key, value === true ? '' : visible(value));
  }
  append(at, children);
  return at;
}

function append(at, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    at.append(child instanceof Node ? child : visible(child));
  }
}

/** fill replaces all that is in an element. */
export function fill(at, ...children) {
  at.replaceChildren();
  append(at, children);
  return at;
}

/** setText changes a text only if it is another, so that selections survive. */
export function setText(at, text) {
  const seen = visible(text);
  if (at.textContent !== seen) at.textContent = seen;
}

/** fitted is a text for an SVG that is cut to a width, by what a character takes on average. */
export function fitted(text, width, each = 6.7) {
  const seen = visible(text), most = Math.max(3, Math.floor(width / each));
  return seen.length > most ? `${seen.slice(0, most - 1)}…` : seen;
}

/** size sets the width of a bar, as a share from 0 to 1. */
export function size(at, share) {
  at.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return at;
}

/** hear is text for those who listen. */
export const hear = text => h('span', { class: 'hear' }, text);
