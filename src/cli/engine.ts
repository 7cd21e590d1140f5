import { totalmem } from 'node:os'
import { setFlagsFromString } from 'node:v8'

const ALWAYS: readonly string[] = [
  // By itself V8 collects the whole heap for every 64 MB of buffers that its young generation has not let go
  // of. Counted in with the heap they are let go of by the collections that are due anyway.
  '--external-memory-accounted-in-global-limit',
]

/** For a program that is idle between bursts (decision 0043). */
const WITH_ROOM: readonly string[] = [
  // A collection is due once heap and buffers are four times what was left by the one before: what V8 does
  // itself with the largest heaps. Of smaller ones it comes to a tenth more, a few answers of 2 MB.
  '--heap-growing-percent=300',
  // What has become small in an idle time is large again at once.
  '--semi-space-growth-factor=16',
  '--no-memory-reducer-favors-memory',
]

/** Bytes from which there is room: in a quarter of it a burst was the end of the process. */
const ROOM = 1_073_741_824

/** What V8 is told, by the bytes that the process may have. */
export function flagsFor(memory: number): readonly string[] {
  return memory >= ROOM ? [...ALWAYS, ...WITH_ROOM] : ALWAYS
}

export function tuneEngine(): void {
  for (const flag of flagsFor(memoryOfProcess())) setFlagsFromString(flag)
}

/** Of its container or of the machine. Without a limit the container's is 0, or more than there is. */
function memoryOfProcess(): number {
  return Math.min(process.constrainedMemory() || Infinity, totalmem())
}
