/** A UNIX stream socket that is bound to a path and does not listen yet, as the addon makes them for the API. */
interface PipeBinding {
  Pipe: new (kind: number) => { bind(path: string): number; readonly fd: number };
}

/** Node.js owns what it makes: kept, so that a collection does not close a descriptor that was handed on. */
const pipes: object[] = [];

/** @returns the descriptor */
export function bindSocket(path: string): number {
  const { binding } = process as unknown as { binding: (name: 'pipe_wrap') => PipeBinding };
  const pipe = new (binding('pipe_wrap').Pipe)(1);
  const error = pipe.bind(path);
  if (error !== 0) throw Object.assign(new Error(`binding ${path}: ${error}`), { code: 'EADDRINUSE' });
  pipes.push(pipe);
  return pipe.fd;
}
