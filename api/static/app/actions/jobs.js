/** Component jobs: what became of them, their source, and placing what was built. */
import { batch } from "../../vendor/signals.js";
import { backoffMs } from "../client.js";
import * as state from "../state.js";
import { refreshDocument, showSide, showTab, takeProject } from "./document.js";
import { announce, fail, session } from "./session.js";

/** How long a component is shown where it is placed, in seconds. */
const SCENE_S = 5;
const LONGEST_ID = 60;
const TRIES = 6;

/** Loads the job; where the server can't be reached, again later. */
export async function loadJob(jobId, failures = 0) {
  const { visit, client } = session;
  try {
    const job = await client.job(jobId);
    if (!visit.isOver) put(job);
  } catch (error) {
    if (visit.isOver) return;
    if (!error.isTransient) fail(error);
    else if (failures < TRIES) visit.later(`job ${jobId}`, backoffMs(failures + 2), () => loadJob(jobId, failures + 1));
  }
}

/** Takes a `job` event of the project: how far the job is. What the event leaves out is loaded. */
export function takeJob({ jobId, messageId, name, status, phase, try: tries }) {
  const known = state.jobs.value.get(jobId);
  if (known) put({ ...known, name, status, phase, tries });
  if (!known || status !== known.status) loadJob(jobId);
  else if (messageId === known.messageId && phase && phase !== known.phase) announce(`${name}: ${phase}.`);
}

function put(job) {
  state.jobs.value = new Map(state.jobs.value).set(job.id, job);
}

/** The built component's TSX. Throws what the server refused. */
export function sourceOf(jobId) {
  return session.client.jobSource(jobId);
}

/** Whether the document is a video, and so has scenes. */
export function isVideo(document) {
  return Array.isArray(document?.scenes);
}

/** The ids of the components that the document's scenes show. */
export function placedComponents(document) {
  const scenes = isVideo(document) ? document.scenes : [];
  const ids = scenes.map((scene) => (scene?.type === "custom" ? scene.data?.componentId : null));
  return new Set(ids.filter((id) => typeof id === "string").map((id) => id.toLowerCase()));
}

/** The patch that shows the component after the last scene. */
export function placement(document, { id, name }) {
  const { scenes, meta } = document;
  const ends = scenes.map((scene) => (scene?.start ?? 0) + (scene?.duration ?? 0)).filter(Number.isFinite);
  const start = rounded(Math.max(0, ...ends));
  const scene = { id: freeId(scenes, name), type: "custom", start, duration: SCENE_S, data: { componentId: id } };
  const operations = [{ op: "add", path: "/scenes/-", value: scene }];
  const end = rounded(start + SCENE_S);
  if (meta !== null && typeof meta === "object" && !(meta.duration >= end)) {
    operations.push({ op: "add", path: "/meta/duration", value: end });
  }
  return operations;
}

function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}

function freeId(scenes, name) {
  const plain = name.replace(/[^A-Za-z0-9_.-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "") || "component";
  const base = plain.slice(0, LONGEST_ID).toLowerCase();
  const taken = new Set(scenes.map((scene) => scene?.id));
  for (let number = 1; ; number += 1) {
    const id = number === 1 ? base : `${base}-${number}`;
    if (!taken.has(id)) return id;
  }
}

/** Puts the component after the last scene and shows the preview. Where the document changed meanwhile, once more. */
export async function placeComponent(job) {
  const { visit, client } = session;
  try {
    for (let tries = 1; !placedComponents(state.documentValue.value).has(job.id); tries += 1) {
      const version = state.documentVersion.value;
      const operations = placement(state.documentValue.value, job);
      try {
        const project = await client.patchDocument(visit.projectId, operations, version);
        if (visit.isOver) return;
        batch(() => takeProject(project));
        announce(`${job.name} is in the video.`);
        break;
      } catch (error) {
        if (error.status !== 412 || tries > 1) throw error;
        await refreshDocument();
      }
      if (visit.isOver) return;
    }
    batch(() => {
      showSide("preview");
      showTab("document");
    });
  } catch (error) {
    if (!visit.isOver) fail(error);
  }
}

/** An address of a preview's frame, with a ticket. Throws what the server refused. */
export async function frameAddress(path) {
  const ticket = await session.client.ticket(path);
  return `${path}?${new URLSearchParams({ ticket })}`;
}
