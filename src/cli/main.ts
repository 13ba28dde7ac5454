#!/usr/bin/env node
/**
 * `holdfast`: the operator's command line. See `holdfast --help`, and ./run.ts for exit codes.
 */
import { userInfo } from 'node:os'
import { realEnv } from '../core/index.ts'
import type { Io } from './io.ts'
import { run } from './run.ts'

const stop = new AbortController()
process.once('SIGINT', () => { stop.abort() })
process.once('SIGTERM', () => { stop.abort() })
// `holdfast events | head`: the reader has gone, which is no error of ours.
process.stdout.on('error', () => { process.exit(0) })

const io: Io = {
  env: realEnv(),
  environment: process.env,
  cwd: process.cwd(),
  user: userName(),
  terminal: process.stdout.isTTY,
  columns: process.stdout.columns ?? 100,
  signal: stop.signal,
  out: text => { process.stdout.write(`${text}\n`) },
  err: text => { process.stderr.write(`${text}\n`) },
}

process.exitCode = await run(process.argv.slice(2), io)

/** A container may run under a number that has no name. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid-${String(process.getuid?.() ?? 'unknown')}`
  }
}
