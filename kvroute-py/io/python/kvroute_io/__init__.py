"""The extension module of kvroute.io, which is what to import; it has all of kvroute's own in it."""
