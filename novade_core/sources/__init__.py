"""Where data comes from. ``base`` the protocol · ``registry`` name to class · one folder or file a source."""
