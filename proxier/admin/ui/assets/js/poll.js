// Does something again and again: never twice at a time, and not while nobody looks.

/** every calls what(signal) now and then each period ms, until signal is aborted. */
export async function every(period, what, signal) {
  while (!signal.aborted) {
    try { await what(signal); } catch (e) { if (!signal.aborted) console.warn(String(e)); }
    await pause(period, signal);
  }
}

/** pause waits; if the page is hidden, until it is seen again. */
export function pause(period, signal) {
  return new Promise(done => {
    const over = new AbortController();
    const end = () => { clearTimeout(timer); over.abort(); done(); };
    const timer = setTimeout(() => { if (!document.hidden) end(); }, period);
    document.addEventListener('visibilitychange', () => { if (!document.hidden) end(); }, { signal: over.signal });
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { signal: over.signal });
  });
}
