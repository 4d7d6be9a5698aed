// What the store holds and what a collection would free; the names that are published and followed.

import { h, svg, text, bytes, number, plural, duration, ago, short, copy, line, say, empty, columns, figure } from './dom.js';
import { get } from './data.js';

const SLOW = 5000;

/** The uses of the disk, from what is kept to what goes first. */
const USES = [
  ['owned', 'Added, pushed and imported', (room) => room.owned_bytes],
  ['followed', 'Followed names', (room) => room.followed_bytes],
  ['cached', 'Pull cache', (room) => room.cached_bytes],
  ['arriving', 'Partial downloads', (room) => room.partial_bytes],
  ['uploads', 'Uploads', (room) => room.upload_bytes + room.abandoned_upload_bytes],
];

export function store(main, shared) {
  const figures = { used: figure('Used', '–'), blobs: figure('Blobs', '–'), blocks: figure('Blocks', '–'), pins: figure('Pins', '–'), index: figure('Index', '–'), damaged: figure('Damaged', '–') };
  const bar = svg('svg', { class: 'uses', viewBox: '0 0 1000 24', preserveAspectRatio: 'none', role: 'img', 'aria-label': 'Use of the disk; the table below has the numbers' });
  const rows = h('tbody');
  const limit = h('p', { class: 'note' });
  const garbage = collection(shared);
  main.append(
    h('h1', { class: 'aside' }, 'Store'),
    h('dl', { class: 'figures' }, Object.values(figures).map((one) => one.element)),
    h('section', { class: 'card' }, h('h2', {}, 'What uses the disk'), bar, h('div', { class: 'scroll' }, h('table', { class: 'use' }, h('caption', { class: 'aside' }, 'Use of the disk'), columns('Use', '#Bytes', '#Share'), rows)), limit),
    garbage.element,
  );
  let last = '';
  const got = (stored) => {
    shared.fail(null);
    const now = JSON.stringify(stored);
    if (now === last) return;
    last = now;
    text(figures.used.shown, bytes(stored.used_bytes));
    text(figures.blobs.shown, number(stored.blobs));
    text(figures.blocks.shown, number(stored.blocks));
    text(figures.pins.shown, `${number(stored.pins)}${stored.pinned_bytes ? ` (${bytes(stored.pinned_bytes)})` : ''}`);
    text(figures.index.shown, bytes(stored.index_bytes));
    text(figures.damaged.shown, number(stored.damaged));
    figures.damaged.element.classList.toggle('alarm', stored.damaged > 0);
    showUses(bar, rows, stored);
    limit.replaceChildren(...limits(stored));
  };
  const stop = shared.watch(SLOW, () => get('store'), got, shared.fail);
  garbage.count();
  return { go: () => {}, stop };
}

function showUses(bar, rows, stored) {
  const uses = USES.map(([id, name, of]) => ({ id, name, size: of(stored) || 0 }));
  const known = uses.reduce((sum, use) => sum + use.size, 0);
  const free = Math.max(0, (stored.max_size ?? 0) - Math.max(known, stored.used_bytes));
  const all = Math.max(1, known + free);
  let at = 0;
  bar.replaceChildren(svg('rect', { class: 'free', width: 1000, height: 24 }));
  for (const use of uses) {
    const width = (1000 * use.size) / all;
    if (width > 0) bar.append(svg('rect', { class: use.id, x: at.toFixed(2), width: Math.max(1, width - 1.5).toFixed(2), height: 24 }, svg('title', {}, `${use.name}: ${bytes(use.size)}`)));
    at += width;
  }
  const row = (use) => h('tr', {}, h('th', { scope: 'row' }, h('span', { class: `key ${use.id}`, 'aria-hidden': 'true' }), use.name), h('td', { class: 'n' }, bytes(use.size)), h('td', { class: 'n' }, known ? `${((100 * use.size) / known).toFixed(1)} %` : '–'));
  rows.replaceChildren(...uses.map(row));
}

function limits({ cache_size, max_size, abandoned_uploads, oldest_upload_seconds }) {
  const limited = (what, size, flag) => (size === null || size === undefined ? [`The ${what} has no limit (`, h('code', {}, flag), '). '] : [`The ${what} is limited to ${bytes(size)}. `]);
  const abandoned = () => [`${plural(abandoned_uploads, 'upload was', 'uploads were')} abandoned, the oldest ${duration(oldest_upload_seconds)} ago: `, h('code', {}, 'ocipfs store gc --uploads'), ' drops them.'];
  return [...limited('store', max_size, '--max-size'), ...limited('pull cache', cache_size, '--cache-size'), ...(abandoned_uploads ? abandoned() : [])];
}

/** What `store gc` would do: counted when it is looked at, since it walks through the whole store. */
function collection(shared) {
  const result = h('p', { class: 'big' }, 'Counting…');
  const note = h('p', { class: 'note' });
  const again = h('button', { type: 'button', class: 'button' }, 'Count again');
  const count = async () => {
    again.disabled = true;
    try {
      const { bytes: freed, blobs, partial, blocks } = await get('garbage');
      text(result, freed || blobs || partial || blocks ? `${bytes(freed)} would be freed` : 'Nothing to free');
      const parts = [[blobs, 'blob'], [partial, 'partial file'], [blocks, 'loose block']].filter(([many]) => many > 0).map(([many, one]) => plural(many, one));
      text(note, parts.join(', '));
      if (document.activeElement === again) say(result.textContent);
    } catch (error) {
      text(result, 'It could not be counted');
      text(note, error.message);
    }
    again.disabled = false;
  };
  again.addEventListener('click', count);
  const element = h('section', { class: 'card' }, h('h2', {}, 'Garbage collection'), result, note, h('div', { class: 'actions' }, again, line('ocipfs store gc', 'the command')));
  return { element, count };
}

export function names(main, shared) {
  const own = h('section', { class: 'card' }, h('h2', {}, 'Published'));
  const followed = h('section', {}, h('h2', {}, 'Followed'));
  main.append(h('h1', { class: 'aside' }, 'Names'), own, followed);
  let last = '';
  const got = (status) => {
    shared.fail(null);
    const now = JSON.stringify([status.published, status.followed]);
    if (now === last) return;
    last = now;
    own.replaceChildren(h('h2', {}, 'Published'), ...published(status.published));
    const open = new Set([...followed.querySelectorAll('details[open]')].map((one) => one.dataset.name));
    followed.replaceChildren(h('h2', {}, 'Followed'), ...(status.followed.length ? status.followed.map((one) => followedName(one, open.has(one.name))) : [empty('No name is followed. ', h('code', {}, 'ocipfs name follow NAME'), ' follows one.')]));
  };
  const stop = shared.watch(SLOW, () => get('status'), got, shared.fail);
  return { go: () => {}, stop };
}

function published({ name, root, share, sequence, behind, failing, conflicting_writers: conflicting }) {
  const facts = [
    ['Name', h('span', { class: 'with' }, short(name, 24), copy(name, 'the name'))],
    ['Root', root ? h('span', { class: 'with' }, short(root, 24), copy(root, 'the root')) : 'nothing was pushed yet'],
    ['Sharing', share === 'all' ? 'pushed content is shared with peers' : 'pushed content stays here'],
    sequence === null || sequence === undefined ? null : ['Record', `number ${number(sequence)}`],
    ['State', failing ? h('span', { class: 'bad' }, failing) : behind ? `${plural(behind, 'change')} to publish` : 'up to date'],
    conflicting?.length ? ['Conflict', h('span', { class: 'bad' }, 'another node writes this name too')] : null,
  ];
  return [h('dl', { class: 'facts-list' }, facts.filter(Boolean).map(([what, value]) => h('div', {}, h('dt', {}, what), h('dd', {}, value))))];
}

/** How far a followed name is: a word for the state, and a sentence. */
function lag({ failing, stale, served, sequence, lag_seconds, missing_repositories, missing_bytes, value }) {
  const since = lag_seconds ? ` Behind for ${duration(lag_seconds)}.` : '';
  if (failing) return ['bad', 'failing', failing + (since && `.${since}`)];
  if (!value) return ['warn', 'waiting', 'No record has been received yet.'];
  const versions = served && sequence !== null ? Math.max(0, sequence - served.sequence) : null;
  if (missing_repositories > 0 || versions > 0 || !served) {
    const parts = [versions ? `${plural(versions, 'record')} behind` : null, missing_repositories ? `${plural(missing_repositories, 'repository', 'repositories')} incomplete` : null, missing_bytes ? `${bytes(missing_bytes)} to fetch` : null];
    return ['warn', 'behind', `${parts.filter(Boolean).join(', ') || 'The newest version is being fetched'}.${since}`];
  }
  if (stale) return ['warn', 'stale', 'Its publisher has not been heard of for long; the last version is served.'];
  return ['good', 'up to date', ''];
}

function followedName(one, isOpen) {
  const [tone, word, sentence] = lag(one);
  const facts = [
    ['State', h('span', {}, h('span', { class: `state ${tone}` }, word), sentence ? ` ${sentence}` : '')],
    ['Record', one.sequence === null ? '–' : `number ${number(one.sequence)}`],
    ['Served', one.served ? h('span', { class: 'with' }, `number ${number(one.served.sequence)}, since `, ago(one.served.since), short(one.served.root), copy(one.served.root, 'the root')) : 'nothing complete yet'],
  ];
  const repository = ({ name, directory, tags, shadowed }) =>
    h('tr', {}, h('th', { scope: 'row' }, h('a', { href: `#/repositories/${name}` }, name)), h('td', {}, tags.slice(0, 8).join(', ') + (tags.length > 8 ? ` and ${tags.length - 8} more` : '')), h('td', {}, shadowed.length ? `hidden by own pushes: ${shadowed.slice(0, 4).join(', ')}` : ''), h('td', { class: 'with' }, short(directory), copy(`ipfs://${directory}`, 'the address')));
  const more = one.complete_repositories - one.repositories.length;
  return h(
    'article',
    { class: 'card' },
    h('h3', { class: 'with' }, short(one.name, 24), copy(one.name, 'the name')),
    h('dl', { class: 'facts-list' }, facts.map(([what, value]) => h('div', {}, h('dt', {}, what), h('dd', {}, value)))),
    h(
      'details',
      { open: isOpen, 'data-name': one.name },
      h('summary', {}, plural(one.complete_repositories, 'repository', 'repositories')),
      h('div', { class: 'scroll' }, h('table', {}, h('caption', { class: 'aside' }, 'Followed repositories'), columns('Repository', 'Tags', '', 'Directory'), h('tbody', {}, one.repositories.map(repository)))),
      more > 0 ? h('p', { class: 'note' }, `${number(more)} more are complete.`) : null,
    ),
  );
}
