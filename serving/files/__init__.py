"""Files and folders of any kind: written whole or not at all, held against other processes, hashed; CSV and NPZ."""
