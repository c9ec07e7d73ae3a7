"""Recordings: decode a file, mix it down, resample it, and cut it into the windows that a network sees.

recording   one recording from its file to the network's input, with the time of each step
recording_stream  the same for a recording of any length, in blocks of windows
reading     read_audio, decode_audio: a file or its bytes -> samples
waveform    checks, mixing to mono;  resampling   another sample rate
window      the fixed windows of a network;  level   how loud a sound is
decoding    which decoder reads a file: libsndfile (with wav, mp3 and ogg, which find and repair the streams that it
            misreads) or ffmpeg
"""

from serving.audio.level import LOWEST_DBFS, SILENT_DBFS, is_silent, level_dbfs
from serving.audio.reading import decode_audio, file_seconds, header_seconds, read_audio, warn_in_python
from serving.audio.recording import PreparedRecording, Recording
from serving.audio.recording_stream import PreparedWindows, RecordingStream
from serving.audio.waveform import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, check_wave, to_mono
from serving.audio.window import Window, WindowFacts, cut_windows

__all__ = [
    "HIGHEST_RATE_HZ",
    "LOWEST_DBFS",
    "LOWEST_RATE_HZ",
    "SILENT_DBFS",
    "PreparedRecording",
    "PreparedWindows",
    "Recording",
    "RecordingStream",
    "Window",
    "WindowFacts",
    "check_wave",
    "cut_windows",
    "decode_audio",
    "file_seconds",
    "header_seconds",
    "is_silent",
    "level_dbfs",
    "read_audio",
    "to_mono",
    "warn_in_python",
]
