import { describe, expect, it } from 'vitest'
import { alignedTimetable, cronTimetable, type Timetable } from './timetable.ts'

/** The next due times after an instant, in UTC. */
function after(timetable: Timetable, from: string, count: number): readonly string[] {
  const due: string[] = []
  for (let at = Date.parse(from); due.length < count;) {
    at = timetable.next(at)
    due.push(new Date(at).toISOString().slice(0, 16))
  }
  return due
}
const berlin = (pattern: string): Timetable => cronTimetable('w', pattern, 'Europe/Berlin')

describe('a cron pattern', () => {
  it('is meant in its time zone, UTC by default', () => {
    expect(after(cronTimetable('w', '0 3 * * *'), '2026-01-01T00:00:00Z', 2)).toEqual(['2026-01-01T03:00', '2026-01-02T03:00'])
    expect(after(berlin('0 3 * * *'), '2026-01-01T00:00:00Z', 2)).toEqual(['2026-01-01T02:00', '2026-01-02T02:00'])
    expect(after(berlin('0 3 * * 1'), '2026-07-01T00:00:00Z', 1)).toEqual(['2026-07-06T01:00'])
  })

  it('is strictly later: what was due is not due again', () => {
    expect(after(cronTimetable('w', '0 3 * * *'), '2026-01-01T03:00:00.000Z', 1)).toEqual(['2026-01-02T03:00'])
    expect(after(cronTimetable('w', '0 3 * * *'), '2026-01-01T02:59:59.999Z', 1)).toEqual(['2026-01-01T03:00'])
  })

  describe('when clocks go forward (Berlin, 29 March 2026, 02:00 becomes 03:00)', () => {
    it('runs a time that does not exist once, when the clock jumps', () => {
      expect(after(berlin('30 2 * * *'), '2026-03-28T00:00:00Z', 3)).toEqual(['2026-03-28T01:30', '2026-03-29T01:00', '2026-03-30T00:30'])
    })
    it('runs the others at their time by the new clock', () => {
      expect(after(berlin('0 3 * * *'), '2026-03-28T03:00:00Z', 2)).toEqual(['2026-03-29T01:00', '2026-03-30T01:00'])
      expect(after(berlin('0 * * * *'), '2026-03-28T23:30:00Z', 4)).toEqual(['2026-03-29T00:00', '2026-03-29T01:00', '2026-03-29T02:00', '2026-03-29T03:00'])
    })
  })

  describe('when clocks go back (Berlin, 25 October 2026, 03:00 becomes 02:00)', () => {
    it('runs a fixed time that comes twice once, the first time', () => {
      expect(after(berlin('30 2 * * *'), '2026-10-24T02:00:00Z', 2)).toEqual(['2026-10-25T00:30', '2026-10-26T01:30'])
    })
    it('runs every so often by real time, through the hour that comes twice', () => {
      expect(after(berlin('*/30 * * * *'), '2026-10-24T23:45:00Z', 5)).toEqual(['2026-10-25T00:00', '2026-10-25T00:30', '2026-10-25T01:00', '2026-10-25T01:30', '2026-10-25T02:00'])
      expect(after(berlin('0 * * * *'), '2026-10-24T23:45:00Z', 4)).toEqual(['2026-10-25T00:00', '2026-10-25T01:00', '2026-10-25T02:00', '2026-10-25T03:00'])
    })
  })

  it('that is none, is never due, or is in no zone that exists is refused when it is declared', () => {
    for (const pattern of ['', '* * *', '61 * * * *', 'every day', '*/0 * * * *', '0 0 31 2 *', '* * * * * * * *']) expect(() => cronTimetable('w', pattern)).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    expect(() => berlinOf('Mars/Base')).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })
})

function berlinOf(zone: string): Timetable {
  return cronTimetable('w', '0 3 * * *', zone)
}

describe('an aligned interval', () => {
  it('is due at the same instants everywhere', () => {
    expect(after(alignedTimetable('w', '15m'), '2026-01-01T00:07:00Z', 3)).toEqual(['2026-01-01T00:15', '2026-01-01T00:30', '2026-01-01T00:45'])
    expect(after(alignedTimetable('w', '15m'), '2026-01-01T00:15:00Z', 1)).toEqual(['2026-01-01T00:30'])
    expect(() => alignedTimetable('w', '500ms')).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })
})
