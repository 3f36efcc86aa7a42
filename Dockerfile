# Not built by us: we have no machine with Docker. It needs nothing but the package indexes of Debian and of Python.
#
#     docker build -t camouflage .
#     docker run --rm --gpus all -v "$PWD/photos:/in:ro" -v "$PWD/out:/out" camouflage anonymize /in --output /out/run
#
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /camouflage
COPY . .
ENV CAMOUFLAGE_CACHE=/cache PYTHONUNBUFFERED=1
# Builds both environments, and gets the ComfyUI, while the image is built.
RUN python -c "import pathlib, sys; sys.path.append('.'); from camouflage.commands import environments as e; \
    [e.prepare(None, group) for group in ('base', 'batch')]"
ENTRYPOINT ["python", "run.py"]
