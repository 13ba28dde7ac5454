import fc from 'fast-check'
import { describe, it } from 'vitest'
import { ALL, dialects, DIALECTS_TIMEOUT_MS, type Comparison } from '../../test/dialects.ts'
import type { MemoryTx, SqlTx } from '../store/index.ts'
import type { ItemTable } from './items/ledger.ts'
import { memoryItems } from './items/memory.ts'
import { sqlItems } from './items/sql.ts'
import type { ScheduleTable } from './schedule/ledger.ts'
import { memorySchedule } from './schedule/memory.ts'
import { sqlSchedule } from './schedule/sql.ts'

const worker = fc.constantFrom('mailer', 'sweeper')

const items: Comparison<ItemTable<MemoryTx>, ItemTable<SqlTx>> = {
  memory: memoryItems, sql: sqlItems,
  script: (ms, limit) => {
    const item = fc.constantFrom('1', '2', '3')
    return {
      list: { args: fc.tuple(fc.option(worker, { nil: undefined }), limit) },
      fail: { args: fc.tuple(worker, item, fc.record({ message: fc.constantFrom('why', 'otherwise'), maxAttempts: fc.constantFrom(1, 2, 3), baseMs: ms, capMs: ms })), weight: 6 },
      clear: { args: fc.tuple(worker, item) },
      retry: { args: fc.tuple(worker, item), weight: 2 },
      discard: { args: fc.tuple(worker, item) },
    }
  },
  observe: limit => [['list', undefined, ALL], ['list', 'mailer', limit]],
}

const schedule: Comparison<ScheduleTable<MemoryTx>, ScheduleTable<SqlTx>> = {
  memory: memorySchedule, sql: sqlSchedule,
  script: () => ({
    look: { args: fc.tuple(worker, fc.constantFrom('every 5 s', 'every 7 s')), weight: 2 },
    done: { args: fc.tuple(worker, fc.integer({ min: 0, max: 60 }).map(seconds => Date.UTC(2026, 0, 1) + seconds * 1_000)), weight: 2 },
    now: { args: fc.tuple() },
  }),
  observe: () => [['look', 'mailer', 'every 5 s'], ['now']],
}

describe.each([['at times that meet', true], ['at times that never meet', false]] as const)('memory and SQL answer alike, %s', { timeout: DIALECTS_TIMEOUT_MS }, (_when, aligned) => {
  const alike = dialects()
  it('the items of workers', () => alike(items, aligned))
  it('the schedule', () => alike(schedule, aligned))
})
