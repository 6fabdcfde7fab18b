"""Immutable files. ``base`` the protocol and the manifest · ``paths`` the naming rule · one file an adapter."""
