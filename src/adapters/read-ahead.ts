/** What holds upstream's sending, as undici's DispatchController. */
type Source = {
  readonly pause: () => void
  readonly resume: () => void
  readonly abort: (reason: Error) => void
}

/**
 * A body on its way: the chunks that have come ahead of its one reader, one for each `next`, as they came.
 * A Readable joins what it holds, and copies each byte for that. To leave the loop that reads it ends the
 * request. Beyond `most` bytes upstream has to wait.
 */
export class ReadAhead implements AsyncIterableIterator<Buffer> {
  readonly #source: Source
  readonly #most: number
  #chunks: Buffer[] = []
  /** What they take. */
  #ahead = 0
  #isPaused = false
  #isOver = false
  #error: Error | undefined
  /** Whoever waits for the next chunk. */
  #waiting: PromiseWithResolvers<IteratorResult<Buffer>> | undefined

  constructor(source: Source, most: number) {
    this.#source = source
    this.#most = most
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  push(chunk: Buffer): void {
    if (this.#isOver) return
    const waiting = this.#take()
    if (waiting !== undefined) {
      waiting.resolve({ value: chunk, done: false })
      return
    }
    this.#chunks.push(chunk)
    this.#ahead += chunk.length + OWN
    if (this.#ahead <= this.#most || this.#isPaused) return
    this.#isPaused = true
    this.#source.pause()
  }

  /** No more will come: what is held is still there to be read. */
  end(): void {
    this.#isOver = true
    this.#take()?.resolve(DONE)
  }

  /** It has broken: what is held is lost, and whoever reads is told. */
  fail(error: Error): void {
    this.#isOver = true
    this.#drop()
    const waiting = this.#take()
    if (waiting === undefined) this.#error = error
    else waiting.reject(error)
  }

  next(): Promise<IteratorResult<Buffer>> {
    const chunk = this.#chunks.shift()
    if (chunk === undefined) return this.#wait()
    this.#ahead -= chunk.length + OWN
    if (this.#isPaused && this.#ahead <= this.#most) {
      this.#isPaused = false
      this.#source.resume()
    }
    return Promise.resolve({ value: chunk, done: false })
  }

  return(): Promise<IteratorResult<Buffer>> {
    this.#drop()
    if (!this.#isOver) {
      this.#isOver = true
      // Upstream must not go on sending to nobody.
      this.#source.abort(new Error('not read to its end'))
    }
    this.#take()?.resolve(DONE)
    return Promise.resolve(DONE)
  }

  #wait(): Promise<IteratorResult<Buffer>> {
    const error = this.#error
    this.#error = undefined
    if (error !== undefined) return Promise.reject(error)
    if (this.#isOver) return Promise.resolve(DONE)
    this.#waiting = Promise.withResolvers()
    return this.#waiting.promise
  }

  #take(): PromiseWithResolvers<IteratorResult<Buffer>> | undefined {
    const waiting = this.#waiting
    this.#waiting = undefined
    return waiting
  }

  #drop(): void {
    this.#chunks = []
    this.#ahead = 0
  }
}

/** Bytes that a chunk takes besides its own, however short it is. */
const OWN = 256
const DONE: IteratorResult<Buffer> = { value: undefined, done: true }
