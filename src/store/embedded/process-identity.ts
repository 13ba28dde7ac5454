/**
 * Which process is this, among all that may ever see this data directory?
 *
 * A pid alone says little: two containers on one volume may both be pid 1, and a pid is used again. So the host (with its
 * boot and pid namespace, where Linux tells them) and the start of the process belong to it.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

export interface ProcessIdentity {
  /** Equal only where a pid means the same process. */
  readonly host: string
  readonly pid: number
  /** Ticks since boot; empty where the system does not say. */
  readonly started: string
}

export function thisProcess(): ProcessIdentity {
  return { host: [hostname(), readOrEmpty('/proc/sys/kernel/random/boot_id'), pidNamespace()].join('/'), pid: process.pid, started: startOf(process.pid) }
}

/** Does this process still run here? Only asked about processes of this host. */
export function isRunning({ pid, started }: ProcessIdentity): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it runs, as another user.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return startOf(pid) === started
}

function startOf(pid: number): string {
  const stat = readOrEmpty(`/proc/${String(pid)}/stat`)
  // The name in brackets may hold anything; after it, the start time is the 20th field. A zombie runs no more.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : (fields[19] ?? '')
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    // Not Linux: the host name has to do.
    return ''
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // Not Linux, or the process has ended.
    return ''
  }
}
