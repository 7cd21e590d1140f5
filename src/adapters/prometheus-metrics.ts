import type { Metric, Registry } from 'prom-client'
import { Counter, Gauge } from 'prom-client'

/*
 * prom-client hashes the labels at every call, about a microsecond each, and an exchange has a dozen.
 * These keep plain numbers on the way and hand them to prom-client only when somebody looks.
 */

type Labelled<Cell> = { readonly labels: Record<string, string>; readonly cell: Cell }
type Branch<Cell> = Map<string, Branch<Cell> | Cell>

/** Keeps one cell for each combination of label values: a map for each label, the cell in the last. */
function createCells<Cell extends object>(names: readonly string[], make: () => Cell) {
  const all: Labelled<Cell>[] = []
  const root: Branch<Cell> = new Map()

  function plant(values: readonly string[]): Cell {
    const labels = Object.fromEntries(names.map((name, at) => [name, values[at] ?? '']))
    const cell = make()
    all.push({ labels, cell })
    let branch = root
    for (const [at, name] of names.entries()) {
      const value = labels[name] ?? ''
      const next = at === names.length - 1 ? cell : (branch.get(value) ?? new Map<string, never>())
      branch.set(value, next)
      branch = next as Branch<Cell>
    }
    return cell
  }

  return {
    all,
    of(values: readonly string[]): Cell {
      let found: Branch<Cell> | Cell | undefined = root
      for (let at = 0; at < names.length && found !== undefined; at++) {
        found = (found as Branch<Cell>).get(values[at] ?? '')
      }
      return (found as Cell | undefined) ?? plant(values)
    },
  }
}

export type CheapCounter = {
  /** Adds `count` (0 makes the series known). Values in the order of the labels. */
  readonly add: (count: number, ...values: string[]) => void
}

export function createCounter(
  registry: Registry,
  options: { readonly name: string; readonly help: string; readonly labels: readonly string[] },
): CheapCounter {
  const cells = createCells(options.labels, () => ({ count: 0 }))
  new Counter({
    name: options.name,
    help: options.help,
    labelNames: options.labels,
    registers: [registry],
    collect() {
      this.reset()
      for (const { labels, cell } of cells.all) this.inc(labels, cell.count)
    },
  })
  return {
    add(count, ...values) {
      cells.of(values).count += count
    },
  }
}

/** A gauge that is read when it is asked, so that nobody has to keep it up to date. */
export function createGauge(
  registry: Registry,
  name: string,
  help: string,
  read: () => number,
  labels: () => Readonly<Record<string, string>> = () => ({}),
): void {
  new Gauge({
    name,
    help,
    labelNames: ['version', 'hash'],
    registers: [registry],
    collect() {
      // Labels may have changed: only what holds now is told.
      this.reset()
      this.set(labels(), read())
    },
  })
}

/** The same for each of a closed set, by one label. */
export function createGauges(
  registry: Registry,
  options: {
    readonly name: string
    readonly help: string
    readonly label: string
    readonly read: () => readonly (readonly [value: string, reading: number])[]
  },
): void {
  const { name, help, label, read } = options
  new Gauge({
    name,
    help,
    labelNames: [label],
    registers: [registry],
    collect() {
      this.reset()
      for (const [value, reading] of read()) this.set({ [label]: value }, reading)
    },
  })
}

export type CheapHistogram = {
  /** Values in the order of the labels. */
  readonly observe: (value: number, ...values: string[]) => void
}

/**
 * A histogram in prom-client's registry. Its own class has no way to take counts that were made
 * elsewhere, but the registry asks a metric for no more than `get()`.
 */
export function createHistogram(
  registry: Registry,
  options: {
    readonly name: string
    readonly help: string
    readonly labels: readonly string[]
    /** Upper bounds, rising. */
    readonly buckets: readonly number[]
  },
): CheapHistogram {
  const { name, help, buckets } = options
  const cells = createCells(options.labels, () => ({
    counts: new Array<number>(buckets.length + 1).fill(0),
    sum: 0,
  }))

  const get = () => {
    const values: { metricName: string; labels: Record<string, string>; value: number }[] = []
    for (const { labels, cell } of cells.all) {
      let total = 0
      cell.counts.forEach((count, at) => {
        total += count
        const le = at < buckets.length ? String(buckets[at]) : '+Inf'
        values.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: total })
      })
      values.push({ metricName: `${name}_sum`, labels, value: cell.sum })
      values.push({ metricName: `${name}_count`, labels, value: total })
    }
    return Promise.resolve({ name, help, type: 'histogram', values, aggregator: 'sum' })
  }
  registry.registerMetric({ name, help, type: 'histogram', get } as unknown as Metric)

  return {
    observe(value, ...values) {
      const cell = cells.of(values)
      let at = 0
      while (at < buckets.length && value > (buckets[at] ?? 0)) at++
      cell.counts[at] = (cell.counts[at] ?? 0) + 1
      cell.sum += value
    },
  }
}
