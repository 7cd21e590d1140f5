import { createRemoteJWKSet, jwtVerify } from 'jose'
import t from 'tap'
import { PERSONAS, startIdentityProvider } from '../../src/demo/identity-provider.ts'

const audience = 'http://127.0.0.1:8080/fhir'

t.test('tokens of every persona verify by discovery and JWKS', async (t) => {
  const idp = await startIdentityProvider({
    audience,
    patientId: 'patient-1',
    practitionerId: 'practitioner-1',
    researcherId: 'practitioner-9',
  })
  t.teardown(idp.close)
  const discovery = (await (
    await fetch(`${idp.issuer}/.well-known/openid-configuration`)
  ).json()) as { issuer: string; jwks_uri: string; token_endpoint: string }
  t.equal(discovery.issuer, idp.issuer)
  const keys = createRemoteJWKSet(new URL(discovery.jwks_uri))
  const verify = async (token: string) =>
    (await jwtVerify(token, keys, { issuer: idp.issuer, audience, typ: 'at+jwt' })).payload

  for (const persona of PERSONAS) {
    const response = await fetch(`${idp.issuer}/demo/token/${persona}`)
    t.equal(response.status, 200)
    t.equal(response.headers.get('cache-control'), 'no-store')
    const claims = await verify(await response.text())
    t.ok(claims.jti)
    t.equal(claims.sub === claims.client_id, persona === 'backend', `${persona}: who is behind it`)
  }
  t.match(await verify(await idp.token('patient')), {
    scope: 'patient/*.rs',
    patient: 'patient-1',
    fhirUser: `${audience}/Patient/patient-1`,
  })
  t.match(await verify(await idp.token('clinician')), {
    scope: 'user/*.cruds',
    fhirUser: `${audience}/Practitioner/practitioner-1`,
  })
  t.match(await verify(await idp.token('researcher')), {
    scope: 'user/*.rs',
    roles: ['researcher'],
    purpose_of_use: ['HRESCH'],
  })
  t.match(await verify(await idp.token('backend')), { scope: 'system/*.rs' })

  const changed = await verify(
    await idp.token('patient', { scope: 'patient/Patient.r', claims: { patient: 'patient-2' } }),
  )
  t.match(changed, { scope: 'patient/Patient.r', patient: 'patient-2' })

  const granted = await fetch(discovery.token_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('backend:demo-secret')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'system/*.rs' }),
  })
  const { access_token: token } = (await granted.json()) as { access_token: string }
  t.match(await verify(token), { sub: 'backend', client_id: 'backend', scope: 'system/*.rs' })

  t.equal((await fetch(`${idp.issuer}/demo/token/nobody`)).status, 404)
})
