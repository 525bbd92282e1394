/** `vm.events`: what happens to the VM, for as long as the client listens. */
import type { Call, Endpoint } from './endpoint.ts';
import type { Answer } from './httpResponse.ts';
import { RequestError } from './requestError.ts';

/** Clients that listen at once: they keep their connections. */
const MAX_STREAMS = 64;
const QUERY = /^after=(\d{1,15})$/;

export const eventsEndpoint: Endpoint = { method: 'GET', body: 'ignored', query: true, handle: events };

/** After the event that the client saw last, by the query or the header Last-Event-ID; else only what comes. */
function events({ events: log, query, lastEventId }: Call): Answer {
  if (log === undefined) throw new RequestError('path');
  const asked = query === '' ? undefined : QUERY.exec(query)?.[1];
  if (query !== '' && asked === undefined) {
    throw new RequestError('query', { detail: 'The query is not after=ID' });
  }
  if (log.watchers >= MAX_STREAMS) throw new RequestError('busy');
  const seen = asked ?? lastEventId;
  const known = seen !== undefined && /^\d{1,15}$/.test(seen) ? Number(seen) : log.lastId;
  // An id of an earlier process may be of the future here.
  const after = known > log.lastId ? 0 : known;
  return { status: 200, body: '', events: { log, after } };
}
