/**
 * Is memory flat? Samples over time, reduced to the lowest of each window (what is left after a collection, of which there are
 * several in each, see ./main.ts), and the slope of a straight line through those.
 */
export interface MemorySample {
  readonly atMs: number
  readonly rssBytes: number
  readonly heapBytes: number
}

export interface MemoryVerdict {
  readonly flat: boolean
  /** Of what was measured after the warm-up; undefined when the run was too short to tell. */
  readonly rssMbPerMinute: number | undefined
  readonly heapMbPerMinute: number | undefined
  readonly firstRssMb: number
  readonly lastRssMb: number
  readonly maxRssMb: number
  readonly firstHeapFloorMb: number
  readonly lastHeapFloorMb: number
  readonly sentence: string
}

const MB = 1_048_576
const WINDOW_MS = 30_000
/** Code is compiled, caches and rings fill up to their limits. */
export const WARM_UP_MS = 180_000
/** Fewer windows make no line. */
const WINDOWS_MIN = 6
/** A leak of one kilobyte per purchase at a hundred purchases a minute is 0.1 MB/min: well below is noise, well above is a leak. */
const HEAP_MAX_MB_PER_MINUTE = 0.5
/** The resident size moves with the allocator and PGlite's pages; a megabyte a minute would fill a small machine in a night. */
const RSS_MAX_MB_PER_MINUTE = 1

export function judgeMemory(samples: readonly MemorySample[]): MemoryVerdict {
  const begin = (samples[0]?.atMs ?? 0) + WARM_UP_MS
  const measured = samples.filter(sample => sample.atMs >= begin)
  const heap = floors(measured, sample => sample.heapBytes)
  const rss = floors(measured, sample => sample.rssBytes)
  const enough = heap.length >= WINDOWS_MIN
  const heapSlope = enough ? slope(heap) : undefined
  const rssSlope = enough ? slope(rss) : undefined
  const flat = (heapSlope ?? 0) <= HEAP_MAX_MB_PER_MINUTE && (rssSlope ?? 0) <= RSS_MAX_MB_PER_MINUTE
  const all = samples.map(sample => sample.rssBytes / MB)
  const said = { firstRssMb: all[0] ?? 0, lastRssMb: all.at(-1) ?? 0, maxRssMb: Math.max(0, ...all), firstHeapFloorMb: heap[0]?.mb ?? 0, lastHeapFloorMb: heap.at(-1)?.mb ?? 0 }
  return {
    flat, rssMbPerMinute: rssSlope, heapMbPerMinute: heapSlope, ...said,
    sentence: heapSlope === undefined || rssSlope === undefined
      ? `too short to judge memory: a line is drawn after ${String(WARM_UP_MS / 60_000)} minutes of warm-up and needs ${String(WINDOWS_MIN * WINDOW_MS / 60_000)} more`
      : `memory is ${flat ? 'flat' : 'NOT flat'}: heap ${signed(heapSlope)} MB/min (at most ${String(HEAP_MAX_MB_PER_MINUTE)}), resident ${signed(rssSlope)} MB/min (at most ${String(RSS_MAX_MB_PER_MINUTE)}) after the warm-up`,
  }
}

interface Floor { readonly atMs: number; readonly mb: number }

function floors(samples: readonly MemorySample[], of: (sample: MemorySample) => number): readonly Floor[] {
  const windows = new Map<number, Floor>()
  for (const sample of samples) {
    const index = Math.floor(sample.atMs / WINDOW_MS)
    const mb = of(sample) / MB
    if (mb < (windows.get(index)?.mb ?? Infinity)) windows.set(index, { atMs: sample.atMs, mb })
  }
  return [...windows.values()]
}

/** Least squares, in MB per minute. */
function slope(points: readonly Floor[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const x = points.map(point => point.atMs / 60_000)
  const y = points.map(point => point.mb)
  const [meanX, meanY] = [mean(x), mean(y)]
  const over = x.reduce((sum, value, index) => sum + (value - meanX) * ((y[index] ?? 0) - meanY), 0)
  const under = x.reduce((sum, value) => sum + (value - meanX) ** 2, 0)
  return under === 0 ? 0 : over / under
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(2)}`
}
