const NEWLINE = 10

/** Lines longer than allowed. */
export class LineError extends Error {
  override readonly name = 'LineError'
}

/**
 * Cuts newline-delimited JSON (https://github.com/ndjson/ndjson-spec) into its lines, blank ones left
 * out. A last line without an end counts. Throws LineError on a line of more than `longest` bytes.
 */
export async function* splitLines(
  body: AsyncIterable<Buffer>,
  longest: number,
): AsyncGenerator<Buffer> {
  let rest: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    let at = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
      const piece = chunk.subarray(at, end)
      const line = rest.length === 0 ? piece : Buffer.concat([...rest, piece])
      if (line.length > longest) throw new LineError(`a line of more than ${longest} bytes`)
      if (!isBlank(line)) yield line
      rest = []
      length = 0
      at = end + 1
    }
    if (at === chunk.length) continue
    rest.push(chunk.subarray(at))
    length += chunk.length - at
    if (length > longest) throw new LineError(`a line of more than ${longest} bytes`)
  }
  const last = Buffer.concat(rest)
  if (!isBlank(last)) yield last
}

/** Nothing but what JSON takes for space. */
function isBlank(line: Buffer): boolean {
  return line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)
}
