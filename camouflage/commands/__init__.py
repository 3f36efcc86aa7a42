"""The commands of run.py, the environments that they run in, and the real ComfyUI that they talk to."""
