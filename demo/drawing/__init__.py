"""What the page shows: HTML, and pictures of sounds."""
