/** The calls about a project's document, its versions and its members. `client` is a ChatRelay (client.js). */

/** What the server takes as the version that the caller saw; a change of the document since answers 412. */
function seen(version) {
  return { "If-Match": `"${version}"` };
}

export function patchDocument(client, projectId, operations, version) {
  const headers = { ...seen(version), "Content-Type": "application/json-patch+json" };
  return client.request("PATCH", `/v1/projects/${projectId}/document`, { body: operations, headers });
}

/** `way` is "undo" or "redo"; the project after it. */
export function walkBack(client, projectId, way, version) {
  return client.request("POST", `/v1/projects/${projectId}/${way}`, { headers: seen(version) });
}

/** Versions, newest first, from below `before`: `{items, nextCursor}`. */
export function versionsOf(client, projectId, before = null, limit = 30) {
  const cursor = before === null ? "" : `&before=${before}`;
  return client.request("GET", `/v1/projects/${projectId}/versions?limit=${limit}${cursor}`);
}

/** `{version, document}` */
export function documentAt(client, projectId, version) {
  return client.request("GET", `/v1/projects/${projectId}/versions/${version}`);
}

/** `{from, to, operations}` */
export function difference(client, projectId, from, to) {
  return client.request("GET", `/v1/projects/${projectId}/diff?from=${from}&to=${to}`);
}

/** All members: `{user, role}`, by name. */
export async function membersOf(client, projectId) {
  const all = [];
  let before = null;
  do {
    const cursor = before === null ? "" : `&before=${encodeURIComponent(before)}`;
    const { items, nextCursor } = await client.request("GET", `/v1/projects/${projectId}/members?limit=200${cursor}`);
    all.push(...items);
    before = nextCursor;
  } while (before !== null);
  return all;
}

export function putMember(client, projectId, user, role) {
  return client.request("PUT", memberPath(projectId, user), { body: { role } });
}

export function removeMember(client, projectId, user) {
  return client.request("DELETE", memberPath(projectId, user));
}

function memberPath(projectId, user) {
  return `/v1/projects/${projectId}/members/${encodeURIComponent(user)}`;
}
