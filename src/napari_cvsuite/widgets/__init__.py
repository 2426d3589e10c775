"""Dock widgets: forms in front of the jobs. The only code besides the app that knows Qt."""
