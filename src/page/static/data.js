// What the node says: requests to this origin only, polled while the page is seen.

const BASE = '/page/data/';

/** An answer that is an error. */
export class Refused extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = given.length ? `?${new URLSearchParams(given)}` : '';
  let answer;
  try {
    answer = await fetch(`${BASE}${path}.json${search}`, { headers: { accept: 'application/json' } });
  } catch {
    throw new Refused(0, 'The node does not answer.', 'The page goes on by itself when the node is back.');
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.error ?? `The node answered ${answer.status}.`, body.hint);
  return body;
}

const watched = new Set();

/** Asks at intervals until the returned function is called; never twice at a time, and not while the page is hidden. */
export function watch(interval, ask, got, failed) {
  const one = { timer: 0, stopped: false };
  const next = () => {
    clearTimeout(one.timer);
    if (!one.stopped && !document.hidden) one.timer = setTimeout(one.run, interval);
  };
  one.run = async () => {
    try {
      const data = await ask();
      if (!one.stopped) got(data);
    } catch (error) {
      if (!one.stopped) failed(error);
    }
    next();
  };
  watched.add(one);
  one.run();
  return () => {
    one.stopped = true;
    clearTimeout(one.timer);
    watched.delete(one);
  };
}

document.addEventListener('visibilitychange', () => {
  for (const one of watched) {
    clearTimeout(one.timer);
    if (!document.hidden) one.run();
  }
});

/** Rates from totals: the difference to the sample before, by key. */
export class Rates {
  constructor() {
    this.last = new Map();
  }

  /** Takes the totals of all keys at a time in milliseconds; returns what gives each key's rate in bytes per second. */
  sample(at, totals) {
    const { last, before } = { last: this.last, before: this.at };
    const seconds = before === undefined ? 0 : (at - before) / 1000;
    const rates = new Map();
    for (const [key, total] of totals) {
      const known = last.get(key);
      rates.set(key, known === undefined || seconds <= 0 ? 0 : Math.max(0, (total - known) / seconds));
    }
    this.last = new Map(totals);
    this.at = at;
    return (key) => rates.get(key) ?? 0;
  }
}
