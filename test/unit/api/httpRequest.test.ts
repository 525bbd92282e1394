import { describe, expect, it, vi } from 'vitest';
import { HttpParseError, HttpParser, MAX_BODY } from '../../../src/api/rest/httpRequest.ts';
import { MemoryBudget } from '../../../src/api/rest/memoryBudget.ts';

function newParser(onContinue = () => {}, budget = new MemoryBudget(MAX_BODY)): HttpParser {
  return new HttpParser(budget, onContinue);
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

function parseAll(text: string, chunk = text.length): [string, string, string][] {
  const parser = newParser();
  const requests: [string, string, string][] = [];
  const all = bytes(text);
  for (let at = 0; at < all.length; at += chunk) {
    parser.push(all.subarray(at, at + chunk));
    for (let request = parser.next(); request; request = parser.next()) {
      requests.push([request.method, request.path, Buffer.from(request.body).toString()]);
    }
  }
  return requests;
}

describe('requests', () => {
  it.each([
    ['GET /a HTTP/1.1\r\n\r\n', [['GET', '/a', '']]],
    ['PUT /a HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi', [['PUT', '/a', 'hi']]],
    ['PUT /a HTTP/1.1\r\ncontent-LENGTH:0\r\n\r\n', [['PUT', '/a', '']]],
    ['PATCH http://any-host/api?x HTTP/1.1\r\nHost: h\r\n\r\n', [['PATCH', '/api?x', '']]],
    ['DELETE http://any-host HTTP/1.1\r\n\r\n', [['DELETE', '/', '']]],
    ['GET /a HTTP/1.1\r\nAccept-Encoding: gzip;q=0, identity;q=0.5\r\n\r\n', [['GET', '/a', '']]],
    ['GET /a HTTP/1.1\r\nAccept-Encoding: *;q=0, identity\r\n\r\n', [['GET', '/a', '']]],
    ['GET /a HTTP/1.1\r\nX: \u00c3\u00a9:y\r\n\r\n', [['GET', '/a', '']]],
  ])('%j', (text, requests) => {
    expect(parseAll(text)).toEqual(requests);
    expect(parseAll(text, 1)).toEqual(requests);
  });

  it('may follow each other without a pause', () => {
    const text =
      'PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n';
    for (const chunk of [1, 2, 7, text.length]) {
      expect(parseAll(text, chunk)).toEqual([
        ['PUT', '/a', 'abc'],
        ['GET', '/b', ''],
        ['GET', '/c', ''],
      ]);
    }
  });

  it('do not keep a large chunk for the few bytes at its end', () => {
    const parser = newParser();
    const chunk = bytes(`${'GET /a HTTP/1.1\r\n\r\n'.repeat(1000)}GET`);
    parser.push(chunk);
    for (let i = 0; i < 1000; i++) expect(parser.next()?.path).toBe('/a');
    expect(parser.next()).toBeUndefined();
    chunk.fill(0);
    parser.push(bytes(' /b HTTP/1.1\r\n\r\n'));
    expect(parser.next()?.path).toBe('/b');
    expect(parser.idle).toBe(true);
  });

  it('take of the budget while their bodies are on the way, and give it back', () => {
    const budget = new MemoryBudget(10);
    const head = 'PUT /a HTTP/1.1\r\nContent-Length: 6\r\n\r\n';
    const [one, two] = [newParser(() => {}, budget), newParser(() => {}, budget)];
    one.push(bytes(`${head}12345`));
    expect(one.next()).toBeUndefined();
    two.push(bytes(head));
    expect(() => two.next()).toThrow('Too many requests are on their way.');
    one.push(bytes('6'));
    expect(one.next()?.body.length).toBe(6);
    expect(budget.take(10)).toBe(true);
    budget.give(10);
    const three = newParser(() => {}, budget);
    three.push(bytes(head));
    expect(three.next()).toBeUndefined();
    three.release();
    expect(budget.take(10)).toBe(true);
  });

  it('arrive in small pieces as fast as in large ones', () => {
    const parser = newParser();
    parser.push(bytes(`PUT /a HTTP/1.1\r\nContent-Length: ${MAX_BODY}\r\n\r\n`));
    expect(parser.next()).toBeUndefined();
    for (let left = MAX_BODY; left > 0; left -= 8) parser.push(new Uint8Array(8).fill(1));
    expect(parser.next()?.body.every((byte) => byte === 1)).toBe(true);
  });

  it('are asked for their bodies once, if they want to be', () => {
    const onContinue = vi.fn();
    const parser = newParser(onContinue);
    parser.push(bytes('PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n'));
    expect(parser.next()).toBeUndefined();
    expect(onContinue).not.toHaveBeenCalled();
    parser.push(bytes('\r\n'));
    expect(parser.next()).toBeUndefined();
    parser.push(bytes('h'));
    expect(parser.next()).toBeUndefined();
    expect(onContinue).toHaveBeenCalledTimes(1);
    parser.push(bytes('i'));
    expect(parser.next()?.body.length).toBe(2);
  });

  it('may have a body of exactly the limit', () => {
    const parser = newParser();
    parser.push(bytes(`PUT /a HTTP/1.1\r\nContent-Length: ${MAX_BODY}\r\n\r\n`));
    parser.push(new Uint8Array(MAX_BODY));
    expect(parser.next()?.body.length).toBe(MAX_BODY);
  });

  it('may have a line of exactly the limit', () => {
    const line = (length: number) =>
      `GET /${'a'.repeat(length - 'GET / HTTP/1.1\r\n'.length)} HTTP/1.1\r\n\r\n`;
    expect(parseAll(line(1024))).toHaveLength(1);
    expect(() => parseAll(line(1025))).toThrow('Line too long.');
    expect(() => parseAll('A'.repeat(1024))).toThrow('Line too long.');
  });
});

describe('what is no request', () => {
  it.each([
    ['POST /a HTTP/1.1\r\n', 'Invalid HTTP Method.'],
    ['get /a HTTP/1.1\r\n', 'Invalid HTTP Method.'],
    ['\r\nGET /a HTTP/1.1\r\n', 'Invalid HTTP Method.'],
    ['GET\r\n', 'Invalid URI.'],
    ['GET  HTTP/1.1\r\n', 'Invalid URI.'],
    ['GET /a b HTTP/1.1\r\n', 'Invalid URI.'],
    ['GET /a HTTP/2\r\n', 'Unsupported HTTP version.'],
    ['GET /a\r\n', 'Unsupported HTTP version.'],
    ['GET /a HTTP/1.1\n', 'Line does not end in CRLF.'],
    ['GET /a HTTP/1.1\r\nA: b\n', 'Line does not end in CRLF.'],
    ['GET /a HTTP/1.1\r\nA: b\rc\r\n', 'control character'],
    ['GET /a HTTP/1.1\r\nA: b\0c\r\n', 'control character'],
    ['GET /a HTTP/1.1\r\nA: \xff\r\n', 'not UTF-8'],
    ['GET /a HTTP/1.1\r\nA\r\n', 'Invalid header.'],
    ['GET /a HTTP/1.1\r\n: b\r\n', 'Invalid header.'],
    ['GET /a HTTP/1.1\r\nA : b\r\n', 'Invalid header.'],
    ['GET /a HTTP/1.1\r\n A: b\r\n', 'Invalid header.'],
    ['PUT /a HTTP/1.1\r\nContent-Length: +2\r\n', 'Invalid Content-Length.'],
    ['PUT /a HTTP/1.1\r\nContent-Length: 0x2\r\n', 'Invalid Content-Length.'],
    ['PUT /a HTTP/1.1\r\nContent-Length: 2, 2\r\n', 'Invalid Content-Length.'],
    ['PUT /a HTTP/1.1\r\nContent-Length:\r\n', 'Content-Length exceeds'],
    ['PUT /a HTTP/1.1\r\nContent-Length: 4194305\r\n', 'Content-Length exceeds'],
    ['PUT /a HTTP/1.1\r\nContent-Length: 4294967296\r\n', 'Content-Length exceeds'],
    ['PUT /a HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n', 'More than one Content-Length.'],
    ['PUT /a HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n', 'Transfer-Encoding'],
    ['PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n', 'Transfer-Encoding'],
    ['GET /a HTTP/1.1\r\nAccept-Encoding:\r\n', 'Invalid Accept-Encoding.'],
    ['GET /a HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n', 'Invalid Accept-Encoding.'],
    ['GET /a HTTP/1.1\r\nAccept-Encoding: gzip, *;q=0.0\r\n', 'Invalid Accept-Encoding.'],
    [`GET /a HTTP/1.1\r\n${'A: b\r\n'.repeat(129)}`, 'Too many headers.'],
  ])('%j', (text, message) => {
    expect(() => parseAll(text)).toThrow(HttpParseError);
    expect(() => parseAll(text)).toThrow(message);
    expect(() => parseAll(text, 1)).toThrow(message);
  });
});
