// Goes through the calls of kubo-rpc-client against the RPC at the given URL; prints "done", or fails.
import assert from 'node:assert/strict'
import { create } from 'kubo-rpc-client'

const client = create({ url: process.argv[2] })
const text = (string) => new TextEncoder().encode(string)
const all = async (iterable) => {
  const items = []
  for await (const item of iterable) items.push(item)
  return items
}
const bytes = async (iterable) => Buffer.concat(await all(iterable))

const steps = {
  async identity () {
    const { id, publicKey } = await client.id()
    assert.match(id.toString(), /^12D3KooW/)
    assert.ok(publicKey)
    assert.ok((await client.version()).version)
  },
  async add () {
    const hello = await client.add(text('hello'))
    assert.equal(hello.cid.toString(), 'QmWfVY9y3xjsixTgbd9AorQxH7VtMpzfx2HaWtsoUYecaX')
    const v1 = await client.add({ path: 'a', content: text('hello') }, { cidVersion: 1 })
    assert.equal(v1.cid.toString(), 'bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq')
    assert.equal(v1.path, 'a')
    const files = [
      { path: 'dir/a', content: text('hi\n') },
      { path: 'dir/sub/b', content: text('yo\n') }
    ]
    const added = await all(client.addAll(files, { wrapWithDirectory: true }))
    assert.deepEqual(added.map(({ path }) => path), ['dir/a', 'dir/sub/b', 'dir/sub', 'dir', ''])
    const root = added.at(-1).cid
    assert.equal((await bytes(client.cat(`/ipfs/${root}/dir/sub/b`))).toString(), 'yo\n')
    const names = (await all(client.ls(`/ipfs/${root}/dir`))).map(({ name, type, size }) => [name, type, size])
    assert.deepEqual(names, [['a', 'file', 3], ['sub', 'dir', 0]])
    const resolved = await client.resolve(`/ipfs/${root}/dir/a`)
    assert.equal(resolved, `/ipfs/${added[0].cid}`)
    const stat = await client.files.stat(`/ipfs/${root}/dir/a`)
    assert.deepEqual([stat.type, stat.size], ['file', 3])
    assert.ok((await bytes(client.get(root))).includes(Buffer.from('yo\n')))
    assert.ok((await all(client.refs(root, { recursive: true }))).length >= 4)
  },
  async ranges () {
    const content = Buffer.alloc(1_000_000, 'abcdefg')
    const { cid, size } = await client.add(content, { cidVersion: 1, chunker: 'size-65536' })
    assert.ok(size > content.length)
    assert.ok((await bytes(client.cat(cid))).equals(content))
    const part = await bytes(client.cat(cid, { offset: 123_456, length: 7_000 }))
    assert.ok(part.equals(content.subarray(123_456, 130_456)))
  },
  async pins () {
    const { cid } = await client.add(text('pinned'), { pin: false })
    const isPinned = async () => (await all(client.pin.ls({ type: 'recursive' }))).some((pin) => pin.cid.equals(cid))
    assert.ok(!await isPinned())
    await client.pin.add(cid, { name: 'one' })
    assert.ok(await isPinned())
    await client.pin.rm(cid)
    assert.ok(!await isPinned())
    await assert.rejects(client.pin.rm(cid), /not pinned/)
  },
  async blocks () {
    const cid = await client.block.put(text('block'), { format: 'raw', mhtype: 'sha2-256', version: 1 })
    assert.equal(Buffer.from(await client.block.get(cid)).toString(), 'block')
    assert.equal((await client.block.stat(cid)).size, 5)
    const removed = await all(client.block.rm(cid))
    assert.deepEqual(removed.map(({ error }) => error ?? null), [null])
  },
  async dags () {
    const { cid } = await client.add(text('archived'), { rawLeaves: false })
    const node = await client.dag.get(cid)
    assert.ok(node.value.Data.length > 8)
    const archive = await bytes(client.dag.export(cid))
    const imported = await all(client.dag.import([[archive]]))
    assert.ok(imported[0].root.cid.equals(cid) && !imported[0].root.pinErrorMsg)
  },
  async names () {
    const key = await client.key.gen('test', { type: 'ed25519' })
    assert.ok((await client.key.list()).some(({ name, id }) => name === 'test' && id === key.id))
    const { cid } = await client.add(text('published'))
    const published = await client.name.publish(cid, { key: 'test', allowOffline: true })
    assert.equal(published.value, `/ipfs/${cid}`)
    assert.deepEqual(await all(client.name.resolve(key.id)), [`/ipfs/${cid}`])
    await client.key.rm('test')
  },
  async numbers () {
    assert.ok((await client.repo.stat()).repoSize >= 0n)
    assert.ok(Array.isArray(await client.swarm.peers()))
    assert.ok((await client.stats.bitswap()).blocksReceived >= 0n)
    assert.ok(await client.config.getAll())
    await all(client.repo.gc())
  },
  // What the pages of the WebUI ask for, but for the files of MFS.
  async webui () {
    const { addresses, agentVersion, protocols } = await client.id()
    assert.ok(addresses.length > 0 && agentVersion && Array.isArray(protocols))
    const [{ totalIn, rateOut }] = await all(client.stats.bw())
    assert.ok(totalIn >= 0n && rateOut >= 0)
    const { repoSize, storageMax, numObjects } = await client.repo.stat()
    assert.ok(repoSize > 0n && storageMax > 0n && numObjects > 0n)
    for (const peer of await client.swarm.peers({ verbose: true })) assert.ok(peer.addr && peer.direction)
    assert.ok((await client.swarm.localAddrs()).length > 0)
    assert.ok((await client.config.getAll()).Identity.PeerID)
    const { cid } = await client.add(text('shown'), { pin: true, cidVersion: 1 })
    const stat = await client.files.stat(`/ipfs/${cid}`)
    assert.deepEqual([stat.cid.toString(), stat.size, stat.cumulativeSize], [cid.toString(), 5, 5])
    assert.ok((await all(client.pin.ls({ type: 'recursive' }))).some((pin) => pin.cid.equals(cid)))
    assert.equal((await bytes(client.cat(cid))).toString(), 'shown')
    assert.ok((await client.key.list()).some(({ name }) => name === 'self'))
    assert.ok((await client.dag.resolve(cid)).cid.equals(cid))
    await assert.rejects(client.files.stat('/'))
  },
  async errors () {
    await assert.rejects(all(client.cat('bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e')), /no provider found/)
    await assert.rejects(client.files.mkdir('/x'), /404/)
  }
}

for (const [name, step] of Object.entries(steps)) {
  try {
    await step()
  } catch (error) {
    console.error(`${name}: ${error.stack}`)
    process.exit(1)
  }
}
console.log('done')
process.exit(0)
