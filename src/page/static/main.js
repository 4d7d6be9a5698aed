// The frame: which view is shown, who looks, and how the node is in one line.

import { h, text, rate, plural, say } from './dom.js';
import { get, watch, Rates } from './data.js';
import { repositories } from './repositories.js';
import { swarm, transfers } from './swarm.js';
import { store, names } from './store.js';

const VIEWS = { repositories, swarm, transfers, store, names };
const POLL = 2000;
const HISTORY = 60;

const main = document.getElementById('main');
const banner = document.getElementById('banner');
const tabs = [...document.querySelectorAll('[role=tab]')];

/** What views share: the session, the last word of the swarm, and what wants to hear of it. */
const shared = { session: null, swarm: null, rates: null, history: [], listeners: new Set(), watch, fail };
let leave = null;
let shown = '';

/** The address after `#`: a view, and for repositories a name. */
function route() {
  const [view, ...rest] = decoded(location.hash.replace(/^#\/?/, '')).split('/');
  const known = tabs.find((tab) => tab.dataset.view === view && !tab.hidden);
  return { view: known ? view : 'repositories', rest: known ? rest.join('/') : '' };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  // The link that leads past the head.
  if (location.hash === '#main' && leave) return main.focus();
  const { view, rest } = route();
  for (const tab of tabs) {
    const selected = tab.dataset.view === view;
    tab.setAttribute('aria-selected', selected);
    tab.tabIndex = selected ? 0 : -1;
  }
  if (view === shown && leave?.go) return leave.go(rest);
  leave?.stop?.();
  shown = view;
  main.setAttribute('aria-labelledby', `tab-${view}`);
  main.replaceChildren();
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · ocipfs`;
  leave = VIEWS[view](main, shared, rest);
}

function choose(tab) {
  location.hash = `#/${tab.dataset.view}`;
  tab.focus();
}

function onKey(event) {
  const open = tabs.filter((tab) => !tab.hidden);
  const at = open.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: open.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  choose(open[(to + open.length) % open.length]);
}

/** Tells what went wrong, until something goes right again. */
function fail(error) {
  const said = error ? [error.message, error.hint].filter(Boolean).join(' ') : '';
  if (!error) {
    if (!banner.hidden) say('The node answers again.');
    banner.hidden = true;
  } else if (banner.hidden || banner.textContent !== said) {
    text(banner, said);
    banner.hidden = false;
  }
}

const rates = new Rates();

/** Takes one look at the swarm, and tells those who want to know. */
function heard(data) {
  fail(null);
  const totals = [['in', data.received_bytes], ['out', data.sent_bytes]];
  for (const peer of data.peers) totals.push([`in ${peer.peer}`, peer.received_bytes], [`out ${peer.peer}`, peer.sent_bytes]);
  for (const one of data.downloads) totals.push([`down ${one.root}`, one.done]);
  const upload = (one, index) => `up ${one.repository} ${index}`;
  data.uploads.forEach((one, index) => totals.push([upload(one, index), one.done]));
  shared.rates = rates.sample(data.at_ms, totals);
  shared.swarm = data;
  shared.history.push({ in: shared.rates('in'), out: shared.rates('out') });
  shared.history.splice(0, shared.history.length - HISTORY);
  pulse(data);
  for (const listener of shared.listeners) listener();
}

const parts = { peers: h('span'), down: h('span'), up: h('span') };

function pulse(data) {
  text(parts.peers, plural(data.peer_count, 'peer'));
  text(parts.down, `↓ ${rate(shared.rates('in'))}`);
  text(parts.up, `↑ ${rate(shared.rates('out'))}`);
  const count = document.querySelector('#tab-transfers .count');
  const moving = data.download_count + data.upload_count;
  count.hidden = moving === 0;
  text(count, moving);
}

function introduce({ user, login, node }) {
  const who = document.getElementById('who');
  who.replaceChildren(
    ...(user ? [h('span', { title: 'Logged in' }, user)] : []),
    ...(login ? [h('a', { class: 'button', href: login }, 'Log in')] : []),
  );
  const foot = document.getElementById('foot');
  foot.replaceChildren(...(node ? [h('span', {}, `ocipfs ${node.version}`), h('span', {}, 'read-only')] : [h('span', {}, 'ocipfs')]));
  for (const tab of tabs) tab.hidden = tab.dataset.view !== 'repositories' && !node;
  if (node) document.getElementById('pulse').replaceChildren(parts.peers, parts.down, parts.up);
}

async function start() {
  try {
    shared.session = await get('session');
  } catch (error) {
    fail(error);
    // Asked again, the browser would ask for a password each time.
    if (error.status === 401) introduce({ login: '/page/data/login' });
    else setTimeout(start, POLL);
    return;
  }
  fail(null);
  introduce(shared.session);
  if (shared.session.node) watch(POLL, () => get('swarm'), heard, fail);
  document.querySelector('[role=tablist]').addEventListener('keydown', onKey);
  tabs.forEach((tab) => tab.addEventListener('click', () => choose(tab)));
  addEventListener('hashchange', show);
  show();
}

start();
