/** Dates as FHIR searches see them: a partial date is the interval of all moments it may mean. */

/** Milliseconds since the epoch, from `low` up to but not including `high`. */
export type Interval = { readonly low: number; readonly high: number }

const DATE =
  /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?$/

/** The interval of a date, dateTime or instant; UTC where no time zone is said. */
export function parseDateInterval(text: string): Interval | undefined {
  const found = DATE.exec(text)
  if (found === null) return undefined
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) =>
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- a group may be missing
    part === undefined ? undefined : Number(part),
  )
  const fraction = found[7]
  const offset = offsetOf(found[8])
  if (year === undefined || offset === undefined) return undefined
  const at = (...parts: [number, number, number, number, number, number]): number => {
    const time = Date.UTC(parts[0], parts[1], parts[2], parts[3], parts[4], parts[5])
    return time - offset
  }
  if (month === undefined)
    return { low: at(year, 0, 1, 0, 0, 0), high: at(year + 1, 0, 1, 0, 0, 0) }
  if (month < 1 || month > 12) return undefined
  if (day === undefined) {
    return { low: at(year, month - 1, 1, 0, 0, 0), high: at(year, month, 1, 0, 0, 0) }
  }
  if (day < 1 || day > new Date(Date.UTC(year, month, 0)).getUTCDate()) return undefined
  if (hour === undefined || minute === undefined) {
    return { low: at(year, month - 1, day, 0, 0, 0), high: at(year, month - 1, day + 1, 0, 0, 0) }
  }
  if (hour > 23 || minute > 59 || (second ?? 0) > 59) return undefined
  const low = at(year, month - 1, day, hour, minute, second ?? 0)
  if (second === undefined) return { low, high: low + 60_000 }
  if (fraction === undefined) return { low, high: low + 1000 }
  const from = low + Number(`0.${fraction}`) * 1000
  return { low: from, high: from + 1000 / 10 ** fraction.length }
}

function offsetOf(zone: string | undefined): number | undefined {
  if (zone === undefined || zone === 'Z') return 0
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(4, 6))]
  if (hours > 14 || minutes > 59) return undefined
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000
}

/** The interval of an element: a date of any kind, a Period, or a Timing with events or bounds. */
export function parseElementInterval(element: unknown): Interval | undefined {
  if (typeof element === 'string') return parseDateInterval(element)
  if (typeof element !== 'object' || element === null) return undefined
  const { start, end, event, repeat } = element as Record<string, unknown>
  if (start !== undefined || end !== undefined) return periodOf(start, end)
  if (Array.isArray(event) && event.length > 0) {
    const all = event.map((one) => (typeof one === 'string' ? parseDateInterval(one) : undefined))
    if (all.some((one) => one === undefined)) return undefined
    const known = all as Interval[]
    return {
      low: Math.min(...known.map(({ low }) => low)),
      high: Math.max(...known.map(({ high }) => high)),
    }
  }
  const bounds = (repeat as { boundsPeriod?: { start?: unknown; end?: unknown } } | undefined)
    ?.boundsPeriod
  return bounds === undefined ? undefined : periodOf(bounds.start, bounds.end)
}

/** A Period without a begin or an end is open on that side. */
function periodOf(start: unknown, end: unknown): Interval | undefined {
  const low = typeof start === 'string' ? parseDateInterval(start)?.low : -Infinity
  const high = typeof end === 'string' ? parseDateInterval(end)?.high : Infinity
  return low === undefined || high === undefined ? undefined : { low, high }
}

export const containsInterval = (outer: Interval, inner: Interval): boolean =>
  outer.low <= inner.low && inner.high <= outer.high
