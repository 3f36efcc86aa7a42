"""How well an anonymization protects and what it keeps: measured on originals and their anonymized pictures."""
