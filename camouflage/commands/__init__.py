"""What runs the pack for people and tests: the demo command, the checks, a real ComfyUI server, miniature weights."""
