// Numbers, sizes, times and names for people.

const units = ['', 'k', 'M', 'G', 'T', 'P'];

function scaled(n, suffix) {
  if (!Number.isFinite(n)) return '–';
  let i = 0;
  while (Math.abs(n) >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
  const digits = n === 0 || Number.isInteger(n) && i === 0 || Math.abs(n) >= 99.95 ? 0 : Math.abs(n) >= 9.995 || i === 0 && Math.abs(n) >= 0.995 ? 1 : 2;
  const space = suffix || units[i] ? '\u00a0' : '';
  return n.toFixed(digits) + space + units[i] + suffix;
}

export const bytes = n => scaled(n, 'B');
export const rate = n => scaled(n, '');
export const byteRate = n => scaled(n, 'B/s');
export const whole = n => Number.isFinite(n) ? Math.round(n).toLocaleString('en') : '–';
export const percent = share => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

/** count is a number with its word, as in 3 attempts. */
export const count = (n, word) => `${whole(n)} ${word}${n === 1 ? '' : 's'}`;

/** ms is a time in milliseconds; -1 stands for never. */
export function ms(n) {
  if (!Number.isFinite(n) || n < 0) return '–';
  if (n < 10) return `${n.toFixed(n < 1 ? 2 : 1)}\u00a0ms`;
  if (n < 1000) return `${Math.round(n)}\u00a0ms`;
  return age(n / 1000);
}

/** age is a time in seconds as kubectl tells it. */
export function age(s) {
  if (!Number.isFinite(s) || s < 0) return '–';
  if (s < 10) return `${s.toFixed(1)}\u00a0s`;
  if (s < 120) return `${Math.round(s)}\u00a0s`;
  if (s < 7200) return `${Math.round(s / 60)}\u00a0min`;
  if (s < 172800) return `${Math.round(s / 3600)}\u00a0h`;
  return `${Math.round(s / 86400)}\u00a0d`;
}

/** ago is the time since a moment. */
export const ago = when => when ? age(Math.max(0, (Date.now() - new Date(when)) / 1000)) : 'never';

/** clock is the time of day of a moment. */
export function clock(when) {
  const at = new Date(when);
  return Number.isNaN(at.getTime()) ? '–' : at.toLocaleTimeString('en-GB') + '.' + String(at.getMilliseconds()).padStart(3, '0');
}

/** servicePort is the name of a Service, with that of its port. */
export const servicePort = (namespace, service, port) => `${namespace}/${service}${port ? `:${port}` : ''}`;

/** hostPort joins an address and a port. */
export const hostPort = (ip, port) => !ip ? '–' : !port ? ip : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
