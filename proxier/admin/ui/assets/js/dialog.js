// Something over the page.
import { h } from './dom.js';

/** openDialog shows something over the page, until Escape or its button closes it. */
export function openDialog(title, ...content) {
  const before = document.activeElement;
  const id = 'dialog-title';
  const dialog = h('dialog', { 'aria-labelledby': id },
    h('div', { class: 'inner' }, h('div', { class: 'head' }, h('h2', { id }, title), h('button', { type: 'button', class: 'close', onclick: () => dialog.close() }, 'Close')), content));
  dialog.addEventListener('close', () => { dialog.remove(); if (before?.isConnected) before.focus(); });
  dialog.addEventListener('click', e => { if (e.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
