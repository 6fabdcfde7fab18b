"""Tables. ``base`` the protocol and capabilities · ``schema`` types and schema changes · one file an engine."""
