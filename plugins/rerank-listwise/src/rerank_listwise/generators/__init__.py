"""The generator of this distribution: any chat endpoint."""
