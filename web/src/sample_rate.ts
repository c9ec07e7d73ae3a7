/**
 * The sample rate that a file's header states. A browser resamples what it decodes to the rate of an AudioContext, so
 * the page asks for one at the file's own rate. null: not known (M4A, WebM and others).
 */
export function sampleRate(content: ArrayBuffer): number | null {
  const bytes = new Uint8Array(content);
  const view = new DataView(content);
  const at = (text: string, place: number) =>
    [...text].every((character, i) => bytes[place + i] === character.charCodeAt(0));
  if (bytes.length < 44) return null;
  if ((at("RIFF", 0) || at("RF64", 0)) && at("WAVE", 8)) {
    for (let place = 12; place + 16 <= bytes.length; place += 8 + view.getUint32(place + 4, true) + (bytes[place + 4]! & 1)) {
      if (at("fmt ", place)) return view.getUint32(place + 12, true);
    }
    return null;
  }
  if (at("fLaC", 0)) return view.getUint32(18) >>> 12;
  if (at("OggS", 0)) {
    const packet = 27 + bytes[26]!;
    if (at("\x01vorbis", packet)) return view.getUint32(packet + 12, true);
    if (at("OpusHead", packet)) return 48_000;
    if (at("\x7fFLAC", packet)) return view.getUint32(packet + 27) >>> 12;
    return null;
  }
  return mp3Rate(bytes);
}

const MP3_RATES = [44_100, 48_000, 32_000];

/** Of the first MPEG frame after an ID3 tag. */
function mp3Rate(bytes: Uint8Array): number | null {
  let start = 0;
  if (bytes[0] === 0x49 && bytes[1] === 0x44 && bytes[2] === 0x33) {
    start = 10 + ((bytes[6]! << 21) | (bytes[7]! << 14) | (bytes[8]! << 7) | bytes[9]!);
  }
  for (let i = start; i + 3 < Math.min(bytes.length, start + 4096); i++) {
    const [version, layer] = [(bytes[i + 1]! >> 3) & 3, (bytes[i + 1]! >> 1) & 3];
    if (bytes[i] !== 0xff || (bytes[i + 1]! & 0xe0) !== 0xe0 || version === 1 || layer !== 1) continue;
    const rate = MP3_RATES[(bytes[i + 2]! >> 2) & 3];
    if (rate) return rate / { 3: 1, 2: 2, 0: 4 }[version as 0 | 2 | 3];
  }
  return null;
}
