/**
 * The sample rate that a file's header states. A browser resamples what it decodes to the rate of an AudioContext, so
 * the page asks for one at the file's own rate. null: not known (M4A, AAC, WebM and others).
 */
export function sampleRate(content: ArrayBuffer): number | null {
  const view = new DataView(content);
  const start = afterTags(view); // FLAC and MP3 files may begin with tags
  if (isAt(view, "fLaC", start)) return (number(view, start + 18) >>> 12) || null;
  const place = wavRatePlace(view);
  if (place !== null) return number(view, place, true) || null;
  if (isAt(view, "OggS", 0)) return oggRate(view) || null;
  return mp3Rate(view, start);
}

/** A copy of a WAV file whose header states another rate; null: it is no WAV file. */
export function withRate(content: ArrayBuffer, rateHz: number): ArrayBuffer | null {
  const place = wavRatePlace(new DataView(content));
  if (place === null) return null;
  const copy = content.slice(0);
  new DataView(copy).setUint32(place, rateHz, true);
  return copy;
}

function wavRatePlace(view: DataView): number | null {
  if (!(isAt(view, "RIFF", 0) || isAt(view, "RF64", 0)) || !isAt(view, "WAVE", 8)) return null;
  for (let place = 12; place + 16 <= view.byteLength; ) {
    if (isAt(view, "fmt ", place)) return place + 12;
    const size = number(view, place + 4, true);
    place += 8 + size + (size & 1);
  }
  return null;
}

function oggRate(view: DataView): number {
  if (view.byteLength < 27) return 0;
  const packet = 27 + view.getUint8(26);
  if (isAt(view, "\x01vorbis", packet)) return number(view, packet + 12, true);
  if (isAt(view, "OpusHead", packet)) return 48_000;
  if (isAt(view, "\x7fFLAC", packet)) return number(view, packet + 27) >>> 12;
  return 0;
}

/** Where the ID3 tags at a file's begin end, with the zeros that may follow them. 0: there are none. */
function afterTags(view: DataView): number {
  let place = 0;
  while (isAt(view, "ID3", place) && place + 10 <= view.byteLength) {
    const [a, b, c, d] = [6, 7, 8, 9].map((i) => view.getUint8(place + i) & 0x7f) as [number, number, number, number];
    const footer = view.getUint8(place + 5) & 0x10 ? 10 : 0;
    place += 10 + ((a << 21) | (b << 14) | (c << 7) | d) + footer;
    while (place < view.byteLength && view.getUint8(place) === 0) place++;
  }
  return place;
}

interface Frame {
  rateHz: number;
  bytes: number;
}

const MP3_RATES = [44_100, 48_000, 32_000];
const MPEG1_KBITS = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const MPEG2_KBITS = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

/** Of two frames, one after the other: the sync bits alone are in many a file that is no MP3. */
function mp3Rate(view: DataView, start: number): number | null {
  const first = mp3Frame(view, start);
  const second = first && mp3Frame(view, start + first.bytes);
  return second && second.rateHz === first.rateHz ? first.rateHz : null;
}

/** The header of an MPEG frame of layer 3; null: it is none. Raw AAC has the same sync bits, and layer bits of 0. */
function mp3Frame(view: DataView, place: number): Frame | null {
  const bits = number(view, place);
  const [version, layer] = [(bits >>> 19) & 3, (bits >>> 17) & 3];
  const kbits = (version === 3 ? MPEG1_KBITS : MPEG2_KBITS)[(bits >>> 12) & 15];
  const base = MP3_RATES[(bits >>> 10) & 3];
  if (bits >>> 21 !== 0x7ff || version === 1 || layer !== 1 || !kbits || !base) return null;
  const rateHz = base / { 3: 1, 2: 2, 0: 4 }[version as 0 | 2 | 3];
  return { rateHz, bytes: Math.floor(((version === 3 ? 144_000 : 72_000) * kbits) / rateHz) + ((bits >>> 9) & 1) };
}

function isAt(view: DataView, text: string, place: number): boolean {
  if (place + text.length > view.byteLength) return false;
  return [...text].every((character, i) => view.getUint8(place + i) === character.charCodeAt(0));
}

/** Four bytes as a number; 0 beyond the file's end. */
function number(view: DataView, place: number, littleEndian = false): number {
  return place + 4 <= view.byteLength ? view.getUint32(place, littleEndian) : 0;
}
