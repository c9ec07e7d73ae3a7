"""File formats: where the sound is in a file, and how it is decoded. `serving.audio` is the way in."""
