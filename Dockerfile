# Sketchstack in a container: `docker build -t sketchstack . && docker run -it -v sketchstack:/work sketchstack`.
# The default command runs the synthetic competition from raw drawings to ranked submissions. The volume keeps the run,
# so that a stopped container resumes. For a GPU: `docker build --build-arg CUDA=1 …` and `docker run --gpus all …`.
FROM python:3.12-slim-bookworm

# 0: torch for a CPU, about 200 MB. 1: the build of PyPI with CUDA, about 3 GB.
ARG CUDA=0

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 sketchstack && install --directory --owner sketchstack /work
USER sketchstack
WORKDIR /work

# The environment comes first: a change of the code does not install it again.
COPY --chown=sketchstack pyproject.toml constraints.txt environment.sh README.md ./
COPY --chown=sketchstack pipeline/__init__.py pipeline/
ENV PIP_NO_CACHE_DIR=1
RUN if [ "$CUDA" = 0 ]; then export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; fi \
    && ./environment.sh

COPY --chown=sketchstack . ./
RUN touch .venv/.installed

CMD ["make", "repro"]
