// Asks usher, through the server that this page comes from.

/** Trouble is an answer that is none. kind: page (the server of this page is gone), usher
 * (it is there, usher is not), session (the cookie is), absent (this usher has no such
 * path) or refused (usher says why). */
export class Trouble extends Error {
  constructor(kind, message) { super(message); this.kind = kind; }
}

const patience = 30000;

async function ask(path, query, signal) {
  const search = new URLSearchParams(Object.entries(query || {}).filter(([, v]) => v !== '' && v !== undefined && v !== null && v !== false));
  let response;
  try {
    response = await fetch(`${path}${search.size ? '?' : ''}${search}`, { signal });
  } catch (e) {
    if (signal?.aborted && signal.reason?.name !== 'TimeoutError') throw e;
    throw new Trouble('page', 'usher ui does not answer any more: it has ended. Run it again, and open the address that it prints');
  }
  if (response.ok) return response;
  if (response.status === 403) throw new Trouble('session', 'this page may not look any more. Run usher ui again, and open the address that it prints');
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error || message; } catch { /* what the status says is all there is */ }
  if (response.status === 502) throw new Trouble('usher', `usher cannot be reached: ${message}`);
  if (response.status === 404 && message === `there is no "${path}"`) throw new Trouble('absent', `this version of usher has no ${path}`);
  throw new Trouble('refused', message);
}

/** get returns what is at a path. */
export async function get(path, query, signal) {
  const bounds = [AbortSignal.timeout(patience)];
  if (signal) bounds.push(signal);
  return (await ask(path, query, AbortSignal.any(bounds))).json();
}

const longestLine = 1 << 20;

/** stream calls online with each object of an NDJSON answer, until its end. */
export async function stream(path, query, online, signal) {
  const response = await ask(path, query, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '';;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    if (rest.length > longestLine) throw new Trouble('refused', 'usher has sent a line without end');
    for (const line of lines) {
      if (!line) continue;
      const said = JSON.parse(line);
      if (said.error && !said.id) throw new Trouble('refused', said.error);
      online(said);
    }
  }
}
