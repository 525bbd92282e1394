/** Requests to a VMM's socket over one kept connection, one after the other. */
import http from 'node:http';
import { Failure } from '../../scripts/lib/progress.mjs';

export class ApiClient {
  /** @param {string} socketPath */
  constructor(socketPath) {
    this.socketPath = socketPath;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  }

  /**
   * @param {'GET' | 'PUT'} method
   * @param {string} endpoint
   * @param {object} [body]
   * @returns {Promise<void>} rejects unless the answer is a success
   */
  ask(method, endpoint, body) {
    const payload = body && JSON.stringify(body);
    const headers = payload === undefined ? {} : { 'Content-Length': Buffer.byteLength(payload) };
    const { agent, socketPath } = this;
    return new Promise((resolve, reject) => {
      const options = { agent, socketPath, method, path: `/api/v1/${endpoint}`, headers };
      const request = http.request(options, (response) => {
        let text = '';
        response.on('data', (bytes) => {
          text += bytes;
        });
        response.on('end', () => {
          const status = response.statusCode ?? 0;
          if (status < 300) resolve();
          else reject(new Failure(`${endpoint}: ${status} ${text}`));
        });
      });
      request.on('error', reject);
      request.end(payload);
    });
  }

  close() {
    this.agent.destroy();
  }
}
