// Reads a file from a trustless gateway with Helia's verified fetch, by HTTP alone: fetch.mjs GATEWAY PATH RANGE OUT.

import { writeFile } from 'node:fs/promises'
import { withHTTP } from '@helia/http'
import { createVerifiedFetchWithHelia } from '@helia/verified-fetch'
import { createHeliaLight } from 'helia'

const [gateway, path, range, out] = process.argv.slice(2)
const loopback = { allowInsecure: true, allowLocal: true }
// No libp2p: each block comes from the gateway, which is asked after a router that knows nothing.
const light = createHeliaLight()
light.addRouter({ name: 'none', async * findProviders () {} })
const helia = await withHTTP(light, { delegatedRouters: [], recursiveGateways: [gateway], ...loopback }).start()
const fetch = await createVerifiedFetchWithHelia(helia)
try {
  const headers = range === '' ? {} : { range }
  const answer = await fetch(`ipfs://${path}`, { headers, ...loopback, signal: AbortSignal.timeout(30_000) })
  if (!answer.ok) {
    throw new Error(`status ${answer.status}: ${await answer.text()}`)
  }
  await writeFile(out, new Uint8Array(await answer.arrayBuffer()))
} finally {
  await fetch.stop()
  await helia.stop()
}
