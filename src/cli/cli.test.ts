/**
 * The command line against a served fake (real socket, real client): what is printed, what reaches the bus, exit codes.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { breakThePanel, fakeHoldfast, type FakeHoldfast } from '../../test/browser/fake-holdfast.ts'
import { realEnv } from '../core/index.ts'
import { combine } from '../http/index.ts'
import { serve, type Served } from '../http/node.ts'
import { operate, writeRuntimeFile, type Status } from '../operate/index.ts'
import type { Io } from './io.ts'
import { run } from './run.ts'
import { clean, closest } from './text.ts'

const env = realEnv()
const root = mkdtempSync(join(tmpdir(), 'holdfast-cli-'))
afterAll(() => { rmSync(root, { recursive: true }) })

let fake: FakeHoldfast
let served: Served
let dir: string

async function start(options: { readonly token?: string } = {}): Promise<void> {
  fake = fakeHoldfast(env)
  served = await serve(combine([operate(fake, options)]), { port: 0 })
  dir = mkdtempSync(join(root, 'data-'))
  writeRuntimeFile(dir, { url: `${served.url}/console`, pid: process.pid, ...options })
}
beforeEach(() => start())
afterEach(() => served.close())

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

async function holdfast(args: readonly string[], changes: Partial<Io> = {}): Promise<Ran> {
  const out: string[] = []
  const err: string[] = []
  const io: Io = {
    env, environment: { HOLDFAST_DATA: dir }, cwd: root, user: 'alice', terminal: false, columns: 80, signal: new AbortController().signal,
    out: text => { out.push(text) }, err: text => { err.push(text) }, ...changes,
  }
  const code = await run(args, io)
  return { code, out: out.join('\n'), err: err.join('\n') }
}

const CHAOS = { name: 'panel-chaos', state: 'off', active: false, production: true, injected: 12 } as const

describe('status', () => {
  it('says what is true, and exits 0 while healthy', async () => {
    const { code, out } = await holdfast(['status'])
    expect(code).toBe(0)
    expect(out).toMatch(/^HEALTHY {2}Everything works\./)
    expect(out).toContain('vpn-panel   answers')
  })

  it('exits 2 when degraded, with breaker, worker, stuck work and alert', async () => {
    breakThePanel(fake)
    const { code, out } = await holdfast(['status'])
    expect(code).toBe(2)
    for (const part of ['DEGRADED', 'left alone, tried again in 48 s', 'activation', 'skipped', 'sub-1042', 'needs-human', 'runbook vpn-panel-down']) expect(out).toContain(part)
  })

  it('exits 1 when unavailable', async () => {
    fake.model.verdict = { state: 'unavailable', sentence: 'The store is away.', since: env.now() }
    expect((await holdfast(['status'])).code).toBe(1)
  })

  it('is the whole read model with --json, before or after the command', async () => {
    for (const args of [['status', '--json'], ['--json', 'status']]) expect((JSON.parse((await holdfast(args)).out) as Status).dependencies).toHaveLength(3)
  })

  it('watches until Ctrl-C, through the live stream', async () => {
    const stop = new AbortController()
    const shown: string[] = []
    const watching = holdfast(['status', '--watch', '--json'], { signal: stop.signal, out: text => {
      shown.push((JSON.parse(text) as Status).verdict.state)
      if (shown.length === 1) {
        breakThePanel(fake)
        fake.touch()
      } else stop.abort()
    } })
    expect((await watching).code).toBe(2)
    expect(shown).toEqual(['healthy', 'degraded'])
  })
})

describe('writes', () => {
  it('carry name, target, arguments, reason and the user', async () => {
    const reason = ['--reason', 'panel is down']
    const lines: [string[], string, string, object][] = [
      [['flags', 'set', 'payments', 'off', '--for', '30m'], 'flag.set', 'payments', { on: false, for: '30m' }],
      [['flags', 'set', 'payments', 'on'], 'flag.set', 'payments', { on: true }],
      [['flags', 'clear', 'payments'], 'flag.clear', 'payments', {}],
      [['worker', 'pause', 'activation'], 'worker.pause', 'activation', {}],
      [['worker', 'resume', 'activation'], 'worker.resume', 'activation', {}],
      [['worker', 'run', 'activation'], 'worker.run', 'activation', {}],
      [['breaker', 'force-open', 'vpn-panel', '--for', '10m'], 'breaker.force', 'vpn-panel', { state: 'open', for: '10m' }],
      [['breaker', 'force-closed', 'vpn-panel'], 'breaker.force', 'vpn-panel', { state: 'closed', for: '15m' }],
      [['breaker', 'release', 'vpn-panel'], 'breaker.release', 'vpn-panel', {}],
      [['faults', 'arm', 'panel-chaos'], 'faults.arm', 'panel-chaos', { for: '10m' }],
      [['faults', 'arm', 'panel-chaos', '--for', '30m'], 'faults.arm', 'panel-chaos', { for: '30m' }],
      [['faults', 'disarm', 'panel-chaos'], 'faults.disarm', 'panel-chaos', {}],
      [['work', 'retry', 'saga', 'provision', 'sub-1042'], 'work.retry', 'sub-1042', { kind: 'saga', name: 'provision' }],
      [['work', 'discard', 'outbox', 'customer-messages', 'msg-88'], 'work.discard', 'msg-88', { kind: 'outbox', name: 'customer-messages' }],
    ]
    breakThePanel(fake)
    fake.model.faults = [CHAOS]
    for (const [args, name, target, expected] of lines) {
      expect(await holdfast([...args, ...reason]), args.join(' ')).toMatchObject({ code: 0, err: '' })
      expect(fake.commandsSeen.at(-1)).toEqual({ name, target, args: expected, reason: 'panel is down', actor: { id: 'alice', via: 'cli', roles: ['admin'] } })
    }
  })

  it('say what is true now, or give it as JSON', async () => {
    expect((await holdfast(['flags', 'set', 'payments', 'off', '--reason', 'x'])).out).toBe('payments is off.')
    expect(JSON.parse((await holdfast(['flags', 'clear', 'payments', '--reason', 'x', '--json'])).out)).toMatchObject({ command: 'flag.clear', target: 'payments' })
  })

  it('without a reason are wrong usage, and reach nothing', async () => {
    for (const args of [['flags', 'set', 'payments', 'off'], ['worker', 'pause', 'activation', '--reason', ' ']]) {
      const { code, err } = await holdfast(args)
      expect([code, err]).toEqual([64, expect.stringContaining('--reason')])
    }
    expect(fake.commandsSeen).toEqual([])
  })

  it('with a mistyped name are told the one that was meant', async () => {
    const { code, err } = await holdfast(['flags', 'set', 'paymetns', 'off', '--reason', 'x'])
    expect([code, err]).toEqual([64, expect.stringContaining('Did you mean payments?')])
    expect((await holdfast(['breaker', 'release', 'vpnpanel', '--reason', 'x'])).err).toContain('Did you mean vpn-panel?')
    fake.model.faults = [CHAOS]
    expect((await holdfast(['faults', 'arm', 'panel-choas', '--reason', 'x'])).err).toContain('Did you mean panel-chaos?')
  })

  it('with a duration or state that is none are wrong usage', async () => {
    for (const args of [['flags', 'set', 'payments', 'off', '--for', '30', '--reason', 'x'], ['flags', 'set', 'payments', 'of', '--reason', 'x']]) expect((await holdfast(args)).code).toBe(64)
    expect(fake.commandsSeen).toEqual([])
  })
})

describe('usage', () => {
  it('of an unknown command is 64, with a suggestion; help is 0', async () => {
    const { code, err } = await holdfast(['stauts'])
    expect([code, err]).toEqual([64, expect.stringContaining('Did you mean status?')])
    expect((await holdfast(['flags', '--wat'])).code).toBe(64)
    const help = await holdfast(['--help'])
    expect([help.code, help.out]).toEqual([0, expect.stringContaining('breaker')])
  })
})

describe('reading', () => {
  it('lists flags, workers, work, health, each also as JSON of a stable shape', async () => {
    breakThePanel(fake)
    const shapes: Record<string, string> = { flags: 'flags', workers: 'workers', work: 'work', breaker: 'dependencies', faults: 'faults', health: 'components', events: 'entries' }
    for (const [command, key] of Object.entries(shapes)) {
      expect((await holdfast([command])).out.length, command).toBeGreaterThan(20)
      expect(JSON.parse((await holdfast([command, '--json'])).out), command).toHaveProperty(key)
    }
  })

  it('says what to do: which runbooks there are, one with its steps, and the one that was meant', async () => {
    expect((await holdfast(['runbook'])).out).toContain('vpn-panel-down')
    const { code, out } = await holdfast(['runbook', 'vpn-panel-down'])
    expect(code).toBe(0)
    for (const part of ['The VPN panel does not answer', 'When: Its breaker is open', 'Safe to retry', '  2. Hold it off', 'holdfast breaker force-open vpn-panel']) expect(out).toContain(part)
    expect(JSON.parse((await holdfast(['runbook', 'vpn-panel-down', '--json'])).out)).toMatchObject({ id: 'vpn-panel-down', safeToRetry: true })
    expect(JSON.parse((await holdfast(['runbook', '--json'])).out)).toMatchObject({ runbooks: [{ id: 'vpn-panel-down' }] })
    expect(await holdfast(['runbook', 'vpn-panel-donw'])).toMatchObject({ code: 64, err: expect.stringContaining('Did you mean vpn-panel-down?') as string })
  })

  it('says of a dependency what it has learned, and of the usual no word', async () => {
    const usual = (await holdfast(['breaker'])).out
    expect(usual).toMatch(/vpn-panel +answers .* 0 of 20 at work/)
    for (const word of ['hedged', 'held back', 'pass', 'watches', 'partitions', 'timeouts']) expect(usual).not.toContain(word)
    const panel = fake.model.dependencies.find(({ name }) => name === 'vpn-panel')
    const first = ['de-1', 'nl-2'].map(partition => ({ partition, state: 'open' as const, retryAfterMs: 1_000 }))
    Object.assign(panel ?? {}, { ramp: 0.1, hedges: 4, retries: 7, retriesSuppressed: 3, timeouts: 2, limit: 8, shadow: { state: 'open', since: 0, wouldHaveRefused: 5 }, partitions: { size: 40, notClosed: 6, first } })
    const { out } = await holdfast(['breaker'])
    for (const part of ['0 of 8 at work', 'coming back: 10 % of the calls pass', 'it would be open and have refused 5', '6 of 40 partitions left alone (de-1, nl-2, ...)', '7 repeated', '3 repetitions held back by the budget', '4 hedged', '2 timeouts']) expect(out).toContain(part)
  })

  it('says what a call costs at worst, in words or as data, and names the dependency that was meant', async () => {
    const { code, out } = await holdfast(['breaker', 'explain', 'vpn-panel'])
    expect([code, out.split('\n')[0]]).toEqual([0, 'vpn-panel'])
    for (const part of ['deadline 10 s > retry 3 attempts', 'A caller waits at most 10 s.', 'The work is begun up to 3 times', 'At most 20 pieces of work']) expect(out).toContain(part)
    expect(JSON.parse((await holdfast(['breaker', 'explain', 'vpn-panel', '--json'])).out)).toMatchObject({ name: 'vpn-panel', explanation: { worstCaseMs: 10_000, attempts: 3, inFlight: 20 } })
    expect(await holdfast(['breaker', 'explain', 'vpn-panle'])).toMatchObject({ code: 64, err: expect.stringContaining('Did you mean vpn-panel?') as string })
  })

  it('says which faults are on, by whom and how long; in the status only those that break calls', async () => {
    fake.model.faults = [{ ...CHAOS, state: 'armed', active: true, armed: { by: 'cli:bob', reason: 'drill', until: env.now() + 300_500 } }, { ...CHAOS, name: 'quiet' }]
    expect((await holdfast(['faults'])).out).toMatch(/panel-chaos +breaks calls +12 injected +armed by cli:bob for 5 min more: drill\n +quiet +off/)
    const { out } = await holdfast(['status'])
    expect(out).toContain('Faults on purpose')
    expect(out).not.toContain('quiet')
    fake.model.faults = []
    expect((await holdfast(['faults'])).out).toBe('No faults are declared.')
  })

  it('says who changed what and why, newest first', async () => {
    expect((await holdfast(['audit'])).out).toBe('Nothing was changed or refused yet.')
    for (const reason of ['first', 'second']) await holdfast(['flags', 'set', 'payments', 'off', '--reason', reason])
    expect((await holdfast(['audit'])).out).toMatch(/cli:alice .*flag\.set .*payments .*done .*second \(\{"on":false\}\)\n.*first/)
    expect(JSON.parse((await holdfast(['audit', '--limit', '1', '--json'])).out)).toMatchObject({ rows: [{ id: 2, actor: 'cli:alice', reason: 'second' }] })
    expect(JSON.parse((await holdfast(['audit', '--before', '2', '--json'])).out)).toMatchObject({ rows: [{ id: 1 }] })
    expect((await holdfast(['audit', '--limit', '0'])).code).toBe(64)
  })

  it('tells the story of one id, and fails when there is none', async () => {
    fake.say('paid', 'good', 'buy-1')
    expect((await holdfast(['explain', 'buy-1'])).out).toContain('paid')
    expect(await holdfast(['explain', 'buy-2'])).toMatchObject({ code: 1, out: expect.stringContaining('Nothing is known') as string })
  })

  it('follows events until Ctrl-C', async () => {
    const stop = new AbortController()
    const seen: string[] = []
    fake.say('one')
    await holdfast(['events', '--follow', '--json'], { signal: stop.signal, out: text => {
      seen.push((JSON.parse(text) as { text: string }).text)
      if (seen.length === 1) fake.say('two')
      else stop.abort()
    } })
    expect(seen).toEqual(['one', 'two'])
  })
})

describe('finding the service', () => {
  it('takes --url first, then HOLDFAST_URL, then the data directory', async () => {
    const nowhere = { HOLDFAST_DATA: join(root, 'none'), HOLDFAST_URL: 'http://127.0.0.1:1' }
    expect((await holdfast(['status', '--url', served.url], { environment: nowhere })).code).toBe(0)
    expect((await holdfast(['status'], { environment: { ...nowhere, HOLDFAST_URL: `${served.url}/console/` } })).code).toBe(0)
    expect((await holdfast(['status', '--data', dir], { environment: {} })).code).toBe(0)
  })

  it('says in one sentence that none runs here, and what to do, with 69', async () => {
    const { code, out, err } = await holdfast(['status', '--data', 'nowhere'], { environment: {} })
    expect([code, out]).toEqual([69, ''])
    expect(err).toBe(`holdfast: no service runs here: there is no holdfast.json in ${join(root, 'nowhere')}. Start it, or say where it is with --url, HOLDFAST_URL or --data <dir>.`)
  })

  it('says that one was here and does not answer, with 69, also as JSON', async () => {
    await served.close()
    const { code, err } = await holdfast(['status'])
    expect([code, err]).toEqual([69, expect.stringMatching(/^holdfast: no service answers at http.*ECONNREFUSED.*holdfast\.json, pid \d+\. Start it/)])
    expect(JSON.parse((await holdfast(['status', '--json'])).err)).toMatchObject({ error: { code: 'HF_SERVICE_UNREACHABLE' } })
    expect((await holdfast(['events', '--follow'])).code).toBe(69)
  })

  it('is denied with 77 without the token, and takes it from the file or the environment', async () => {
    await served.close()
    const token = 't'.repeat(40)
    await start({ token })
    expect((await holdfast(['status'])).code).toBe(0)
    expect((await holdfast(['status'], { environment: { HOLDFAST_URL: served.url, HOLDFAST_TOKEN: token } })).code).toBe(0)
    const { code, err } = await holdfast(['status'], { environment: { HOLDFAST_URL: served.url } })
    expect([code, err]).toEqual([77, expect.stringContaining('HOLDFAST_TOKEN')])
  })
})

describe('text', () => {
  it('has colours on a terminal only, and none with NO_COLOR', async () => {
    const escape = '\u001b['
    expect((await holdfast(['status'])).out).not.toContain(escape)
    expect((await holdfast(['status'], { terminal: true })).out).toContain(escape)
    expect((await holdfast(['status'], { terminal: true, environment: { HOLDFAST_DATA: dir, NO_COLOR: '1' } })).out).not.toContain(escape)
  })

  it('fits the terminal', async () => {
    breakThePanel(fake)
    const { out } = await holdfast(['work'], { terminal: true, columns: 100, environment: { HOLDFAST_DATA: dir, NO_COLOR: '1' } })
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
  })

  it('never lets data command the terminal', async () => {
    fake.model.verdict = { state: 'healthy', sentence: 'fine\u001b]52;c;cm0gLXJm\u0007\u202e\u009b2J\nHEALTHY', since: env.now() }
    const { out } = await holdfast(['status'])
    expect(out.split('\n')[0]).toBe('HEALTHY  fine?]52;c;cm0gLXJm???2J HEALTHY')
    expect(clean('a\r\n\tb')).toBe('a b')
  })

  it('suggests within two slips only', () => {
    expect(closest('paymetns', ['payments', 'workers'])).toBe('payments')
    expect(closest('x', ['payments'])).toBeUndefined()
  })
})
