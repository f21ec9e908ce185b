// SPDX-License-Identifier: Apache-2.0
// Checks FHIR R4 resources with the npm package `fhir`, which brings its own R4 definitions.
// Usage: node validate_fhir.mjs MODULES_FOLDER < [resource, ...]   It writes one list of messages per resource.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const modulesFolder = process.argv[2];
if (!modulesFolder) {
  console.error('usage: node validate_fhir.mjs MODULES_FOLDER < resources.json');
  process.exit(2);
}
const { Fhir } = createRequire(join(modulesFolder, 'index.js'))('fhir');

const checker = new Fhir();
const resources = JSON.parse(readFileSync(0, 'utf-8'));
const answers = resources.map((resource) => {
  const { messages } = checker.validate(resource, { errorOnUnexpected: true });
  return messages.map(({ location, message, severity }) => ({ location, message, severity }));
});
process.stdout.write(JSON.stringify(answers));
