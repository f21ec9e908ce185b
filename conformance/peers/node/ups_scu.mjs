// SPDX-License-Identifier: Apache-2.0
// An independent UPS SCU and event receiver: dcmjs-dimse speaks, this only says what.
// Usage: node ups_scu.mjs MODULES_FOLDER HOST PORT CALLED_AE CALLING_AE [LISTEN_PORT]
// Reads one JSON array of steps from its input, sends them one after the other, each over an association of its
// own, and prints one JSON array of answers. With LISTEN_PORT it also takes N-EVENT-REPORT; the step
// {"service": "events", "count": n} waits until so many came and answers them.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';

const [modulesFolder, host, portText, calledAe, callingAe, listenText] = process.argv.slice(2);
const port = Number(portText);
if (!modulesFolder || !Number.isInteger(port) || !callingAe) {
  console.error('usage: node ups_scu.mjs MODULES_FOLDER HOST PORT CALLED_AE CALLING_AE [LISTEN_PORT]');
  process.exit(2);
}
const load = createRequire(join(modulesFolder, 'index.js'));
const dimse = load('dcmjs-dimse');
dimse.log.disableAll();

const PUSH = '1.2.840.10008.5.1.4.34.6.1';
const WATCH = '1.2.840.10008.5.1.4.34.6.2';
const PULL = '1.2.840.10008.5.1.4.34.6.3';
const CHANGE_STATE = 1;
const REQUEST_CANCEL = 2;
const WAIT_MS = 20000;
const events = [];
let heard = () => {};

/** The request of one step; the last argument names the SOP class whose presentation context carries it. */
function requestOf(step) {
  switch (step.service) {
    case 'create':
      return new dimse.requests.NCreateRequest(PUSH, step.uid);
    case 'get':
      return new dimse.requests.NGetRequest(PUSH, step.uid, step.tags ?? [], WATCH);
    case 'set':
      return new dimse.requests.NSetRequest(PUSH, step.uid, PULL);
    case 'state':
      return new dimse.requests.NActionRequest(PUSH, step.uid, CHANGE_STATE, PULL);
    case 'cancel':
      return new dimse.requests.NActionRequest(PUSH, step.uid, REQUEST_CANCEL);
    case 'action':
      return new dimse.requests.NActionRequest(PUSH, step.uid, step.action, WATCH);
    case 'find': {
      const request = new dimse.requests.CFindRequest();
      request.setAffectedSopClassUid(PULL);
      return request;
    }
    default:
      throw new Error(`no such service: ${step.service}`);
  }
}

/** Send one step; its last status with every data set that came. */
function send(step) {
  return new Promise((resolve, reject) => {
    const request = requestOf(step);
    const dataSets = [];
    let status = -1;
    let comment = '';
    if (step.data) {
      request.setDataset(new dimse.Dataset(step.data));
    }
    request.on('response', (response) => {
      status = response.getStatus();
      comment = response.getErrorComment?.() ?? '';
      const dataSet = response.getDataset?.();
      if (dataSet) {
        dataSets.push(dataSet.getElements());
      }
    });
    const client = new dimse.Client();
    client.addRequest(request);
    client.on('closed', () => resolve({ status, comment, dataSets }));
    client.on('networkError', reject);
    client.on('associationRejected', (result) => reject(new Error(`rejected: ${JSON.stringify(result)}`)));
    client.send(host, port, callingAe, calledAe);
  });
}

/** Wait until `count` events came, or too long. */
function eventsSoFar(count) {
  return new Promise((resolve) => {
    const done = () => resolve({ status: 0, comment: '', dataSets: events });
    const timer = setTimeout(done, WAIT_MS);
    heard = () => {
      if (events.length >= count) {
        clearTimeout(timer);
        done();
      }
    };
    heard();
  });
}

/** Takes every association and every event. */
class Receiver extends dimse.Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      const known = context
        .getTransferSyntaxUids()
        .find((uid) => uid === dimse.constants.TransferSyntax.ImplicitVRLittleEndian
          || uid === dimse.constants.TransferSyntax.ExplicitVRLittleEndian);
      if (known) {
        context.setResult(dimse.constants.PresentationContextResult.Accept, known);
      } else {
        context.setResult(dimse.constants.PresentationContextResult.RejectTransferSyntaxesNotSupported);
      }
    }
    this.sendAssociationAccept();
  }

  nEventReportRequest(request, callback) {
    events.push({
      uid: request.getAffectedSopInstanceUid(),
      eventType: request.getEventTypeId(),
      elements: request.getDataset()?.getElements() ?? {},
    });
    const response = dimse.responses.NEventReportResponse.fromRequest(request);
    response.setStatus(dimse.constants.Status.Success);
    callback(response);
    heard();
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

let server = null;
if (listenText) {
  server = new dimse.Server(Receiver);
  server.listen(Number(listenText));
}
const answers = [];
for (const step of JSON.parse(readFileSync(0, 'utf-8'))) {
  answers.push(step.service === 'events' ? await eventsSoFar(step.count) : await send(step));
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
