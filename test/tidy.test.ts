/**
 * The layout law: who may import whom, file headers, and no global time or randomness outside core/env.
 *
 * DESIGN's arrows as data. A new room or a new arrow is a decision: it is written here and in docs/DECISIONS.md.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const src = join(root, 'src')

/** Which rooms a room may enter. Everybody may use core. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  guard: [],
  limits: [],
  health: [],
  store: [],
  durable: ['store'],
  control: ['store', 'durable'],
  worker: ['store', 'durable', 'control'],
  observe: [],
  config: ['guard'],
  http: ['guard', 'limits', 'health', 'durable', 'control', 'observe'],
  telegram: ['guard', 'limits', 'durable', 'control'],
  deploy: ['store', 'durable', 'config', 'health'],
  app: ['deploy', 'guard', 'limits', 'health', 'store', 'durable', 'control', 'worker', 'observe', 'config'],
  operate: ['app', 'http', 'control'],
  cli: ['app', 'operate', 'store'],
  testing: ['store', 'durable'],
}

/** Packages that a room may import; rung 1 of the ladder installs none of them. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  store: ['postgres', '@electric-sql/pglite', '@electric-sql/pglite/nodefs', 'pg', 'kysely', 'drizzle-orm'],
  observe: ['pino'],
  http: ['@hono/node-server'],
  telegram: ['grammy', 'grammy/types'],
  worker: ['croner'],
  cli: ['commander'],
}

function files(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.ts') && !entry.parentPath.includes('node_modules') && !entry.parentPath.includes(`${'/'}dist`))
    .map(entry => join(entry.parentPath, entry.name))
}

const sources = files(src).map(path => ({ path, name: relative(src, path), text: readFileSync(path, 'utf8'), isTest: /(?:\.test|\/contract|\.fixture|\/testing)\.ts$/.test(path) }))
const importPattern = /(?:^|\n)\s*(?:import|export)\b[^'"]*?from\s+'([^']+)'|import\('([^']+)'\)/g

function importsOf(text: string): string[] {
  return [...text.matchAll(importPattern)].map(match => match[1] ?? match[2] ?? '')
}

function roomOf(name: string): string {
  return name.includes('/') ? (name.split('/')[0] ?? '') : 'index'
}

/** Checked on the text so that a planted violation can be tried without writing a file. */
function arrowViolations(name: string, text: string, isTest: boolean): string[] {
  const room = roomOf(name)
  const allowed = ARROWS[room]
  if (room === 'index') return []
  if (allowed === undefined) return [`${name}: no room is called ${room}`]
  const violations: string[] = []
  for (const target of importsOf(text)) {
    if (target.startsWith('.')) {
      const to = relative(src, resolve(src, dirname(name), target))
      const toRoom = roomOf(to)
      if (toRoom === room || to.startsWith('..')) continue
      // Tests may stand on the simulated world and on every store.
      if (isTest) continue
      if (toRoom !== 'core' && !allowed.includes(toRoom)) violations.push(`${name} -> ${to}: ${room} may not enter ${toRoom}`)
      if (to.split('/').at(-1) !== 'index.ts') violations.push(`${name} -> ${to}: a room is entered through its index.ts`)
    } else if (!target.startsWith('node:') && !isTest) {
      if (!(PACKAGES[room] ?? []).includes(target)) violations.push(`${name}: imports the package ${target}`)
    }
  }
  return violations
}

describe('arrows', () => {
  it('are kept by every file', () => {
    expect(sources.flatMap(file => arrowViolations(file.name, file.text, file.isTest))).toEqual([])
  })

  it('would be seen when broken', () => {
    expect(arrowViolations('guard/x.ts', "import { a } from '../store/index.ts'", false)).toEqual(['guard/x.ts -> store/index.ts: guard may not enter store'])
    expect(arrowViolations('durable/x.ts', "import { a } from '../store/memory/tables.ts'", false)).toEqual(['durable/x.ts -> store/memory/tables.ts: a room is entered through its index.ts'])
    expect(arrowViolations('guard/x.ts', "import pino from 'pino'", false)).toEqual(['guard/x.ts: imports the package pino'])
  })
})

describe('files', () => {
  it('begin with what they are for', () => {
    const missing = sources.filter(file => !file.isTest && !file.text.startsWith('/**') && !file.text.startsWith('#!/usr/bin/env node\n/**')).map(file => file.name)
    expect(missing).toEqual([])
  })

  it('tell one story: at most 420 lines', () => {
    const long = sources.filter(file => !file.isTest && file.text.split('\n').length > 420).map(file => file.name)
    expect(long).toEqual([])
  })

  it('carry no unfinished work', () => {
    const unfinished = sources.filter(file => /\b(TODO|FIXME|XXX|HACK)\b/.test(file.text)).map(file => file.name)
    expect(unfinished).toEqual([])
  })
})

describe('the Env', () => {
  const globals = /\b(?:Date\.now\(|new Date\(\)|Math\.random\(|performance\.now\(|(?<![.\w])(?:setTimeout|setInterval|setImmediate)\()/
  const doors = new Set(['core/env.ts', 'testing/simulated-env.ts'])

  it('is the only door to time and randomness', () => {
    const offenders = sources.filter(file => !file.isTest && !doors.has(file.name)).filter(file => globals.test(withoutComments(file.text))).map(file => file.name)
    expect(offenders).toEqual([])
  })

  it('would be missed when gone around', () => {
    expect(globals.test('const at = Date.now()')).toBe(true)
    expect(globals.test('  setTimeout(run, 5)')).toBe(true)
    expect(globals.test('env.timer(5, run)')).toBe(false)
  })
})

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '')
}
