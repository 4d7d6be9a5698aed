// Repositories on one side, and the one that was chosen on the other: its tags, and each image down to its layers.

import { h, svg, bytes, number, plural, ago, short, copy, line, say, empty, columns } from './dom.js';
import { get, Refused } from './data.js';

const FILTER_DELAY = 200;

/** The registry as commands name it. Docker takes a host without a dot or a port for a part of a name. */
function registry({ session }) {
  if (session.pull_from) return session.pull_from;
  const { host, hostname, protocol } = location;
  if (host !== hostname || /[.:]|^localhost$/.test(hostname)) return host;
  return `${host}:${protocol === 'https:' ? 443 : 80}`;
}

const address = (name) => `#/repositories/${name.split('/').map(encodeURIComponent).join('/')}`;

/** A name that says by itself where its content is. */
const isByCid = (text) => /^(ipfs|ipns|layer)\/[^/]+/.test(text);

export function repositories(main, shared, chosen) {
  const listed = list(shared);
  const detail = h('section', { class: 'detail', 'aria-label': 'Repository' });
  const pair = h('div', { class: 'pair' }, listed.element, detail);
  main.append(pair);
  const go = (name) => {
    pair.classList.toggle('chosen', Boolean(name));
    listed.choose(name);
    if (name) showRepository(detail, shared, name);
    else detail.replaceChildren(welcome(shared));
  };
  go(chosen);
  return { go, stop: listed.stop };
}

function list(shared) {
  const rows = h('ul', { class: 'list' });
  const note = h('p', { class: 'note' });
  const more = h('button', { type: 'button', class: 'button wide', hidden: true }, 'Show more');
  const filter = h('input', { type: 'search', id: 'filter', placeholder: 'Filter, or ipfs/<cid>', autocomplete: 'off', spellcheck: 'false' });
  const form = h('form', { role: 'search' }, h('label', { for: 'filter', class: 'aside' }, 'Filter repositories, or open a name by its CID'), filter);
  const byCid = h('div', {});
  const element = h('section', { class: 'side', 'aria-label': 'Repositories' }, h('h1', {}, 'Repositories'), form, rows, note, more, byCid);
  let [next, chosen, asked, timer] = ['', '', 0, 0];

  const mark = () => {
    for (const link of element.querySelectorAll('a')) {
      if (link.dataset.name === chosen) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    }
  };
  const load = async (isMore) => {
    const turn = ++asked;
    try {
      const page = await get('repositories', { filter: filter.value.trim(), last: isMore ? next : '' });
      if (turn !== asked) return;
      if (!isMore) rows.replaceChildren();
      rows.append(...page.repositories.map(entry));
      next = page.next;
      more.hidden = !next;
      const shownHere = rows.childElementCount;
      note.textContent = shownHere ? '' : filter.value ? 'No repository has this in its name.' : 'No repositories yet.';
      if (filter.value) say(plural(shownHere, 'repository', 'repositories'));
      mark();
      shared.fail(null);
    } catch (error) {
      if (turn !== asked) return;
      if (error.status === 401 || error.status === 403) note.textContent = 'Log in to see repositories.';
      else shared.fail(error);
    }
  };
  const loadImages = async () => {
    if (!shared.session.node) return;
    const images = await get('images').catch(() => []);
    if (images.length === 0) return;
    byCid.replaceChildren(h('h2', {}, 'Imported images'), h('ul', { class: 'list' }, images.map(imported)));
    mark();
  };
  filter.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => load(false), FILTER_DELAY);
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const name = filter.value.trim().replace(/^ipfs:\/\//, 'ipfs/').replace(/:[^:/]*$/, '');
    if (isByCid(name)) location.hash = address(name);
    else rows.querySelector('a')?.focus();
  });
  more.addEventListener('click', () => load(true));
  load(false);
  loadImages();
  return {
    element,
    choose: (name) => {
      chosen = name;
      mark();
    },
    stop: () => clearTimeout(timer),
  };
}

function entry({ name, pushed }) {
  const said = pushed
    ? [plural(pushed.tags, 'tag'), bytes(pushed.bytes), pushed.last_push ? ago(pushed.last_push) : null]
    : ['followed'];
  const facts = said.filter(Boolean).map((fact) => h('span', {}, fact));
  return h('li', {}, h('a', { href: address(name), 'data-name': name }, h('span', { class: 'name' }, name), h('span', { class: 'facts' }, facts)));
}

function imported({ reference, cid, size }) {
  const bare = reference.slice(reference.indexOf('/') + 1).replace(/:[^:/]*$/, '');
  const tag = reference.slice(reference.lastIndexOf(':') + 1);
  return h(
    'li',
    {},
    h('a', { href: address(bare), 'data-name': bare }, h('span', { class: 'name' }, tag), h('span', { class: 'facts' }, h('span', {}, short(cid)), h('span', {}, bytes(size)))),
  );
}

function welcome(shared) {
  const host = registry(shared);
  return h(
    'div',
    { class: 'welcome' },
    h('h2', {}, 'Choose a repository'),
    h('p', {}, 'Its tags, platforms, layers and referrers are shown here, with the lines that pull them.'),
    // Those who see the node may push.
    shared.session.node ? [h('h3', {}, 'Push one'), line(`docker tag app:1 ${host}/app:1`, 'the tag command'), line(`docker push ${host}/app:1`, 'the push command')] : null,
    h('h3', {}, 'Pull anything by its CID'),
    line(`docker pull ${host}/ipfs/<cid>`, 'the pull command'),
  );
}

/** Counts what is shown, so that an answer that comes too late is dropped. */
let turn = 0;

async function showRepository(detail, shared, name) {
  const mine = ++turn;
  const rows = h('tbody');
  const more = h('button', { type: 'button', class: 'button', hidden: true }, 'Show more tags');
  const table = h('div', { class: 'scroll' }, h('table', { class: 'tags' }, h('caption', { class: 'aside' }, `Tags of ${name}`), columns('Tag', 'Platforms', '#Size', 'Pushed', '+Digest'), rows));
  const pull = h('div', { class: 'pull' });
  const status = h('p', { class: 'note', role: 'status' }, 'Loading…');
  detail.replaceChildren(h('a', { class: 'back', href: '#/repositories' }, '‹ All repositories'), h('h2', { class: 'title' }, name), pull, status, table, more);
  table.hidden = true;
  const load = async (last) => {
    try {
      const page = await get('tags', { name, last });
      if (mine !== turn) return;
      status.textContent = page.stale ? 'The name could not be resolved just now: this is what it was.' : '';
      table.hidden = page.tags.length === 0;
      if (page.tags.length === 0) status.textContent = 'It has no tags.';
      if (!last && page.tags.length) pull.replaceChildren(...(await pullLines(shared, name, page.tags)));
      rows.append(...page.tags.flatMap((tag) => tagRows(shared, name, tag)));
      more.hidden = !page.next;
      more.onclick = () => load(page.next);
    } catch (error) {
      if (mine !== turn || !(error instanceof Refused)) throw error;
      status.textContent = [error.message, error.hint].filter(Boolean).join(' ');
    }
  };
  await load('');
}

/** The newest tag is the one to pull, unless there is `latest`. */
async function pullLines(shared, name, tags) {
  const best = tags.find(({ tag }) => tag === 'latest') ?? tags.toSorted((one, other) => (other.pushed ?? 0) - (one.pushed ?? 0))[0];
  const reference = `${name}:${best.tag}`;
  const lines = [line(`docker pull ${registry(shared)}/${reference}`, 'the pull command')];
  const [, cid] = /^ipfs\/(bafk[a-z2-7]+)$/.exec(name) ?? [];
  if (cid) lines.push(line(`nerdctl pull ipfs://${cid}`, 'the command for nerdctl'));
  if (shared.session.node && best.pushed) {
    const published = await published_(shared);
    if (published) lines.push(h('p', { class: 'note' }, 'At any node, by the name of this one:'), line(`docker pull localhost:5050/ipns/${published}/${reference}`, 'the pull command for other nodes'));
  }
  return lines;
}

async function published_(shared) {
  const { published } = await get('status').catch(() => ({}));
  return published?.share === 'all' && published.root ? published.name : null;
}

function tagRows(shared, name, { tag, pushed, image, missing }) {
  const id = `image-${name}-${tag}`.replace(/[^\w-]/g, '_');
  const open = h('button', { type: 'button', class: 'twist', 'aria-expanded': 'false', 'aria-controls': id }, svg('svg', { viewBox: '0 0 8 8', 'aria-hidden': 'true' }, svg('path', { d: 'M2 1l4 3-4 3z' })), tag);
  const cell = h('td', { colspan: 5 });
  const below = h('tr', { id, class: 'below', hidden: true }, cell);
  open.addEventListener('click', () => {
    below.hidden = !below.hidden;
    open.setAttribute('aria-expanded', !below.hidden);
    if (!below.hidden && !cell.hasChildNodes()) showImage(cell, shared, name, tag);
  });
  const facts = image
    ? [h('td', { class: 'chips' }, chips(image)), h('td', { class: 'n' }, bytes(image.bytes)), h('td', {}, ago(pushed ?? image.parts[0]?.created)), h('td', { class: 'with spare' }, short(image.digest), copy(image.digest, 'the digest'))]
    : [h('td', { colspan: 4, class: 'bad' }, missing)];
  return [h('tr', {}, h('th', { scope: 'row' }, open), facts), below];
}

function chips({ parts, artifact_type, omitted }) {
  const platforms = parts.map((part) => part.platform).filter(Boolean);
  const others = parts.filter((part) => part.about);
  const named = [...platforms.slice(0, 4), platforms.length > 4 ? `+${platforms.length - 4 + omitted}` : null].filter(Boolean);
  if (named.length === 0 && others.length === 0) return h('span', { class: 'quiet' }, artifact_type ?? '–');
  const about = [...new Set(others.map((part) => part.about))].map((kind) => h('span', { class: 'chip soft' }, kind));
  return [named.map((platform) => h('span', { class: 'chip' }, platform)), about];
}

async function showImage(cell, shared, name, reference) {
  cell.append(h('p', { class: 'note', role: 'status' }, 'Loading…'));
  try {
    const { image, referrers, more_referrers, missing } = await get('image', { name, reference });
    cell.replaceChildren(
      line(`docker pull ${registry(shared)}/${name}@${image.digest}`, 'the pull command by digest'),
      ...image.parts.map((part) => showPart(part, image.parts.length > 1)),
      image.omitted ? h('p', { class: 'note' }, `${number(image.omitted)} more are in the index.`) : '',
      showReferrers(referrers, more_referrers, missing),
    );
  } catch (error) {
    cell.replaceChildren(h('p', { class: 'bad' }, error.message));
  }
}

function showPart({ platform, about, digest, bytes: size, layers, missing, created }, isOne) {
  const most = Math.max(1, ...layers.map((layer) => layer.bytes));
  const title = [platform, about].filter(Boolean).join(' · ') || 'Manifest';
  return h(
    'section',
    { class: 'part' },
    h('h3', {}, title, h('span', { class: 'facts' }, h('span', {}, bytes(size)), h('span', {}, plural(layers.length, 'layer')), created ? h('span', {}, 'built ', ago(created)) : null, isOne ? h('span', { class: 'with' }, short(digest), copy(digest, 'the digest')) : null)),
    missing ? h('p', { class: 'bad' }, missing) : null,
    layers.length ? h('ol', { class: 'layers' }, layers.map((layer) => showLayer(layer, most))) : null,
  );
}

function showLayer({ digest, bytes: size, media_type, url }, most) {
  const width = Math.max(0.5, (100 * size) / most);
  return h(
    'li',
    {},
    svg('svg', { class: 'measure', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('rect', { width, height: 6, rx: 1 })),
    h('span', { class: 'n' }, bytes(size)),
    h('span', { class: 'with' }, short(digest), copy(digest, 'the layer digest')),
    h('span', { class: 'quiet kind', title: media_type }, kind(media_type)),
    url ? h('span', { class: 'with' }, h('code', { class: 'id', title: url }, url.slice(0, 24) + '…'), copy(url, 'the address')) : null,
  );
}

const kind = (mediaType) => mediaType.replace(/^application\/vnd\.(oci|docker)\.image\.(layer|rootfs)\.(v1\.|diff\.)?/, '').replace(/^application\/vnd\./, '');

function showReferrers(referrers, hasMore, missing) {
  if (missing) return h('p', { class: 'bad' }, missing);
  if (referrers.length === 0) return h('p', { class: 'note' }, 'No referrers: no signature, SBOM or other artifact refers to it.');
  const row = ({ digest, artifact_type, bytes: size, created }) =>
    h('tr', {}, h('td', {}, artifact_type ?? 'artifact'), h('td', { class: 'n' }, bytes(size)), h('td', {}, created ? ago(created) : '–'), h('td', { class: 'with' }, short(digest), copy(digest, 'the digest of the referrer')));
  return h(
    'section',
    { class: 'part' },
    h('h3', {}, plural(referrers.length, 'referrer')),
    h('div', { class: 'scroll' }, h('table', {}, h('caption', { class: 'aside' }, 'Referrers'), columns('Type', '#Manifest', 'Created', 'Digest'), h('tbody', {}, referrers.map(row)))),
    hasMore ? h('p', { class: 'note' }, 'There are more.') : null,
  );
}
