// Elements, numbers and times as text, and buttons that copy. Text is only ever set as text.

/** Makes an element: attributes, `on…` handlers, and children, of which null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, attributes);
  element.append(...children.flat(Infinity).filter(Boolean));
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
}

/** Sets text only where it is another: a screen reader and the browser then have nothing to do. */
export function text(element, value) {
  const now = String(value);
  if (element.textContent !== now) element.textContent = now;
}

/**
 * Keeps children in the order of items, one for each key, and does not make those again that stay: focus and selection stay too.
 * `make` returns an element and what updates it.
 */
export function keyed(parent, items, keyOf, make) {
  const known = (parent.entries_ ??= new Map());
  const kept = new Set();
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (kept.has(key)) continue;
    kept.add(key);
    let entry = known.get(key);
    if (!entry) known.set(key, (entry = make(item)));
    entry.update?.(item);
    if (entry.element !== before) parent.insertBefore(entry.element, before);
    else before = before.nextElementSibling;
  }
  for (const [key, entry] of known) {
    if (kept.has(key)) continue;
    entry.element.remove();
    known.delete(key);
  }
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes, in the units of the commands. */
export function bytes(count) {
  let unit = 0;
  let value = count || 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export const rate = (perSecond) => (perSecond < 1 ? '0 B/s' : `${bytes(perSecond)}/s`);

export const number = (count) => (count || 0).toLocaleString('en');

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** A length of time in its two largest units. */
export function duration(seconds) {
  const parts = [
    ['d', 86400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ];
  let rest = Math.max(0, Math.floor(seconds));
  const said = [];
  for (const [unit, length] of parts) {
    const count = Math.floor(rest / length);
    rest -= count * length;
    if (count > 0) said.push(`${count} ${unit}`);
    else if (said.length > 0) break;
    if (said.length === 2) break;
  }
  return said.join(' ') || '0 s';
}

/** A time as people say it, with the exact one in its title. Takes seconds since 1970 or a text of RFC 3339. */
export function ago(at) {
  const milliseconds = typeof at === 'number' ? at * 1000 : Date.parse(at);
  if (!milliseconds || Number.isNaN(milliseconds)) return h('span', { class: 'quiet' }, '–');
  const exact = new Date(milliseconds);
  const seconds = (Date.now() - milliseconds) / 1000;
  const said =
    seconds < 45 ? 'just now' : seconds < 86400 * 60 ? `${duration(seconds).split(' ').slice(0, 2).join(' ')} ago` : exact.toISOString().slice(0, 10);
  return h('time', { datetime: exact.toISOString(), title: exact.toLocaleString() }, said);
}

/** A digest, a CID or a peer ID, short where it is shown and whole where it is copied or pointed at. */
export function short(id, head = 12) {
  const bare = id.replace(/^sha256:/, '');
  const shown = bare.length > head + 8 ? `${bare.slice(0, head)}…${bare.slice(-4)}` : bare;
  return h('code', { class: 'id', title: id }, shown);
}

/** A button that copies a text and says so. */
export function copy(value, what) {
  const button = h('button', { type: 'button', class: 'copy', 'aria-label': `Copy ${what}`, title: `Copy ${what}` }, icon());
  button.addEventListener('click', async () => {
    const done = await toClipboard(value);
    button.classList.toggle('done', done);
    say(done ? `Copied ${what}` : `Could not copy: ${value}`);
    setTimeout(() => button.classList.remove('done'), 1500);
  });
  return button;
}

function icon() {
  return svg(
    'svg',
    { viewBox: '0 0 16 16', 'aria-hidden': 'true' },
    svg('path', { class: 'sheet', d: 'M5.5 5.5h8v8h-8z M10.5 5.5v-3h-8v8h3' }),
    svg('path', { class: 'tick', d: 'M3 8.5l3.5 3.5 6.5-7' }),
  );
}

async function toClipboard(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    // There is no clipboard API on a page that came by plain HTTP from another machine.
    const field = h('textarea', { class: 'aside', readonly: true });
    const focused = document.activeElement;
    field.value = value;
    document.body.append(field);
    field.select();
    const done = document.execCommand('copy');
    field.remove();
    focused?.focus();
    return done;
  }
}

/** A line to copy, such as a command. */
export function line(value, what) {
  return h('div', { class: 'line' }, h('code', {}, value), copy(value, what));
}

/** Tells people who listen. */
export function say(message) {
  text(document.getElementById('said'), message);
}

export const empty = (...children) => h('p', { class: 'empty' }, ...children);

/** Headings of columns: `#` for numbers, `+` for what a narrow window leaves out. */
export const columns = (...names) =>
  h('thead', {}, h('tr', {}, names.map((name) => h('th', { scope: 'col', class: { '#': 'n', '+': 'spare' }[name[0]] }, name.replace(/^[#+]/, '')))));

/** A figure with its name. */
export function figure(name, value, note) {
  const shown = h('dd', {}, value);
  const element = h('div', { class: 'figure' }, h('dt', {}, name), shown, note ? h('dd', { class: 'note' }, note) : null);
  return { element, shown };
}
