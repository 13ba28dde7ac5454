/**
 * `node scripts/example.mjs crash vpn-bot --store postgres`: kills the real program at every point of a purchase.
 *
 * Exit code 0: nothing was charged, made or delivered twice, and nothing was lost. 1: something was. 64: wrong options.
 */
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { humanDuration, messageOf, realEnv } from 'holdfast/core'
import { parsePoint } from './points.ts'
import type { Control } from './protocol.ts'
import { embeddedStores, postgresStores, type RunStores } from './stores.ts'
import { sweep, type SweepReport } from './sweep.ts'

const USAGE = `usage: node scripts/example.mjs crash vpn-bot [options]
  --store embedded|postgres   postgres (default) uses DATABASE_URL, else a server of its own
  --way card|crypto           default: both
  --every N --offset K        every N-th point from the K-th on; default: all
  --point 'once.write#1:after'  this point only (may be repeated)
  --without panel-names|sending-marks|once-keys   the control: a protection is taken away, and the exit code must be 1
  --at-once N                 runs at a time, default 4 (embedded: 2)
  --seed N --json`
const CONTROLS: readonly string[] = ['panel-names', 'sending-marks', 'once-keys'] satisfies readonly Control[]

const env = realEnv()
const write = (line: string): void => { process.stdout.write(`${line}\n`) }

const given = parseArguments(process.argv.slice(2))
const stores = await openStores(given.store)
const reports: SweepReport[] = []
try {
  for (const way of given.ways) {
    reports.push(await sweep({
      env, stores, way, seed: given.seed, every: given.every, offset: given.offset, atOnce: given.atOnce,
      ...(given.points.length === 0 ? {} : { points: given.points }), ...(given.without === undefined ? {} : { without: given.without }),
      onRun: (point, report) => {
        if (!given.json) write(`${report.broken.length > 0 ? 'BROKEN' : report.died ? 'ok    ' : 'missed'} ${way} ${point} (${humanDuration(report.tookMs)})${report.broken.map(sentence => `\n       ${sentence}`).join('')}`)
      },
    }))
  }
} finally {
  await stores.close()
}
const broken = reports.flatMap(report => report.broken)
if (given.json) write(JSON.stringify({ ok: broken.length === 0, reports }))
else {
  for (const { way, store, known, died, missed, tookMs } of reports) write(`${way} on ${store}: ${String(died)} deaths at ${String(known)} points in ${humanDuration(tookMs)}; not reached: ${missed.join(', ') || 'none'}`)
  write(broken.length === 0 ? 'nothing was lost, nothing happened twice' : broken.join('\n'))
}
process.exit(broken.length === 0 ? 0 : 1)

interface Arguments {
  readonly store: 'embedded' | 'postgres'
  readonly ways: readonly ('card' | 'crypto')[]
  readonly every: number
  readonly offset: number
  readonly points: readonly string[]
  readonly without: Control | undefined
  readonly atOnce: number
  readonly seed: number
  readonly json: boolean
}

function parseArguments(args: readonly string[]): Arguments {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        'store': { type: 'string', default: 'postgres' }, 'way': { type: 'string' }, 'every': { type: 'string', default: '1' }, 'offset': { type: 'string', default: '0' },
        'point': { type: 'string', multiple: true, default: [] }, 'without': { type: 'string' }, 'at-once': { type: 'string' }, 'seed': { type: 'string', default: '1' },
        'json': { type: 'boolean', default: false }, 'help': { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      write(USAGE)
      process.exit(0)
    }
    const { store, way, without } = values
    if (store !== 'embedded' && store !== 'postgres') throw new RangeError(`--store: expected embedded or postgres, got ${store}`)
    if (way !== undefined && way !== 'card' && way !== 'crypto') throw new RangeError(`--way: expected card or crypto, got ${way}`)
    if (without !== undefined && !CONTROLS.includes(without)) throw new RangeError(`--without: expected one of ${CONTROLS.join(', ')}, got ${without}`)
    for (const point of values.point) parsePoint(point)
    return {
      store, ways: way === undefined ? ['card', 'crypto'] : [way], points: values.point, without: without as Control | undefined, json: values.json,
      every: whole('--every', values.every, 1), offset: whole('--offset', values.offset, 0), seed: whole('--seed', values.seed, 0),
      atOnce: whole('--at-once', values['at-once'] ?? (store === 'embedded' ? '2' : '4'), 1),
    }
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n${USAGE}\n`)
    process.exit(64)
  }
}

function whole(name: string, text: string, min: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < min) throw new RangeError(`${name}: expected a whole number from ${String(min)}, got ${text}`)
  return value
}

async function openStores(kind: 'embedded' | 'postgres'): Promise<RunStores> {
  if (kind === 'embedded') return embeddedStores(env)
  // The tests' own PostgreSQL; it is not part of the program, and TypeScript that only a checkout has.
  const { tsImport } = await import('tsx/esm/api')
  const path = pathToFileURL(resolve(import.meta.dirname, '../../../../test/postgres.ts')).href
  const { testPostgres } = await tsImport(path, import.meta.url) as { readonly testPostgres: () => Promise<{ url(): Promise<string> }> }
  const server = await testPostgres()
  return postgresStores(env, () => server.url())
}
