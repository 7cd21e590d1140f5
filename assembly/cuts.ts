/**
 * Where a JSON text that comes in slices can be cut: 64 bytes at a time are turned into masks of
 * quotes, backslashes and brackets (WebAssembly SIMD), and depth is counted outside of strings.
 * `npm run build:wasm` compiles it to src/json/cuts.wasm.
 *
 * Nothing is checked here. A cut says only where to try: whoever takes a piece scans it strictly, and
 * a piece cut elsewhere than between two values is none. It has no imports and reads and writes
 * nothing but its own memory; the host lays a slice at `from`, with 64 zero bytes or more behind it.
 */

/** Depth within the outermost object, and within an array that is the value of one of its members. */
const MEMBERS = 1
const ELEMENTS = 2

/** What goes on from one slice to the next, with `quoted` and `escaped` as the two bits of `carry`. */
let depth: i32 = 0
/** All ones within a string. */
let quoted: u64 = 0
/** One when a backslash takes the meaning of the next byte. */
let escaped: u64 = 0

/** Brackets outside of strings in the 64 bytes read last. */
let opens: u64 = 0
let closes: u64 = 0
/** Which of them are not within a string; an end of a string counts as outside. */
let outside: u64 = 0

export function depthAfter(): i32 {
  return depth
}

export function carryAfter(): i32 {
  return <i32>(quoted & 1) | (<i32>escaped << 1)
}

@inline
function resume(at: i32, carry: i32): void {
  depth = at
  quoted = (carry & 1) != 0 ? ~(<u64>0) : 0
  escaped = <u64>(carry >> 1)
}

@inline
function bits(a: v128, b: v128, c: v128, d: v128): u64 {
  return (
    <u64>(<u32>i8x16.bitmask(a)) |
    (<u64>(<u32>i8x16.bitmask(b)) << 16) |
    (<u64>(<u32>i8x16.bitmask(c)) << 32) |
    (<u64>(<u32>i8x16.bitmask(d)) << 48)
  )
}

/** A bit for each byte of `a` to `d` that is `sign`. */
@inline
function equal(a: v128, b: v128, c: v128, d: v128, sign: i8): u64 {
  const all = i8x16.splat(sign)
  return bits(i8x16.eq(a, all), i8x16.eq(b, all), i8x16.eq(c, all), i8x16.eq(d, all))
}

const ODD: u64 = 0xaaaaaaaaaaaaaaaa

/**
 * Reads the 64 bytes at `at`, of which the first `n` belong to the slice. The masks are those of
 * simdjson (Langdale, Lemire: Parsing Gigabytes of JSON per Second, 3.1.1 and 3.1.2).
 */
@inline
function read(at: usize, n: usize): void {
  const a = v128.load(at)
  const b = v128.load(at, 16)
  const c = v128.load(at, 32)
  const d = v128.load(at, 48)
  const slashes = equal(a, b, c, d, 0x5c)
  let taken = escaped
  if (slashes == 0) escaped = 0
  else {
    const begun = slashes & ~escaped
    const codes = (((begun << 1) | ODD) - begun) ^ ODD
    taken = codes ^ (slashes | escaped)
    escaped = ((codes & slashes) >> (n - 1)) & 1
  }
  let inside = equal(a, b, c, d, 0x22) & ~taken
  // Most of a long text has no end in sight.
  if (inside == 0 && quoted != 0) {
    opens = 0
    closes = 0
    outside = 0
    return
  }
  inside ^= inside << 1
  inside ^= inside << 2
  inside ^= inside << 4
  inside ^= inside << 8
  inside ^= inside << 16
  inside ^= inside << 32
  inside ^= quoted
  quoted = <u64>(<i64>inside >> 63)
  // `[` and `{` differ in one bit, and so do `]` and `}`.
  const bit = i8x16.splat(0x20)
  const e = v128.or(a, bit)
  const f = v128.or(b, bit)
  const g = v128.or(c, bit)
  const h = v128.or(d, bit)
  outside = ~inside
  opens = equal(e, f, g, h, 0x7b) & outside
  closes = equal(e, f, g, h, 0x7d) & outside
}
@inline
function commas(at: usize): u64 {
  const a = v128.load(at)
  const b = v128.load(at, 16)
  const c = v128.load(at, 32)
  const d = v128.load(at, 48)
  return equal(a, b, c, d, 0x2c) & outside
}

@inline
function least(a: usize, b: usize): usize {
  return a < b ? a : b
}

/**
 * Where the next bracket opens in the outermost object, from `from` to `end`; 0 = nowhere. Behind it
 * the depth is that of elements, and nothing is carried.
 */
export function nextOpen(from: usize, end: usize, at: i32, carry: i32): usize {
  resume(at, carry)
  for (let i = from; i < end; i += 64) {
    read(i, least(64, end - i))
    let signs = opens | closes
    while (signs != 0) {
      const sign = signs & -signs
      if ((opens & sign) == 0) depth--
      else if (depth++ == MEMBERS) {
        quoted = 0
        escaped = 0
        return i + <usize>ctz(sign)
      }
      signs ^= sign
    }
  }
  return 0
}

/**
 * Where the array ends in which elements are, if it does; otherwise the last comma between two of
 * them; 0 = nowhere.
 */
export function lastCut(from: usize, end: usize, at: i32, carry: i32): usize {
  resume(at, carry)
  let found: usize = 0
  for (let i = from; i < end; i += 64) {
    read(i, least(64, end - i))
    const up = <i32>popcnt(opens)
    const down = <i32>popcnt(closes)
    if (depth - down > ELEMENTS) {
      depth += up - down
      continue
    }
    const between = commas(i)
    let signs = opens | closes
    /** Bytes before which the depth is as counted. */
    let passed: u64 = 0
    while (true) {
      const sign = signs & -signs
      // Up to the next bracket, or to the end: `sign` is 0 then, and all bits are before it.
      if (depth == ELEMENTS) {
        const here = between & (sign - 1) & ~passed
        if (here != 0) found = i + 63 - <usize>clz(here)
      }
      if (sign == 0) break
      passed = sign | (sign - 1)
      if ((opens & sign) != 0) depth++
      else if (--depth < ELEMENTS) return i + <usize>ctz(sign)
      signs ^= sign
    }
  }
  return found
}
