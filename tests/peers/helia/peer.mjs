// A Helia peer on loopback that serves or fetches UnixFS files over Bitswap. Every line of stdout is one JSON event.

import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { basename } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { FsBlockstore } from 'blockstore-fs'
import { createHeliaLight } from 'helia'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { CID } from 'multiformats/cid'

const USAGE = `usage: peer.mjs serve [--store DIR] [--wrap] [--cid-version 0|1] [--raw-leaves true|false] [--chunk BYTES] [FILE...]
       peer.mjs fetch [--store DIR] [--session] [--timeout SECONDS] CID[/PATH] MULTIADDR OUT`

const OPTIONS = {
  store: { type: 'string' },
  wrap: { type: 'boolean' },
  'cid-version': { type: 'string' },
  'raw-leaves': { type: 'string' },
  chunk: { type: 'string' },
  session: { type: 'boolean' },
  timeout: { type: 'string', default: '60' }
}

function say (event, fields) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

function whole (flags, name) {
  const value = Number(flags[name])
  if (!Number.isInteger(value) || value < 0) {
    throw new Error(`--${name} ${flags[name]}: not a whole number\n${USAGE}`)
  }
  return value
}

// The light constructors: `createHelia` would add HTTP gateways, delegated routing, bootstrap peers, mDNS and WebRTC.
async function start ({ store }) {
  const helia = createHeliaLight(store == null ? {} : { blockstore: new FsBlockstore(store) })
  const transport = {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() }
  }
  return withBitswap(withLibp2pLight(helia, transport)).start()
}

// Only what the command line names: the rest stays as Helia has it.
function importing (flags) {
  const options = {}
  if (flags['cid-version'] != null) {
    options.cidVersion = whole(flags, 'cid-version')
  }
  if (flags['raw-leaves'] != null) {
    options.rawLeaves = flags['raw-leaves'] === 'true'
  }
  if (flags.chunk != null) {
    options.chunker = fixedSize({ chunkSize: whole(flags, 'chunk') })
  }
  return options
}

async function serve (files, flags) {
  const helia = await start(flags)
  const fs = unixfs(helia)
  for (const file of files) {
    const content = createReadStream(file)
    const cid = flags.wrap === true
      ? await fs.addFile({ path: basename(file), content }, importing(flags))
      : await fs.addByteStream(content, importing(flags))
    say('added', { file, cid: cid.toString() })
  }
  say('ready', {
    peer: helia.libp2p.peerId.toString(),
    addrs: helia.libp2p.getMultiaddrs().map(String)
  })
  await told()
  await helia.stop()
}

// A parent that dies closes our stdin, so no peer outlives its test.
async function told () {
  await new Promise(resolve => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
    // A pipe closes, while `/dev/null` only ends.
    process.stdin.once('close', resolve)
    process.stdin.once('end', resolve)
    process.stdin.resume()
  })
}

async function fetch ([source, address, out], flags) {
  const seconds = whole(flags, 'timeout')
  const signal = AbortSignal.timeout(seconds * 1000)
  const helia = await start(flags)
  const began = performance.now()
  let fetched
  try {
    fetched = await save(content(helia, source, multiaddr(address), flags, signal), out, signal)
  } catch (error) {
    // The error itself does not tell: Helia reports an aborted want as a block it failed to load.
    throw signal.aborted ? new Error(`not done after ${seconds} s: ${error.message}`) : error
  }
  say('fetched', { ...fetched, ms: Math.round(performance.now() - began) })
  await helia.stop()
}

async function save (chunks, out, signal) {
  const hash = createHash('sha256')
  let bytes = 0
  const measure = async function * (chunks) {
    for await (const chunk of chunks) {
      hash.update(chunk)
      bytes += chunk.length
      yield chunk
    }
  }
  await pipeline(chunks, measure, createWriteStream(out), { signal })
  return { bytes, sha256: hash.digest('hex') }
}

async function * content (helia, source, address, flags, signal) {
  const [cid, ...path] = source.split('/')
  const root = CID.parse(cid)
  await helia.libp2p.dial(address, { signal })
  // Without a session Helia asks every connected peer; with one, only this.
  const blockstore = flags.session === true
    ? helia.blockstore.createSession(root, { providers: [address] })
    : helia.blockstore
  yield * unixfs({ blockstore }).cat(root, { path: path.length > 0 ? path.join('/') : undefined, signal })
}

try {
  const { values: flags, positionals: [command, ...args] } = parseArgs({ options: OPTIONS, allowPositionals: true })
  if (command === 'serve') {
    await serve(args, flags)
  } else if (command === 'fetch' && args.length === 3) {
    await fetch(args, flags)
  } else {
    throw new Error(USAGE)
  }
  process.exit(0)
} catch (error) {
  // Several errors, such as one for each block broker, have a message that says little.
  const causes = (error.errors ?? []).map(cause => cause.message)
  say('error', { message: [error.message, ...causes].join(': ') })
  process.exit(1)
}
