/**
 * Counts what a client and a PostgreSQL server say to each other: a proxy that groups statements into round trips.
 *
 * One round trip is everything the client sends until the server has answered something and the client speaks again. Only
 * texts of statements (Query, and Bind of what was prepared by Parse) are kept; start-up and the driver's look-up of types are not counted.
 */
import { connect, createServer, type Socket } from 'node:net'

export interface RoundTrips {
  /** The same database through the proxy. */
  readonly url: string
  /** What was sent since the last call, per round trip. */
  taken(): readonly (readonly string[])[]
  close(): void
}

/** For one connection at a time: a store with `connections: 1`. */
export async function countRoundTrips(databaseUrl: string): Promise<RoundTrips> {
  let trips: string[][] = []
  const sockets = new Set<Socket>()
  const server = createServer(client => {
    const { hostname, port } = new URL(databaseUrl)
    const upstream = connect(Number(port), hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => { client.destroy(); upstream.destroy() })
    }
    const read = frontendMessages()
    let answered = true
    client.on('data', (chunk: Buffer) => {
      const texts = read(chunk)
      if (answered) trips.push([])
      answered = false
      trips.at(-1)?.push(...texts)
      upstream.write(chunk)
    })
    upstream.on('data', (chunk: Buffer) => {
      answered = true
      client.write(chunk)
    })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  const address = server.address()
  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${String(typeof address === 'object' && address !== null ? address.port : 0)}`
  return {
    url: url.href,
    taken: () => {
      const taken = trips.filter(texts => texts.length > 0)
      trips = []
      return taken
    },
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

/** The statements in a stream of messages from the client; the first message (start-up) has no type byte. */
function frontendMessages(): (chunk: Buffer) => readonly string[] {
  const prepared = new Map<string, string>()
  let rest = Buffer.alloc(0)
  let started = false
  return chunk => {
    const texts: string[] = []
    rest = Buffer.concat([rest, chunk])
    for (;;) {
      const at = started ? 1 : 0
      if (rest.length < at + 4 || rest.length < at + rest.readUInt32BE(at)) return texts
      const end = at + rest.readUInt32BE(at)
      const type = started ? String.fromCharCode(rest[0] ?? 0) : ''
      const [first = '', second = ''] = rest.toString('utf8', at + 4, end).split('\0')
      if (type === 'Q') texts.push(first)
      if (type === 'P') prepared.set(first, second)
      if (type === 'B') texts.push(prepared.get(second) ?? '?')
      started = true
      rest = rest.subarray(end)
    }
  }
}
