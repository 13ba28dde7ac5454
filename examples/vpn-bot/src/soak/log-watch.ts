/**
 * Reads a growing log of JSON lines: every warning and every error is a finding, payments are counted.
 */
import { closeSync, openSync, readSync } from 'node:fs'

export interface LogWatch {
  /** Reads what was added since the last time. */
  read(): void
  readonly lines: number
  readonly payments: ReadonlyMap<string, number>
  /** The first ones, as they were written. */
  readonly findings: readonly string[]
  /** All of them. */
  readonly findingsCount: number
}

const CHUNK_BYTES = 1_048_576
const FINDINGS_MAX = 50

export function watchLog(path: string): LogWatch {
  let offset = 0
  let rest = ''
  let lines = 0
  let findingsCount = 0
  const findings: string[] = []
  const payments = new Map<string, number>()
  const buffer = Buffer.alloc(CHUNK_BYTES)
  const decoder = new TextDecoder()

  const found = (text: string): void => {
    findingsCount += 1
    if (findings.length < FINDINGS_MAX) findings.push(text)
  }
  const line = (text: string): void => {
    lines += 1
    let entry: { readonly level?: string; readonly fact?: string }
    try {
      entry = JSON.parse(text) as typeof entry
    } catch {
      found(`not JSON: ${text.slice(0, 200)}`)
      return
    }
    if (entry.level === 'warn' || entry.level === 'error') found(text.slice(0, 1_000))
    if (entry.fact?.startsWith('payment.') === true) payments.set(entry.fact, (payments.get(entry.fact) ?? 0) + 1)
  }

  return {
    read() {
      const file = openSync(path, 'r')
      try {
        for (let bytes = readSync(file, buffer, 0, CHUNK_BYTES, offset); bytes > 0; bytes = readSync(file, buffer, 0, CHUNK_BYTES, offset)) {
          offset += bytes
          const parts = (rest + decoder.decode(buffer.subarray(0, bytes), { stream: true })).split('\n')
          rest = parts.pop() ?? ''
          for (const part of parts) line(part)
        }
      } finally {
        closeSync(file)
      }
    },
    payments, findings,
    get lines() {
      return lines
    },
    get findingsCount() {
      return findingsCount
    },
  }
}
