// The swarm as a graph and as a table, and what is being transferred.

import { h, svg, text, keyed, bytes, rate, number, plural, duration, short, copy, empty, columns, figure } from './dom.js';
import { get } from './data.js';

const SLOW = 5000;
/** Peers of the graph; the table has all that the node lists. */
const MAX_DRAWN = 48;
const RING = 16;
const SIZE = { width: 560, height: 420 };

export function swarm(main, shared) {
  const figures = { peers: figure('Peers', '–'), down: figure('Receiving', '–'), up: figure('Sending', '–'), reach: figure('Reachable', '–'), network: figure('Network', '–'), announced: figure('Announced', '–') };
  const graph = drawGraph();
  const lines = drawHistory();
  const rows = h('tbody');
  const none = empty('No peer is connected. ', h('code', {}, '--peer'), ' and ', h('code', {}, 'ocipfs swarm connect'), ' name one.');
  const table = h('div', { class: 'scroll' }, h('table', {}, h('caption', {}, 'Connected peers'), columns('Peer', 'Program', 'Address', '', '#Since', '#↓', '#↑', '#Received', '#Sent'), rows));
  const own = h('div', {});
  main.append(
    h('h1', { class: 'aside' }, 'Swarm'),
    h('dl', { class: 'figures' }, Object.values(figures).map((one) => one.element)),
    h('div', { class: 'two' }, h('figure', { class: 'card' }, h('figcaption', {}, 'Peers and what flows between them and this node. Filled: this node dialed; hollow: it was dialed.'), graph.element, none), h('div', { class: 'column' }, h('figure', { class: 'card' }, h('figcaption', {}, 'The last two minutes'), lines.element), own)),
    table,
  );
  const update = () => {
    const { swarm: data, rates } = shared;
    if (!data) return;
    text(figures.peers.shown, number(data.peer_count));
    text(figures.down.shown, rate(rates('in')));
    text(figures.up.shown, rate(rates('out')));
    none.hidden = data.peers.length > 0;
    graph.element.toggleAttribute('hidden', data.peers.length === 0);
    table.hidden = data.peers.length === 0;
    graph.update(data, rates);
    lines.update(shared.history);
    keyed(rows, data.peers, (peer) => peer.peer, (peer) => peerRow(peer, shared));
    if (!own.hasChildNodes()) own.append(ownAddresses(data.identity));
  };
  shared.listeners.add(update);
  update();
  const stop = shared.watch(SLOW, () => get('status'), (status) => state(figures, status), shared.fail);
  return {
    go: () => {},
    stop: () => {
      shared.listeners.delete(update);
      stop();
    },
  };
}

function state(figures, status) {
  text(figures.reach.shown, status.network === 'own' || status.reachability === 'own' ? 'own network' : status.reachable ? 'yes' : 'no');
  text(figures.network.shown, status.network);
  const waiting = status.announcing ? ` (${number(status.announcing)} waiting)` : '';
  text(figures.announced.shown, `${number(status.announced)}${waiting}`);
}

function ownAddresses({ peer, listen, announced }) {
  const all = [...new Set([...announced, ...listen])].slice(0, 6);
  return h(
    'section',
    { class: 'card' },
    h('h2', {}, 'This node'),
    h('p', { class: 'with' }, short(peer, 20), copy(peer, 'the peer ID')),
    h('ul', { class: 'plain' }, all.map((one) => h('li', { class: 'with' }, h('code', { class: 'id', title: one }, one.replace(/\/p2p\/.*/, '')), copy(one, 'the address')))),
  );
}

function peerRow(first, shared) {
  const cells = { since: h('td', { class: 'n' }), down: h('td', { class: 'n flow-in' }), up: h('td', { class: 'n flow-out' }), received: h('td', { class: 'n' }), sent: h('td', { class: 'n' }), agent: h('td') };
  const bare = first.address.replace(/\/p2p\/.*/, '');
  const way = `${first.outbound ? 'dialed' : 'accepted'}${first.relayed ? ', relayed' : ''}`;
  const element = h('tr', {}, h('th', { scope: 'row', class: 'with' }, short(first.peer.slice(-16), 8), copy(first.peer, 'the peer ID')), cells.agent, h('td', {}, h('code', { class: 'id', title: first.address }, bare)), h('td', { class: 'quiet' }, way), cells.since, cells.down, cells.up, cells.received, cells.sent);
  const update = (peer) => {
    text(cells.agent, peer.agent ?? '–');
    text(cells.since, duration(peer.seconds));
    text(cells.down, rate(shared.rates(`in ${peer.peer}`)));
    text(cells.up, rate(shared.rates(`out ${peer.peer}`)));
    text(cells.received, bytes(peer.received_bytes));
    text(cells.sent, bytes(peer.sent_bytes));
  };
  return { element, update };
}

/** This node in the middle, its peers in rings around it. A line is as wide as what flows is fast, on a scale of powers. */
function drawGraph() {
  const edges = svg('g', { class: 'edges' });
  const nodes = svg('g', { class: 'nodes' });
  const { width, height } = SIZE;
  const middle = { x: width / 2, y: height / 2 };
  const own = svg('g', { class: 'own' }, svg('circle', { cx: middle.x, cy: middle.y, r: 20 }), svg('text', { x: middle.x, y: middle.y + 4 }, 'this'));
  const element = svg('svg', { class: 'graph', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'Graph of the connected peers; the table below has the same numbers' }, edges, own, nodes);
  const place = (index, count) => {
    const rings = Math.ceil(count / RING);
    const most = Math.ceil(count / rings);
    const ring = Math.floor(index / most);
    const inRing = Math.min(most, count - ring * most);
    const angle = ((index % most) + (ring % 2) / 2) * ((2 * Math.PI) / inRing) - Math.PI / 2;
    const far = rings === 1 ? 0.86 : 0.52 + (0.45 * ring) / (rings - 1);
    return { x: middle.x + Math.cos(angle) * far * (width / 2 - 50), y: middle.y + Math.sin(angle) * far * (height / 2 - 22) };
  };
  const update = (data, rates) => {
    const busy = (peer) => rates(`in ${peer.peer}`) + rates(`out ${peer.peer}`);
    const drawn = data.peers.length > MAX_DRAWN ? data.peers.toSorted((one, other) => busy(other) - busy(one)).slice(0, MAX_DRAWN) : data.peers;
    const placed = drawn.map((peer, index) => ({ ...peer, ...place(index, drawn.length) }));
    const isCrowded = placed.length > RING;
    keyed(edges, placed, (peer) => peer.peer, () => edge(middle));
    keyed(nodes, placed, (peer) => peer.peer, dot);
    for (const peer of placed) edges.entries_.get(peer.peer).flow(rates(`in ${peer.peer}`), rates(`out ${peer.peer}`), isCrowded);
    for (const peer of placed) nodes.entries_.get(peer.peer).flow(rates(`in ${peer.peer}`), rates(`out ${peer.peer}`), isCrowded);
  };
  return { element, update };
}

const thickness = (perSecond, isCrowded) => (perSecond < 1 ? 0 : Math.min(9, 1.5 + Math.log10(perSecond / 1000 + 1) * 1.6) * (isCrowded ? 0.5 : 1));

/** Two lines, one for each direction, beside each other. */
function edge(middle) {
  const still = svg('line', { class: 'still' });
  const incoming = svg('line', { class: 'in' });
  const outgoing = svg('line', { class: 'out' });
  const element = svg('g', {}, still, incoming, outgoing);
  let at = middle;
  const draw = (one, offset) => {
    const length = Math.hypot(at.x - middle.x, at.y - middle.y) || 1;
    const [dx, dy] = [(-(at.y - middle.y) / length) * offset, ((at.x - middle.x) / length) * offset];
    for (const [name, value] of Object.entries({ x1: middle.x + dx, y1: middle.y + dy, x2: at.x + dx, y2: at.y + dy })) one.setAttribute(name, value.toFixed(1));
  };
  const flow = (received, sent, isCrowded) => {
    const [wide, other] = [thickness(received, isCrowded), thickness(sent, isCrowded)];
    draw(still, 0);
    draw(incoming, -wide / 2 - 0.5);
    draw(outgoing, other / 2 + 0.5);
    incoming.setAttribute('stroke-width', wide.toFixed(1));
    outgoing.setAttribute('stroke-width', other.toFixed(1));
    still.classList.toggle('busy', wide + other > 0);
  };
  return { element, flow, update: (peer) => (at = { x: peer.x, y: peer.y }) };
}

function dot(peer) {
  const circle = svg('circle');
  const label = svg('text', { class: 'label' });
  const speed = svg('text', { class: 'speed' });
  const title = svg('title');
  const element = svg('g', { class: peer.outbound ? 'outbound' : 'inbound' }, title, circle, label, speed);
  const flow = (received, sent, isCrowded) => {
    const said = [received >= 1 ? `↓ ${rate(received)}` : '', sent >= 1 ? `↑ ${rate(sent)}` : ''].filter(Boolean).join('  ');
    // The names of so many would cover the graph: the title of each has its own.
    text(speed, isCrowded ? '' : said);
    text(label, isCrowded ? '' : peer.peer.slice(-6));
    circle.setAttribute('r', isCrowded ? 5 : 9);
    text(title, `${peer.peer.slice(-6)}: ${peer.agent ?? 'unknown program'}, ${peer.address}. ${said || 'idle'}`);
  };
  const update = ({ x, y }) => {
    const set = (one, attributes) => Object.entries(attributes).forEach(([name, value]) => one.setAttribute(name, value.toFixed(1)));
    const isAbove = y < SIZE.height / 2 - 1;
    set(circle, { cx: x, cy: y });
    set(label, { x, y: isAbove ? y - 14 : y + 24 });
    set(speed, { x, y: isAbove ? y - 30 : y + 40 });
  };
  return { element, flow, update };
}

/** What came and went in the last two minutes. */
function drawHistory() {
  const [width, height] = [320, 110];
  const incoming = svg('path', { class: 'in' });
  const outgoing = svg('path', { class: 'out' });
  const most = h('span', {});
  const element = h('div', { class: 'history' }, svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('path', { class: 'ground', d: `M0 ${height - 0.5}H${width}` }), incoming, outgoing), h('p', { class: 'legend' }, h('span', { class: 'flow-in' }, '↓ received'), h('span', { class: 'flow-out' }, '↑ sent'), most));
  const update = (history) => {
    const top = Math.max(1024, ...history.map((one) => Math.max(one.in, one.out)));
    const points = (name) => history.map((one, index) => `${(((60 - history.length + index) / 59) * width).toFixed(1)} ${(height - 1 - (one[name] / top) * (height - 10)).toFixed(1)}`);
    for (const [path, name] of [[incoming, 'in'], [outgoing, 'out']]) path.setAttribute('d', history.length > 1 ? `M${points(name).join('L')}` : '');
    text(most, top > 1024 ? `top ${rate(top)}` : 'idle');
  };
  return { element, update };
}

export function transfers(main, shared) {
  const downloads = h('ul', { class: 'transfers' });
  const uploads = h('ul', { class: 'transfers' });
  const none = [empty('Nothing is being downloaded.'), empty('Nothing is being pushed.')];
  const note = h('p', { class: 'note' });
  main.append(h('h1', {}, 'Transfers'), h('section', {}, h('h2', {}, 'From peers'), none[0], downloads), h('section', {}, h('h2', {}, 'From clients'), none[1], uploads), note);
  const update = () => {
    const { swarm: data, rates } = shared;
    if (!data) return;
    none[0].hidden = data.downloads.length > 0;
    none[1].hidden = data.uploads.length > 0;
    keyed(downloads, data.downloads.toSorted((one, other) => other.bytes - one.bytes), (one) => one.root, (one) => bar(one.digest ?? one.root, 'download'));
    keyed(uploads, data.uploads.map((one, index) => ({ ...one, index })), (one) => `${one.repository} ${one.index}`, (one) => bar(one.repository, 'upload'));
    for (const one of data.downloads) downloads.entries_.get(one.root).show(one.done, one.bytes, rates(`down ${one.root}`), plural(one.readers, 'reader'));
    data.uploads.forEach((one, index) => uploads.entries_.get(`${one.repository} ${index}`).show(one.done, null, rates(`up ${one.repository} ${index}`), ''));
    const hidden = data.download_count + data.upload_count - data.downloads.length - data.uploads.length;
    text(note, hidden > 0 ? `${number(hidden)} more are not listed.` : '');
  };
  shared.listeners.add(update);
  update();
  return { go: () => {}, stop: () => shared.listeners.delete(update) };
}

function bar(name, kind) {
  const progress = h('progress', { 'aria-label': `${kind} of ${name}` });
  const facts = { share: h('span', { class: 'share' }), size: h('span'), speed: h('span', { class: 'speed' }), more: h('span', { class: 'quiet' }) };
  const title = name.includes(':') || name.startsWith('baf') ? short(name, 20) : h('span', { class: 'name' }, name);
  const element = h('li', {}, h('div', { class: 'with' }, title, copy(name, 'the name')), progress, h('div', { class: 'facts' }, Object.values(facts)));
  const show = (done, all, speed, more) => {
    if (all) {
      progress.max = all;
      progress.value = done;
    }
    const left = all && speed >= 1 ? `, ${duration((all - done) / speed)} left` : '';
    text(facts.share, all ? `${Math.floor((100 * done) / all)} %` : '');
    text(facts.size, all ? `${bytes(done)} of ${bytes(all)}` : bytes(done));
    text(facts.speed, rate(speed) + left);
    text(facts.more, more);
  };
  return { element, show };
}
