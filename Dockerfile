# docker build -t sawyer . && docker run -p 127.0.0.1:7860:7860 -v sawyer-home:/home/sawyer/state sawyer
# That publishes it to this machine alone. For others: `docker run … sawyer sawyer keys add --home /home/sawyer/state`
# makes an API key, `docker run -p 7860:7860 … sawyer sawyer demo --host 0.0.0.0` then asks for it.
FROM python:3.11-slim AS build
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY sawyer sawyer
COPY train train
COPY serve serve
COPY ui ui
COPY recipes recipes
# The index that serves torch's CPU build makes a much smaller image: --build-arg TORCH_INDEX=URL. Default: pip's own.
ARG TORCH_INDEX=""
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0 \
 && /venv/bin/pip install --no-cache-dir -c constraints.txt '.[serve,ui]'

FROM python:3.11-slim
RUN useradd --create-home --uid 1000 sawyer && mkdir /home/sawyer/state && chown sawyer /home/sawyer/state
COPY --from=build /venv /venv
USER sawyer
WORKDIR /home/sawyer
ENV SAWYER_HOME=/home/sawyer/state HF_HOME=/home/sawyer/state/huggingface
VOLUME /home/sawyer/state
EXPOSE 7860
HEALTHCHECK --interval=30s --start-period=60s CMD ["/venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=5)"]
ENV PATH=/venv/bin:$PATH
# Open inside the container; who reaches it is decided by what `docker run -p` publishes.
CMD ["sawyer", "demo", "--host", "0.0.0.0", "--port", "7860", "--open"]
