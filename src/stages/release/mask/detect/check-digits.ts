/** Checks of identifiers: of their letters and digits, each as a digit of base 36 (A = 10). */
export type Check = (digits: Uint8Array, count: number) => boolean

const A = 10
const at = (digits: Uint8Array, n: number): number => digits[n] as number

/** The number that a part of the digits is in base 10. */
function numberOf(digits: Uint8Array, start: number, end: number): number {
  let number = 0
  for (let n = start; n < end; n++) number = number * 10 + at(digits, n)
  return number
}

export function weighted(digits: Uint8Array, weights: readonly number[]): number {
  let sum = 0
  for (let n = 0; n < weights.length; n++) sum += (weights[n] as number) * at(digits, n)
  return sum
}

/** A digit twice, the digits of that added up. */
export const doubled = (digit: number): number => (digit > 4 ? digit * 2 - 9 : digit * 2)

/** ISO/IEC 7812-1. */
export function isLuhn(digits: Uint8Array, count: number, start = 0): boolean {
  let sum = 0
  for (let n = count - 1, place = 0; n >= start; n--, place++)
    sum += place % 2 === 0 ? at(digits, n) : doubled(at(digits, n))
  return sum % 10 === 0
}

/** The dihedral group of a pentagon, and the permutation by place (Verhoeff 1969). */
export function isVerhoeff(digits: Uint8Array, count: number): boolean {
  let sum = 0
  for (let n = count - 1, place = 0; n >= 0; n--, place++)
    sum = multiply(sum, TURNED[(place % 8) * 10 + at(digits, n)] as number)
  return sum === 0
}
const TURN = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
const TURNED = Array.from({ length: 80 }, (_, n) => {
  let value = n % 10
  for (let place = Math.floor(n / 10); place > 0; place--) value = TURN[value] as number
  return value
})

function multiply(a: number, b: number): number {
  if (a < 5) return b < 5 ? (a + b) % 5 : ((a + b - 5) % 5) + 5
  return b < 5 ? ((a - b + 5) % 5) + 5 : (a - b + 5) % 5
}

export function isDea(digits: Uint8Array): boolean {
  const d = (n: number): number => at(digits, n + 2)
  return (d(0) + d(2) + d(4) + 2 * (d(1) + d(3) + d(5))) % 10 === d(6)
}

export function isNhs(digits: Uint8Array): boolean {
  const check = 11 - (weighted(digits, [10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11)
  return check !== 10 && (check === 11 ? 0 : check) === digits[9]
}

/** The letter counts as two digits, its place in the alphabet. */
export function isKvnr(digits: Uint8Array): boolean {
  const letter = at(digits, 0) - A + 1
  let sum = Math.floor(letter / 10) + doubled(letter % 10)
  for (let n = 1; n < 9; n++) sum += n % 2 === 1 ? at(digits, n) : doubled(at(digits, n))
  return sum % 10 === digits[9]
}

/** Corsica's departments 2A and 2B count as 19 and 18. */
export function isNir(digits: Uint8Array): boolean {
  const letter = at(digits, 6)
  const number =
    letter < A
      ? numberOf(digits, 0, 13)
      : (numberOf(digits, 0, 5) * 100 + 29 - letter) * 1_000_000 + numberOf(digits, 7, 13)
  return 97 - (number % 97) === numberOf(digits, 13, 15)
}

export const isIhi: Check = (digits, count) =>
  numberOf(digits, 0, 5) === 80036 && isLuhn(digits, count)

/** The same digit in all places is none. */
export function isCpf(digits: Uint8Array): boolean {
  const first = weighted(digits, [10, 9, 8, 7, 6, 5, 4, 3, 2])
  const second = weighted(digits, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
  return (
    ((first * 10) % 11) % 10 === digits[9] &&
    ((second * 10) % 11) % 10 === digits[10] &&
    !isSame(digits, 11)
  )
}

function isSame(digits: Uint8Array, count: number): boolean {
  let n = 1
  while (n < count && digits[n] === digits[0]) n++
  return n === count
}

/** Who was born since 2000 has a 2 before. */
export function isSsin(digits: Uint8Array): boolean {
  const [number, check] = [numberOf(digits, 0, 9), numberOf(digits, 9, 11)]
  return 97 - (number % 97) === check || 97 - ((2_000_000_000 + number) % 97) === check
}

export const isFnr: Check = (digits) =>
  weighted(digits, [3, 7, 6, 1, 8, 9, 4, 5, 2, 1]) % 11 === 0 &&
  weighted(digits, [5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]) % 11 === 0

/** A letter for the century is no part of the number. */
export function isHetu(digits: Uint8Array, count: number): boolean {
  const number = numberOf(digits, 0, 6) * 1000 + numberOf(digits, count - 4, count - 1)
  return parseInt('0123456789ABCDEFHJKLMNPRSTUVWXY'.charAt(number % 31), 36) === digits[count - 1]
}

/** X, Y and Z before count as 0, 1 and 2. */
export function isDni(digits: Uint8Array): boolean {
  const first = at(digits, 0)
  const number = (first < A ? first : first - 33) * 10_000_000 + numberOf(digits, 1, 8)
  return parseInt('TRWAGMYFPDXBNJZSQVHLCKE'.charAt(number % 23), 36) === digits[8]
}

/** Letters count by their place in the alphabet without I and O. */
export function isNhi(digits: Uint8Array): boolean {
  let sum = 0
  for (let n = 0; n < 6; n++) {
    const [digit, letter] = [at(digits, n), at(digits, n) - A + 1]
    const value = digit < A ? digit : letter - (letter > 9 ? 1 : 0) - (letter > 15 ? 1 : 0)
    sum += value * (7 - n)
  }
  return sum % 11 !== 0 && (11 - (sum % 11)) % 10 === digits[6]
}

/** ISO 13616 with the check of ISO 7064: the first four signs count last. */
export function isIban(digits: Uint8Array, count: number): boolean {
  if (count > 34) return false
  let rest = 0
  for (let n = 4; n < count + 4; n++) {
    const digit = at(digits, n < count ? n : n - count)
    rest = (rest * (digit < A ? 10 : 100) + digit) % 97
  }
  return rest === 1
}
