"""ColBERT and other late-interaction rerankers on torch: the backend ``colbert``."""
