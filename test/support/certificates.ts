import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** What a certificate of the tests says. */
export type CertificateOptions = {
  /** subjectAltName entries; default: localhost and 127.0.0.1. */
  readonly names?: readonly string[]
  /** As openssl ca writes times; default: from an hour ago for a day. */
  readonly from?: Date
  readonly to?: Date
  readonly isSelfSigned?: boolean
}

/** The files of a certificate and its key. */
export type CertificatePair = { readonly cert: string; readonly key: string }

/** A small certificate authority in a folder, by openssl. */
export function createCertificates(folder: string, name = 'ca') {
  const run = (args: readonly string[]): void => {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'ignore'] })
  }
  const file = (end: string) => join(folder, end)
  const ecKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const ca = file(`${name}.pem`)
  const caKey = file(`${name}.key`)
  const subject = ['-subj', `/CN=test authority ${name}`]
  run(['req', '-x509', ...ecKey, '-keyout', caKey, '-out', ca, '-days', '2', ...subject])

  function issue(pair: string, options: CertificateOptions = {}): CertificatePair {
    const { names = ['DNS:localhost', 'IP:127.0.0.1'], isSelfSigned = false } = options
    const { from = new Date(Date.now() - 3_600_000), to = new Date(Date.now() + 86_400_000) } =
      options
    const [key, cert, csr] = [file(`${pair}.key`), file(`${pair}.pem`), file(`${pair}.csr`)]
    run(['req', '-new', ...ecKey, '-keyout', key, '-out', csr, '-subj', `/CN=${pair}`])
    const settings = file(`${pair}.cnf`)
    const index = file(`${pair}.index`)
    writeFileSync(index, '')
    writeFileSync(
      settings,
      `[ca]\ndefault_ca=own\n[own]\ndatabase=${index}\nnew_certs_dir=${folder}\ndefault_md=sha256\nrand_serial=yes\npolicy=any\nx509_extensions=leaf\n[any]\ncommonName=supplied\n[leaf]\nsubjectAltName=${names.join(',')}\n`,
    )
    const signer = isSelfSigned ? ['-selfsign', '-keyfile', key] : ['-cert', ca, '-keyfile', caKey]
    const times = ['-startdate', formatTime(from), '-enddate', formatTime(to)]
    const issued = ['-in', csr, '-out', cert, '-batch', '-notext']
    run(['ca', '-config', settings, ...signer, ...times, ...issued])
    return { cert, key }
  }
  return { ca, issue }
}

/** YYYYMMDDHHMMSSZ */
function formatTime(time: Date): string {
  return time.toISOString().replace(/[-:T]|\.\d+/g, '')
}
