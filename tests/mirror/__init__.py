"""The demo where images are pulled, by a mirror on this machine."""
