import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { realEnv } from '../core/index.ts'
import { faultProxy, type FaultProxy } from './fault-proxy.ts'

/**
 * A server that sends back what it gets, and remembers in which pieces it came.
 * Each fault is tried beside its control: the same exchange without it.
 */
interface Echo {
  readonly port: number
  readonly pieces: Buffer[]
  readonly endings: ('end' | 'reset')[]
  readonly sockets: Set<Socket>
  text(): string
}

const closers: (() => Promise<void>)[] = []
afterEach(async () => { for (const close of closers.splice(0).reverse()) await close() })

async function echoServer(): Promise<Echo> {
  const pieces: Buffer[] = []
  const endings: ('end' | 'reset')[] = []
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => { pieces.push(bytes); socket.write(bytes) })
    socket.on('end', () => endings.push('end'))
    socket.on('error', () => endings.push('reset'))
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  closers.push(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise<void>(resolve => { server.close(() => { resolve() }) })
  })
  return { port: (server.address() as AddressInfo).port, pieces, endings, sockets, text: () => Buffer.concat(pieces).toString() }
}

async function setUp(): Promise<{ readonly echo: Echo; readonly proxy: FaultProxy }> {
  const echo = await echoServer()
  const proxy = await faultProxy({ to: { port: echo.port } })
  closers.push(() => proxy.close())
  return { echo, proxy }
}

interface Peer {
  readonly socket: Socket
  readonly got: () => string
  readonly failed: () => string | undefined
  readonly closed: Promise<void>
}

async function dial(proxy: FaultProxy): Promise<Peer> {
  const socket = connect(proxy.port, proxy.host)
  socket.setNoDelay(true)
  let got = ''
  let failed: string | undefined
  socket.on('data', (bytes: Buffer) => { got += bytes.toString() })
  socket.on('error', (error: NodeJS.ErrnoException) => { failed = error.code })
  const closed = new Promise<void>(resolve => { socket.once('close', () => { resolve() }) })
  closers.push(async () => { socket.destroy(); await closed })
  await Promise.race([new Promise<void>(resolve => { socket.once('connect', resolve) }), closed])
  return { socket, got: () => got, failed: () => failed, closed }
}

async function until(what: string, done: () => boolean, withinMs = 5_000): Promise<void> {
  const env = realEnv()
  const startedMs = env.monotonic()
  while (!done()) {
    if (env.monotonic() - startedMs > withinMs) throw new Error(`not within ${String(withinMs)} ms: ${what}`)
    await env.sleep(2)
  }
}

/** How long an exchange of `text` takes. */
async function exchange(peer: Peer, text: string): Promise<number> {
  const before = peer.got().length
  const startedMs = performance.now()
  peer.socket.write(text)
  await until(`an echo of ${String(text.length)} bytes`, () => peer.got().length === before + text.length)
  return performance.now() - startedMs
}

describe('a proxy without faults', () => {
  it('passes bytes unchanged and in order, both ways, and the closing too', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    const text = Array.from({ length: 200_000 }, (_, n) => String(n)).join(',')
    await exchange(peer, text)
    expect(peer.got()).toBe(text)
    expect(proxy.seen).toMatchObject({ accepted: 1, reset: 0, bytesToServer: text.length, bytesToClient: text.length })
    peer.socket.end()
    await peer.closed
    await until('the end arrives', () => echo.endings.length === 1)
    expect([echo.endings, proxy.connections]).toEqual([['end'], 0])
  })

  it('passes a reset as a reset', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'hello')
    peer.socket.resetAndDestroy()
    await until('the reset arrives', () => echo.endings.length === 1)
    expect(echo.endings).toEqual(['reset'])
  })

  it('resets a client where the server is not there', async () => {
    const proxy = await faultProxy({ to: { port: 1 } })
    closers.push(() => proxy.close())
    const peer = await dial(proxy)
    await peer.closed
    expect(peer.failed()).toBe('ECONNRESET')
  })
})

describe('latency and jitter', () => {
  it('delay each way, keep the order, and are over when healed', async () => {
    const { proxy } = await setUp()
    const peer = await dial(proxy)
    expect(await exchange(peer, 'control')).toBeLessThan(100)
    proxy.set({ latency: '120ms', jitter: '40ms' })
    const tookMs = await exchange(peer, 'slow')
    expect(tookMs).toBeGreaterThanOrEqual(235)
    proxy.set({ latency: '60ms', jitter: '60ms' }, 'to-server')
    for (let n = 0; n < 10; n++) peer.socket.write(String(n))
    await until('all arrive', () => peer.got().endsWith('9'))
    expect(peer.got()).toBe('controlslow0123456789')
    proxy.set({})
    expect(await exchange(peer, 'healed')).toBeLessThan(100)
  })
})

describe('bandwidth and slices', () => {
  it('a thin pipe takes its time', async () => {
    const { proxy } = await setUp()
    const peer = await dial(proxy)
    const text = 'x'.repeat(2_000)
    expect(await exchange(peer, text)).toBeLessThan(100)
    proxy.set({ bandwidth: '10kb' }, 'to-server')
    expect(await exchange(peer, text)).toBeGreaterThan(150)
  })

  it('pieces arrive one by one', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'twelve bytes')
    expect(echo.pieces.length).toBeLessThan(3)
    echo.pieces.length = 0
    proxy.set({ slice: '1b', bandwidth: '1kb' }, 'to-server')
    await exchange(peer, 'twelve bytes')
    expect(echo.text()).toBe('twelve bytes')
    expect(echo.pieces.length).toBeGreaterThan(6)
  })
})

describe('a black hole', () => {
  it('passes nothing, keeps the closing from the other side, and lets all of it through when healed', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'before')
    proxy.set({ blackHole: true })
    peer.socket.write('lost?')
    peer.socket.destroy()
    const late = await dial(proxy)
    late.socket.write('anybody?')
    await realEnv().sleep(150)
    expect([echo.text(), echo.endings, late.got(), echo.sockets.size]).toEqual(['before', [], '', 1])
    proxy.set({})
    await until('it goes on', () => late.got() === 'anybody?' && echo.endings.length === 1)
    expect(echo.text()).toContain('lost?')
  })

  it('in one direction: the server hears and is not heard', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    proxy.set({ blackHole: true }, 'to-client')
    peer.socket.write('hello')
    await until('the server hears', () => echo.text() === 'hello')
    await realEnv().sleep(100)
    expect(peer.got()).toBe('')
    proxy.set({}, 'to-client')
    await until('it is heard', () => peer.got() === 'hello')
  })
})

describe('cuts', () => {
  it('reset() cuts both sides with RST', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'hello')
    expect(proxy.reset()).toBe(1)
    await peer.closed
    await until('the server is cut', () => echo.endings.length === 1)
    expect([peer.failed(), echo.endings, proxy.reset(), proxy.seen.reset]).toEqual(['ECONNRESET', ['reset'], 0, 1])
  })

  it('limit() cuts after so many bytes and not before', async () => {
    const { proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'x'.repeat(5_000))
    proxy.limit('100b')
    await exchange(peer, 'x'.repeat(40))
    peer.socket.write('x'.repeat(40))
    await peer.closed
    expect(peer.failed()).toBe('ECONNRESET')
    proxy.limit(undefined)
    await exchange(await dial(proxy), 'x'.repeat(5_000))
  })

  it('down() refuses and cuts, up() listens on the same port', async () => {
    const { proxy } = await setUp()
    const { port } = proxy
    const peer = await dial(proxy)
    await exchange(peer, 'hello')
    await proxy.down()
    await peer.closed
    const refused = await dial(proxy)
    expect([peer.failed(), refused.failed()]).toEqual(['ECONNRESET', 'ECONNREFUSED'])
    await proxy.up()
    expect(proxy.port).toBe(port)
    await exchange(await dial(proxy), 'again')
  })
})

describe('a cut that waits for its moment', () => {
  const says = (word: string) => (sent: Uint8Array, newFrom: number) => Buffer.from(sent).includes(word, Math.max(0, newFrom - word.length + 1))

  it('after: the server has it, the client gets no answer, once', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'COMMIT')
    const cut = proxy.cutWhen({ when: says('COMMIT') })
    await exchange(peer, 'BEGIN')
    expect(cut.cuts).toBe(0)
    await exchange(peer, 'COM')
    peer.socket.write('MIT')
    await cut.happened
    await peer.closed
    expect([peer.failed(), peer.got(), echo.text(), cut.cuts]).toEqual(['ECONNRESET', 'COMMITBEGINCOM', 'COMMITBEGINCOMMIT', 1])
    await exchange(await dial(proxy), 'COMMIT')
  })

  it('before: the server never gets it', async () => {
    const { echo, proxy } = await setUp()
    const cut = proxy.cutWhen({ when: says('COMMIT'), cut: 'before', times: 2 })
    for (let n = 1; n <= 2; n++) {
      const peer = await dial(proxy)
      await exchange(peer, 'BEGIN')
      peer.socket.write('COMMIT')
      await peer.closed
      expect([peer.failed(), cut.cuts]).toEqual(['ECONNRESET', n])
    }
    expect(echo.text()).toBe('BEGINBEGIN')
    await exchange(await dial(proxy), 'COMMIT')
  })

  it('cuts all the same when no answer comes, and never when disarmed', async () => {
    const { proxy } = await setUp()
    proxy.cutWhen({ when: says('COMMIT'), answered: () => false, within: '80ms' })
    const peer = await dial(proxy)
    peer.socket.write('COMMIT')
    await peer.closed
    expect([peer.failed(), peer.got()]).toEqual(['ECONNRESET', ''])
    proxy.cutWhen({ when: says('COMMIT') }).disarm()
    await exchange(await dial(proxy), 'COMMIT')
  })

  it('refuses what makes no sense', async () => {
    const { proxy } = await setUp()
    expect(() => proxy.cutWhen({ when: () => true, times: 0 })).toThrow(/times: expected/)
    expect(() => { proxy.set({ slice: '0b' }) }).toThrow(/slice/)
    expect(() => { proxy.set({ latency: '5' as '5s' }) }).toThrow(/latency/)
  })
})

describe('close', () => {
  it('leaves nothing of a connection whose one side has ended and whose other has not', async () => {
    const { echo, proxy } = await setUp()
    const peer = await dial(proxy)
    await exchange(peer, 'hello')
    // The server's end is passed on, and the client stays: half of the connection is open.
    peer.socket.allowHalfOpen = true
    for (const socket of echo.sockets) socket.end()
    await until('the end arrives', () => peer.socket.readableEnded)
    await proxy.close()
    expect(proxy.connections).toBe(0)
  })

  it('leaves nothing, also with a black hole, a waiting cut and a slow piece on its way', async () => {
    const { echo, proxy } = await setUp()
    const peers = await Promise.all([1, 2, 3].map(() => dial(proxy)))
    for (const peer of peers) await exchange(peer, 'hello')
    proxy.cutWhen({ when: sent => Buffer.from(sent).includes('cut'), answered: () => false, within: '1h' })
    peers[0]?.socket.write('cut')
    proxy.set({ latency: '1h' }, 'to-server')
    peers[1]?.socket.write('slow')
    await realEnv().sleep(20)
    proxy.set({ blackHole: true })
    peers[2]?.socket.write('hole')
    await proxy.close()
    await Promise.all(peers.map(peer => peer.closed))
    await until('the server sees them go', () => echo.sockets.size === 0)
    expect([proxy.connections, (await dial(proxy)).failed()]).toEqual([0, 'ECONNREFUSED'])
    await proxy.up()
    expect((await dial(proxy)).failed()).toBe('ECONNREFUSED')
  })
})
