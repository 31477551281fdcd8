# docker build -t sawyer:0.1.0 .                     for CPUs (add --build-arg TORCH_INDEX=URL, see below)
# docker build -t sawyer:0.1.0-cuda --target cuda .  for NVIDIA GPUs
# docker run -p 127.0.0.1:7860:7860 -v sawyer-state:/home/sawyer/state sawyer:0.1.0
# That publishes the demo to this machine alone. For others, with keys, PostgreSQL or vLLM: docs/deploy/README.md.
FROM python:3.11.14-slim-bookworm AS venv
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /venv

FROM venv AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY sawyer sawyer
COPY train train
COPY serve serve
COPY ui ui
COPY recipes recipes
RUN /venv/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist -c constraints.txt .

# torch has a layer of its own, below SAWYER's: it is the largest by far and changes least.
FROM venv AS build-cpu
# The index of torch's CPU builds (pytorch.org, "Get Started", names it). Without it torch comes from pip's own index,
# with gigabytes of CUDA libraries.
ARG TORCH_INDEX=""
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch==2.13.0
COPY --from=wheel /dist /dist
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt "sawyer[all] @ file://$(echo /dist/*.whl)"

FROM venv AS build-cuda
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt torch==2.13.0
COPY --from=wheel /dist /dist
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt "sawyer[all] @ file://$(echo /dist/*.whl)"

FROM python:3.11.14-slim-bookworm AS runtime
# The folders exist and belong to the user before they become volumes: a new volume takes their owner over.
RUN groupadd --gid 1000 sawyer \
 && useradd --create-home --uid 1000 --gid 1000 sawyer \
 && mkdir /home/sawyer/state /home/sawyer/models \
 && chown sawyer:sawyer /home/sawyer/state /home/sawyer/models
# A number, so that Kubernetes can see that it is not root.
USER 1000:1000
WORKDIR /home/sawyer
# state: votes, versions, runs, keys. models: what was downloaded from the hub; may be deleted, or shared by several.
ENV SAWYER_HOME=/home/sawyer/state \
    HF_HOME=/home/sawyer/models \
    PATH=/venv/bin:$PATH
VOLUME ["/home/sawyer/state", "/home/sawyer/models"]
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=90s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=5)"]
# Open inside the container; who reaches it is decided by what `docker run -p` publishes.
CMD ["sawyer", "demo", "--host", "0.0.0.0", "--port", "7860", "--open"]

FROM runtime AS cuda
# What NVIDIA's container toolkit reads.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /venv /venv

FROM runtime AS cpu
COPY --from=build-cpu /venv /venv
