"""ONNX files, and the runtime that runs them: read within bounds, looked into, opened, run within a time limit."""
