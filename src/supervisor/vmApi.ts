/** Calls of a VM's own REST API, by the supervisor. */
import { request as httpRequest } from 'node:http';
import { readAnswer } from '../api/rest/jsonReader.ts';
import { writeJson } from '../api/rest/jsonWriter.ts';
import { VmFile } from '../api/vmhost/folderFiles.ts';
import { VmmError } from '../vmm/errors.ts';

const MAX_ANSWER = 4 << 20;

export interface VmApiCall {
  readonly method: 'GET' | 'PUT';
  /** Such as `vm.pause`. */
  readonly endpoint: string;
  readonly body?: unknown;
  readonly timeoutMs: number;
}

/** @param folder the VM's @returns the answer's JSON, if there is any @throws VmmError */
export function callVmApi(
  folder: string,
  { method, endpoint, body, timeoutMs }: VmApiCall,
): Promise<unknown> {
  const payload = body === undefined ? undefined : writeJson(body);
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => reject(new VmmError(`${endpoint} failed`, { cause }));
    const headers = payload === undefined ? {} : { 'Content-Length': Buffer.byteLength(payload) };
    const options = {
      socketPath: `${folder}/${VmFile.apiSocket}`,
      method,
      path: `/api/v1/${endpoint}`,
      headers,
      agent: false,
    };
    const sent = httpRequest(options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_ANSWER) sent.destroy(new Error('an answer without end'));
      });
      answer.on('error', fail).on('end', () => {
        try {
          const json: unknown = text === '' ? undefined : readAnswer(text);
          if ((answer.statusCode ?? 500) < 400) resolve(json);
          else fail(new Error(Array.isArray(json) ? json.join(': ') : text));
        } catch (error) {
          fail(error as Error);
        }
      });
    });
    sent.setTimeout(timeoutMs, () => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    sent.on('error', fail).end(payload);
  });
}
