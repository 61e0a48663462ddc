/** Numbers that change with the frame: `interpolate` and `spring`, as Remotion documents them. Pure. */

const EXTRAPOLATIONS = new Set(["extend", "clamp", "identity", "wrap"]);

function checkRange(range, name) {
  if (!Array.isArray(range) || range.length < 2) throw new Error(`${name} must have at least 2 elements`);
  if (!range.every((value) => typeof value === "number" && Number.isFinite(value))) {
    throw new Error(`${name} must contain only finite numbers, but got [${range.join(",")}]`);
  }
}

/**
 * `input` taken from `inputRange`, which rises strictly, to `outputRange`. Options: `easing`, and what becomes of inputs
 * beyond the range, `extrapolateLeft` and `extrapolateRight`: `extend` (as given), `clamp`, `identity` (the input), `wrap`.
 */
export function interpolate(input, inputRange, outputRange, options = {}) {
  if (typeof input !== "number") throw new TypeError("Cannot interpolate an input which is not a number");
  checkRange(inputRange, "inputRange");
  checkRange(outputRange, "outputRange");
  if (inputRange.length !== outputRange.length) {
    throw new Error(`inputRange (${inputRange.length}) and outputRange (${outputRange.length}) must have the same length`);
  }
  if (!inputRange.every((value, index) => index === 0 || value > inputRange[index - 1])) {
    throw new Error(`inputRange must be strictly monotonically increasing but got [${inputRange.join(",")}]`);
  }
  const { easing = (progress) => progress, extrapolateLeft = "extend", extrapolateRight = "extend" } = options ?? {};
  for (const how of [extrapolateLeft, extrapolateRight]) {
    if (!EXTRAPOLATIONS.has(how)) throw new Error(`There is no extrapolation ${JSON.stringify(how)}`);
  }
  const last = inputRange.length - 1;
  let segment = 1;
  while (segment < last && inputRange[segment] < input) segment += 1;
  const [inMin, inMax] = [inputRange[segment - 1], inputRange[segment]];
  const [outMin, outMax] = [outputRange[segment - 1], outputRange[segment]];
  const beyond = input < inMin ? extrapolateLeft : input > inMax ? extrapolateRight : "extend";
  if (beyond === "identity") return input;
  if (outMin === outMax) return outMin;
  let at = input;
  if (beyond === "clamp") at = Math.min(inMax, Math.max(inMin, input));
  if (beyond === "wrap") at = inMin + ((((input - inMin) % (inMax - inMin)) + (inMax - inMin)) % (inMax - inMin));
  return outMin + easing((at - inMin) / (inMax - inMin)) * (outMax - outMin);
}

const SPRING = { mass: 1, damping: 10, stiffness: 100, overshootClamping: false };
/** Frames that a spring has to stay near its end to count as at rest, and the most that are looked at. */
const REST_FRAMES = 20;
const MOST_FRAMES = 100_000;

/** Where a spring is that goes from 0 to 1 and was let go `seconds` ago: the solution of m·x″ + c·x′ + k·(x − 1) = 0. */
function springAt(seconds, { mass, damping, stiffness }) {
  const t = Math.max(0, seconds);
  const natural = Math.sqrt(stiffness / mass);
  const ratio = damping / (2 * Math.sqrt(stiffness * mass));
  if (ratio >= 1) return 1 - Math.exp(-natural * t) * (1 + natural * t); // as if critically damped, as Remotion has it
  const damped = natural * Math.sqrt(1 - ratio ** 2);
  const swing = Math.cos(damped * t) + ((ratio * natural) / damped) * Math.sin(damped * t);
  return 1 - Math.exp(-ratio * natural * t) * swing;
}

/** Frames until the spring stays within `threshold` of its end. */
function restAfter(fps, config, threshold) {
  let rest = 0;
  for (let frame = 0; frame - rest <= REST_FRAMES && frame < MOST_FRAMES; frame += 1) {
    if (Math.abs(springAt(frame / fps, config) - 1) >= threshold) rest = frame + 1;
  }
  return rest;
}

/**
 * A spring that goes from `from` to `to`. `durationInFrames` stretches it to that length; `delay` lets it begin later,
 * `reverse` runs it backwards; `config` is `{mass, damping, stiffness, overshootClamping}`.
 */
export function spring({
  frame,
  fps,
  config = {},
  from = 0,
  to = 1,
  durationInFrames,
  durationRestThreshold = 0.005,
  delay = 0,
  reverse = false,
}) {
  if (typeof frame !== "number" || !Number.isFinite(frame)) throw new TypeError(`"frame" of spring() must be a finite number, not ${frame}`);
  if (typeof fps !== "number" || !(fps > 0)) throw new TypeError(`"fps" of spring() must be a positive number, not ${fps}`);
  if (durationInFrames !== undefined && !(durationInFrames > 0)) {
    throw new TypeError(`"durationInFrames" of spring() must be a positive number, not ${durationInFrames}`);
  }
  const given = Object.fromEntries(Object.entries(config ?? {}).filter(([, value]) => value !== undefined));
  const physics = { ...SPRING, ...given };
  for (const name of ["mass", "damping", "stiffness"]) {
    if (!(physics[name] > 0)) throw new Error(`"${name}" of a spring must be greater than 0`);
  }
  const natural = reverse || durationInFrames !== undefined ? restAfter(fps, physics, durationRestThreshold) : null;
  const passed = reverse ? (durationInFrames ?? natural) - frame + delay : frame - delay;
  if (durationInFrames !== undefined && passed > durationInFrames) return to;
  const stretched = durationInFrames === undefined ? passed : passed * (natural / durationInFrames);
  const at = springAt(stretched / fps, physics);
  const clamped = physics.overshootClamping ? Math.min(1, at) : at;
  return from + clamped * (to - from);
}
