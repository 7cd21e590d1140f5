/** An answer said more than anybody needs to say. */
export class TooLongError extends Error {
  override readonly name = 'TooLongError'
}

/** The text of an answer, read until it is longer than `most` bytes; then rejects TooLongError. */
export async function readBounded(answer: Response, most: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of (answer.body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length
    // To leave the loop cancels the body.
    if (length > most) throw new TooLongError('the answer is longer than any should be')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
