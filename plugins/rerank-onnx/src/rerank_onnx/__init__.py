"""Rerankers as ONNX graphs, run by onnxruntime: no torch, no transformers.

`backend` describes, `checkpoint` finds the files, `tokens` and `graph` wrap the tokenizer and the session, `graph_file` reads
a graph's last one, and `cross_encoder` and `late_interaction` score.
"""
