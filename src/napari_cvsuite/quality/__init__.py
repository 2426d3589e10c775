"""Image quality: scores, maps of local quality, and what spoils images."""
