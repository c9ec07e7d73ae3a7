/**
 * Resample one channel with a Kaiser-windowed sinc: the filters of serving/audio/resampling.py.
 *
 * The rates for which Python has a filter bank get the same one here, the others a filter with the bands of soxr's HQ,
 * which Python uses for them. A browser's own resampler (an OfflineAudioContext at 16 kHz) is far from both:
 * docs/results/web.md.
 */

interface Bands {
  pass: number; // end of the passband, as a share of half the lower rate
  stop: number; // begin of the stopband
  decibels: number; // its attenuation
}

const FILTER_BANK: Bands = { pass: 15 / 16, stop: 17 / 16, decibels: 100 };
const SOXR: Bands = { pass: 0.9136, stop: 1, decibels: 120 };
const STEEPEST = 6; // largest ratio of the rates for which Python has a filter bank
const MOST_PHASES = 640; // between two old samples; a rate that needs more is interpolated between this many

interface FilterBank {
  /** Old samples on each side of a new one that it depends on. */
  half: number;
  phases: number;
  exact: boolean;
  /** [phases + 1, 2 * half + 1]: weights of the old samples from -half to half, for each fraction of a sample. */
  rows: Float32Array;
}

const banks = new Map<string, FilterBank>();

function filterBank(rateHz: number, targetHz: number): FilterBank {
  const key = `${rateHz}-${targetHz}`;
  const known = banks.get(key);
  if (known) return known;
  const period = targetHz / gcd(rateHz, targetHz);
  const exact = period <= MOST_PHASES;
  const phases = exact ? period : MOST_PHASES;
  const ratio = rateHz / targetHz;
  const isBank = ratio > 1 && ratio <= STEEPEST && rateHz % targetHz !== 0 && exact;
  const { pass, stop, decibels } = isBank ? FILTER_BANK : SOXR;
  const lower = 0.5 * Math.min(1, 1 / ratio); // half the lower rate, in cycles an old sample
  const cutoff = (lower * (pass + stop)) / 2;
  const half = Math.ceil((decibels - 7.95) / (14.36 * (stop - pass) * lower) / 2); // Kaiser 1974
  const taps = 2 * half + 1;
  const rows = new Float32Array((phases + 1) * taps);
  const beta = 0.1102 * (decibels - 8.7);
  for (let phase = 0; phase <= phases; phase++) {
    const row = new Float64Array(taps);
    let sum = 0;
    for (let tap = 0; tap < taps; tap++) {
      const away = tap - half - phase / phases;
      const inside = 1 - (away / half) ** 2;
      const x = Math.PI * 2 * cutoff * away;
      row[tap] = inside < 0 ? 0 : (x === 0 ? 1 : Math.sin(x) / x) * bessel0(beta * Math.sqrt(inside));
      sum += row[tap]!;
    }
    for (let tap = 0; tap < taps; tap++) rows[phase * taps + tap] = row[tap]! / sum; // a constant keeps its value
  }
  const bank = { half, phases, exact, rows };
  banks.set(key, bank);
  return bank;
}

/** Samples at the new rate, rounded as in Python; at least one. */
export function resampledLength(samples: number, rateHz: number, targetHz: number): number {
  return Math.max(1, Math.floor((samples * targetHz) / rateHz + 0.5));
}

/** Change the rate of one channel, without delay. It is taken as silent beyond its ends. Rates are whole numbers. */
export function resample(mono: Float32Array, rateHz: number, targetHz: number): Float32Array {
  if (rateHz === targetHz) return mono;
  const { half, phases, exact, rows } = filterBank(rateHz, targetHz);
  const taps = 2 * half + 1;
  const out = new Float32Array(resampledLength(mono.length, rateHz, targetHz));
  for (let i = 0; i < out.length; i++) {
    const whole = Math.floor((i * rateHz) / targetHz);
    const place = (((i * rateHz) % targetHz) / targetHz) * phases;
    const phase = exact ? Math.round(place) : Math.floor(place);
    const share = place - phase;
    const first = Math.max(0, half - whole);
    const last = Math.min(taps, mono.length - whole + half);
    const row = phase * taps;
    let sum = 0;
    if (exact) {
      for (let tap = first; tap < last; tap++) sum += rows[row + tap]! * mono[whole - half + tap]!;
    } else {
      for (let tap = first; tap < last; tap++) {
        const weight = rows[row + tap]! + share * (rows[row + taps + tap]! - rows[row + tap]!);
        sum += weight * mono[whole - half + tap]!;
      }
    }
    out[i] = sum;
  }
  return out;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** The modified Bessel function of the first kind and order 0, by its power series. */
function bessel0(x: number): number {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-17 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
