"""Recordings as they come from the field: cut off, joined, never closed, tagged, and in containers of phones.

Each is made here with numpy, soundfile and PyAV; no other program is needed. The sound is quiet noise with a loud
stretch near the end, so that a part that was left out shows.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile

RATE_HZ = 44_100
SECONDS = 6.0
LOUD_S = (5.0, 5.5)  # near the end


def field_sound(rate_hz: int = RATE_HZ, seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    """[n_samples, n_channels] float32: noise of -60 dB with a tone of -6 dB between LOUD_S."""
    n_samples = round(seconds * rate_hz)
    wave = 0.001 * np.random.default_rng(0).standard_normal((n_samples, channels))
    first, last = (round(second * rate_hz) for second in LOUD_S)
    time = np.arange(n_samples)[first:last] / rate_hz
    wave[first:last] += 0.5 * np.sin(2 * np.pi * 1000 * time)[:, None]
    return wave.astype(np.float32)


def encoded(wave: np.ndarray, rate_hz: int = RATE_HZ, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    """Encode a wave with libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=file_format, subtype=subtype)
    return buffer.getvalue()


def mp3(wave: np.ndarray, rate_hz: int = RATE_HZ, vbr: bool = False) -> bytes:
    """Encode a wave as an MP3 with a Xing frame, as LAME does."""
    buffer = io.BytesIO()
    mode = {"bitrate_mode": "VARIABLE", "compression_level": 0.3} if vbr else {}
    soundfile.write(buffer, wave, rate_hz, format="MP3", **mode)
    return buffer.getvalue()


def without_xing(data: bytes) -> bytes:
    """Remove the first frame of an MPEG-1 MP3."""
    kbit = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    rate_hz = (44_100, 48_000, 32_000)[data[2] >> 2 & 3]
    return data[144_000 * kbit // rate_hz + (data[2] >> 1 & 1) :]


def id3(n_bytes: int) -> bytes:
    """An ID3v2.4 tag with a picture of n_bytes random bytes without a sync word, as the standard requires."""
    picture = np.random.default_rng(1).bytes(n_bytes).replace(b"\xff", b"\xfe")
    size = bytes(n_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + size + picture


def ape() -> bytes:
    """An APEv2 tag with a header and one item."""
    item = struct.pack("<II", 4, 0) + b"Title\0dawn"
    frame = [struct.pack("<IIII8x", 2000, len(item) + 32, 1, flags) for flags in (0xA000_0000, 0x8000_0000)]
    return b"APETAGEX" + frame[0] + item + b"APETAGEX" + frame[1]


def chunk(name: bytes, content: bytes, pad: bool = True) -> bytes:
    """A RIFF chunk."""
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2 * pad)


def riff(*chunks: bytes) -> bytes:
    """A WAV file with these chunks."""
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def float_format(channels: int) -> bytes:
    """The format chunk of a WAV with 32-bit floats."""
    return chunk(b"fmt ", struct.pack("<HHIIHH", 3, channels, RATE_HZ, RATE_HZ * 4 * channels, 4 * channels, 32))


def with_sizes(wav: bytes, riff_size: int, data_size: int) -> bytes:
    """Change the two sizes in a WAV whose `data` chunk starts at byte 36."""
    assert wav[36:40] == b"data"
    return wav[:4] + struct.pack("<I", riff_size) + wav[8:40] + struct.pack("<I", data_size) + wav[44:]


def contained(container: str, codec: str, rate_hz: int, wave: np.ndarray) -> bytes:
    """Encode a wave with FFmpeg, in a container."""
    import av

    layout = "mono" if wave.shape[1] == 1 else "stereo"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout, bit_rate=128_000)
        stream.codec_context.open(strict=False)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        fitter = av.AudioResampler(stream.format, layout, rate_hz, stream.codec_context.frame_size or 1024)
        for piece in (*fitter.resample(frame), *fitter.resample(None)):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    suffix   of its name
    make     its bytes
    seconds  that are read of it
    within   how far off that may be, in seconds: encoders add delay and padding
    told     words of the warning that says what is missing; "": it is read whole
    """

    suffix: str
    make: Callable[[], bytes]
    seconds: float = SECONDS
    within: float = 0.0
    told: str = ""


FRAME_S = 0.06  # two MP3 frames: delay and padding, which only LAME's frame records
PACKET_S = 0.05  # an AAC or Opus packet, or two


def _before(rest: bytes) -> bytes:
    """A WAV that counts what is behind its samples."""
    wav = encoded(field_sound()) + rest
    return with_sizes(wav, len(wav) - 8, len(wav) - 44 - len(rest))


def _joined_rates() -> bytes:
    return mp3(field_sound()) + mp3(field_sound(22_050), 22_050)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _floats(channels: int, peak: bytes) -> bytes:
    wave = field_sound(channels=channels)
    return riff(float_format(channels), peak, chunk(b"data", wave.tobytes()))


LIBSNDFILE_KINDS = {
    "MP3": Kind(".mp3", lambda: mp3(field_sound())),
    "MP3, VBR, no Xing frame": Kind(".mp3", lambda: without_xing(mp3(field_sound(), vbr=True)), within=FRAME_S),
    "MP3, CBR, no Xing frame": Kind(".mp3", lambda: without_xing(mp3(field_sound())), within=FRAME_S),
    "two MP3s joined": Kind(".mp3", lambda: 2 * mp3(field_sound()), 2 * SECONDS),
    "two MP3s joined, a tag between": Kind(".mp3", lambda: mp3(field_sound()) + id3(5000) + mp3(field_sound()), 12.0),
    "MP3 that changes its rate": Kind(".mp3", _joined_rates, 12.0, 1e-3),
    "MP3 that becomes stereo": Kind(".mp3", lambda: mp3(field_sound()) + mp3(field_sound(channels=2)), 12.0),
    "MP3 after zeros": Kind(".mp3", lambda: bytes(5000) + mp3(field_sound())),
    "MP3 after an APE tag": Kind(".mp3", lambda: ape() + mp3(field_sound())),
    "MP3 after junk": Kind(".mp3", lambda: b"junk" * 500 + mp3(field_sound())),
    "MP3 with cover art": Kind(".mp3", lambda: id3(3_000_000) + without_xing(mp3(field_sound())), within=FRAME_S),
    "half an MP3": Kind(".mp3", lambda: _half(mp3(field_sound())), 3.0, 0.3, "cut off"),
    "half an MP3, no Xing frame": Kind(".mp3", lambda: _half(without_xing(mp3(field_sound()))), 3.0, 0.3, "cut off"),
    "MP3 with a hole": Kind(
        ".mp3", lambda: (d := mp3(field_sound()))[:20_000] + b"hole" * 250 + d[21_000:], SECONDS, 0.15, "damaged"
    ),
    "WAV never closed": Kind(".wav", lambda: with_sizes(encoded(field_sound()), 36, 0)),
    "WAV with no size": Kind(".wav", lambda: with_sizes(encoded(field_sound()), 0, 0)),
    "WAV with the sizes of an earlier time": Kind(
        ".wav", lambda: with_sizes(encoded(field_sound()), 36 + 2 * RATE_HZ, 2 * RATE_HZ)
    ),
    "WAV before its old sizes were counted": Kind(".wav", lambda: with_sizes(encoded(field_sound()), 0, 2 * RATE_HZ)),
    "WAV before a long chunk": Kind(".wav", lambda: _before(chunk(b"LIST", bytes(9000)))),
    "WAV before a long chunk, not counted": Kind(".wav", lambda: encoded(field_sound()) + chunk(b"guan", b"x" * 9000)),
    "WAV before a chunk that is cut off": Kind(
        ".wav", lambda: encoded(field_sound()) + chunk(b"guan", b"x" * 9000)[:8000]
    ),
    "WAV before what is no chunk, but counted": Kind(".wav", lambda: _before(b"\1\2" * 5000)),
    "WAV before zeros": Kind(".wav", lambda: encoded(field_sound()) + bytes(9000)),
    "WAV after an ID3 tag": Kind(".wav", lambda: id3(5000) + encoded(field_sound())),
    "AIFF after an ID3 tag": Kind(".aiff", lambda: id3(5000) + encoded(field_sound(), file_format="AIFF")),
    "WAV before an ID3 tag": Kind(".wav", lambda: encoded(field_sound()) + id3(9000)),
    "WAV streamed": Kind(".wav", lambda: with_sizes(encoded(field_sound()), 2**32 - 1, 2**32 - 1)),
    "WAV streamed by sox": Kind(".wav", lambda: with_sizes(encoded(field_sound()), 0x7FFF_F024, 0x7FFF_F000)),
    "stereo WAV with a mono PEAK chunk": Kind(".wav", lambda: _floats(2, chunk(b"PEAK", bytes(16)))),
    "WAV with a wrong PEAK chunk": Kind(".wav", lambda: _floats(1, chunk(b"PEAK", bytes(24)))),
    "WAV with an odd chunk": Kind(".wav", lambda: _floats(1, chunk(b"LIST", b"INFOabc"))),
    "WAV with an odd chunk, not padded": Kind(".wav", lambda: _floats(1, chunk(b"LIST", b"INFOabc", pad=False))),
    "WAV, extensible": Kind(".wav", lambda: encoded(field_sound(channels=2), file_format="WAVEX")),
    "half a WAV": Kind(".wav", lambda: _half(encoded(field_sound())), 3.0, 1e-3, "cut off"),
    "half a FLAC": Kind(".flac", lambda: _half(encoded(field_sound(), file_format="FLAC")), 3.0, 1.0, "cut off"),
    "FLAC after an ID3 tag": Kind(".flac", lambda: id3(5000) + encoded(field_sound(), file_format="FLAC")),
    "half an OGG": Kind(".ogg", lambda: _half(encoded(field_sound(), file_format="OGG")), 3.0, 1.5, "cut off"),
    "two OGGs joined": Kind(".ogg", lambda: 2 * encoded(field_sound(), file_format="OGG"), 12.0),
    "OGGs of two rates joined": Kind(
        ".oga",
        lambda: encoded(field_sound(), file_format="OGG") + encoded(field_sound(22_050), 22_050, "OGG"),
        12.0,
        1e-3,
    ),
    "Opus": Kind(".opus", lambda: encoded(field_sound(48_000), 48_000, "OGG", "OPUS")),
    "half an Opus": Kind(
        ".opus", lambda: _half(encoded(field_sound(48_000), 48_000, "OGG", "OPUS")), 3.0, 1.5, "cut off"
    ),
    "AIFF": Kind(".aiff", lambda: encoded(field_sound(), file_format="AIFF")),
    "half an AIFF": Kind(".aif", lambda: _half(encoded(field_sound(), file_format="AIFF")), 3.0, 0.01, "cut off"),
    "W64": Kind(".w64", lambda: encoded(field_sound(), file_format="W64")),
    "half a W64": Kind(".w64", lambda: _half(encoded(field_sound(), file_format="W64")), 3.0, 0.01, "cut off"),
    "RF64": Kind(".wav", lambda: encoded(field_sound(), file_format="RF64")),
    "AU": Kind(".au", lambda: encoded(field_sound(), file_format="AU")),
    "half an AU": Kind(".au", lambda: _half(encoded(field_sound(), file_format="AU")), 3.0, 0.01, "cut off"),
    "CAF": Kind(".caf", lambda: encoded(field_sound(), file_format="CAF")),
    "half a CAF": Kind(".caf", lambda: _half(encoded(field_sound(), file_format="CAF")), 3.0, 0.1, "cut off"),
}
CONTAINER_KINDS = {
    "M4A": Kind(".m4a", lambda: contained("ipod", "aac", RATE_HZ, field_sound()), within=PACKET_S),
    "MP4": Kind(".mp4", lambda: contained("mp4", "aac", RATE_HZ, field_sound(channels=2)), within=PACKET_S),
    "AAC": Kind(".aac", lambda: contained("adts", "aac", RATE_HZ, field_sound()), within=PACKET_S),
    "AAC after an ID3 tag": Kind(
        ".aac", lambda: id3(5000) + contained("adts", "aac", RATE_HZ, field_sound()), within=PACKET_S
    ),
    "WebM": Kind(".webm", lambda: contained("webm", "libopus", 48_000, field_sound(48_000)), within=PACKET_S),
    "ALAC": Kind(".m4a", lambda: contained("mp4", "alac", RATE_HZ, field_sound())),
    "WMA": Kind(".wma", lambda: contained("asf", "wmav2", RATE_HZ, field_sound()), within=0.15),
    "MKA": Kind(".mka", lambda: contained("matroska", "flac", RATE_HZ, field_sound())),
    "3GP": Kind(".3gp", lambda: contained("3gp", "aac", RATE_HZ, field_sound()), within=PACKET_S),
    "MP2": Kind(".mp2", lambda: contained("mp2", "mp2", RATE_HZ, field_sound()), within=PACKET_S),
    "MP3 in WAV": Kind(".wav", lambda: contained("wav", "libmp3lame", RATE_HZ, field_sound()), within=FRAME_S),
    "half a WebM": Kind(
        ".webm", lambda: _half(contained("webm", "libopus", 48_000, field_sound(48_000))), 3.0, 3.0, "cut off"
    ),
}
