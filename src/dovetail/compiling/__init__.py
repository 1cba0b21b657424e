"""Models compiled to ONNX, and the proof that they answer the same."""
