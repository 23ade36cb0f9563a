"""What the tests share: small models, slow and obvious definitions, fresh interpreters."""
