// SPDX-License-Identifier: Apache-2.0
// UPS-RS as a browser speaks it: the fetch and the WebSocket of Node (undici), nothing of this project.
// Usage: node ups_rs_client.mjs BASE_URL
// Reads one JSON array of steps from its input and prints one JSON array of answers. A step is a request
// {"method", "path", "data"}, {"watch": aeTitle} which opens a notification connection, or {"events": n} which
// waits until so many event reports came.
import { readFileSync } from 'node:fs';

const [baseUrl] = process.argv.slice(2);
if (!baseUrl) {
  console.error('usage: node ups_rs_client.mjs BASE_URL');
  process.exit(2);
}
const TYPE = 'application/dicom+json';
const WAIT_MS = 20000;
const events = [];
let heard = () => {};

/** One request; its status, headers and JSON. */
async function ask(step) {
  const answer = await fetch(`${baseUrl}${step.path}`, {
    method: step.method,
    headers: step.data === undefined ? { Accept: TYPE } : { Accept: TYPE, 'Content-Type': TYPE },
    body: step.data === undefined ? undefined : JSON.stringify(step.data),
  });
  const text = await answer.text();
  return {
    status: answer.status,
    headers: Object.fromEntries(answer.headers),
    content: text ? JSON.parse(text) : null,
  };
}

/** Open the notification connection of an AE. */
function watch(aeTitle) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${baseUrl.replace(/^http/, 'ws')}/subscribers/${aeTitle}`);
    socket.addEventListener('open', () => resolve({ status: 101, headers: {}, content: socket.protocol }));
    socket.addEventListener('error', () => reject(new Error('the notification connection failed')));
    socket.addEventListener('message', (message) => {
      events.push(JSON.parse(message.data));
      heard();
    });
  });
}

/** Wait until `count` event reports came, or too long. */
function eventsSoFar(count) {
  return new Promise((resolve) => {
    const done = () => resolve({ status: 200, headers: {}, content: events });
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

const answers = [];
for (const step of JSON.parse(readFileSync(0, 'utf-8'))) {
  if (step.watch) {
    answers.push(await watch(step.watch));
  } else if (step.events) {
    answers.push(await eventsSoFar(step.events));
  } else {
    answers.push(await ask(step));
  }
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
