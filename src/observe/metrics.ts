/**
 * Counters, gauges and histograms in Prometheus' text format, with bounded cardinality.
 *
 * Our own small rendering and no library: the usual one's default metrics fail `promtool check metrics`
 * (docs/DECISIONS.md). Gauges are read when somebody scrapes, so an idle service costs nothing.
 */
import { HoldfastError } from '../core/index.ts'

export type Labels = Readonly<Record<string, string>>

/** Label sets per metric; what comes beyond is counted under `other`, and that it happened is a metric itself. */
const SERIES_MAX = 200
const NAME = /^[a-z][a-z0-9_]*$/

/** Seconds; from a cache hit to a call that ran into its deadline. */
export const SECONDS_BUCKETS: readonly number[] = Object.freeze([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30])

interface Series {
  readonly labels: Labels
  value: number
  readonly buckets: number[]
  count: number
}

interface Metric {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly series: Map<string, Series>
  readonly bounds: readonly number[]
}

export interface Metrics {
  /** A number that only rises; its name ends in `_total`. */
  counter(name: string, help: string): { add(labels: Labels, by?: number): void }
  histogram(name: string, help: string, bounds?: readonly number[]): { observe(labels: Labels, value: number): void }
  /** Asked at each scrape. */
  gauge(name: string, help: string, read: () => Iterable<readonly [Labels, number]>): void
  /** A counter that is kept elsewhere, asked at each scrape. */
  counterOf(name: string, help: string, read: () => Iterable<readonly [Labels, number]>): void
  render(): string
}

export function metrics(): Metrics {
  const all = new Map<string, Metric>()
  /** What is asked at each scrape. */
  const reads = new Map<string, () => Iterable<readonly [Labels, number]>>()
  let dropped = 0

  const define = (name: string, help: string, type: Metric['type'], bounds: readonly number[] = []): Metric => {
    if (!NAME.test(name) || (type === 'counter') !== name.endsWith('_total')) throw new HoldfastError('HF_OPTION_INVALID', { message: `metric: expected a snake_case name that ends in _total for counters only, got ${JSON.stringify(name)}` })
    if (all.has(name)) throw new HoldfastError('HF_NAME_TAKEN', { message: `metric ${name} is already defined` })
    const metric: Metric = { name, help, type, series: new Map(), bounds }
    all.set(name, metric)
    return metric
  }

  const seriesOf = (metric: Metric, labels: Labels): Series => {
    const key = renderLabels(labels)
    const known = metric.series.get(key)
    if (known !== undefined) return known
    if (metric.series.size >= SERIES_MAX) {
      dropped += 1
      const other = Object.fromEntries(Object.keys(labels).map(name => [name, 'other']))
      const otherKey = renderLabels(other)
      return metric.series.get(otherKey) ?? add(metric, otherKey, other)
    }
    return add(metric, key, labels)
  }

  return {
    counter: (name, help) => {
      const metric = define(name, help, 'counter')
      return { add: (labels, by = 1) => { seriesOf(metric, labels).value += by } }
    },
    histogram: (name, help, bounds = SECONDS_BUCKETS) => {
      const metric = define(name, help, 'histogram', bounds)
      return {
        observe: (labels, value) => {
          const series = seriesOf(metric, labels)
          series.value += value
          series.count += 1
          for (let index = 0; index < bounds.length; index += 1) if (value <= (bounds[index] ?? 0)) series.buckets[index] = (series.buckets[index] ?? 0) + 1
        },
      }
    },
    gauge: (name, help, read) => {
      define(name, help, 'gauge')
      reads.set(name, read)
    },
    counterOf: (name, help, read) => {
      define(name, help, 'counter')
      reads.set(name, read)
    },
    render: () => {
      const lines: string[] = []
      for (const metric of all.values()) {
        const read = reads.get(metric.name)
        if (read !== undefined) {
          metric.series.clear()
          for (const [labels, value] of read()) seriesOf(metric, labels).value = value
        }
        if (metric.series.size === 0) continue
        lines.push(`# HELP ${metric.name} ${metric.help}`, `# TYPE ${metric.name} ${metric.type}`)
        for (const series of metric.series.values()) lines.push(...renderSeries(metric, series))
      }
      lines.push('# HELP holdfast_metrics_dropped_total Samples counted under other because a metric had too many label sets.', '# TYPE holdfast_metrics_dropped_total counter', `holdfast_metrics_dropped_total ${String(dropped)}`)
      return `${lines.join('\n')}\n`
    },
  }
}

function add(metric: Metric, key: string, labels: Labels): Series {
  const series: Series = { labels, value: 0, buckets: metric.bounds.map(() => 0), count: 0 }
  metric.series.set(key, series)
  return series
}

function renderSeries(metric: Metric, series: Series): string[] {
  if (metric.type !== 'histogram') return [`${metric.name}${renderLabels(series.labels)} ${String(series.value)}`]
  return [
    ...metric.bounds.map((bound, index) => `${metric.name}_bucket${renderLabels({ ...series.labels, le: String(bound) })} ${String(series.buckets[index] ?? 0)}`),
    `${metric.name}_bucket${renderLabels({ ...series.labels, le: '+Inf' })} ${String(series.count)}`,
    `${metric.name}_sum${renderLabels(series.labels)} ${String(series.value)}`,
    `${metric.name}_count${renderLabels(series.labels)} ${String(series.count)}`,
  ]
}

function renderLabels(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n').slice(0, 120)}"`)
  return parts.length === 0 ? '' : `{${parts.join(',')}}`
}
