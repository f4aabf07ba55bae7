# bge-rerank serve, for CPUs; for GPUs: --build-arg TORCH_INDEX=https://pypi.org/simple
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --uid 1000 --create-home rerank && install -d -o rerank /models
WORKDIR /app
COPY constraints.txt .
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple -r torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY bge_rerank_integrations bge_rerank_integrations
RUN pip install --no-cache-dir -c constraints.txt '.[serve,convert]'

# by number: Kubernetes then sees that it is not root
USER 1000
ENV HF_HOME=/models PYTHONUNBUFFERED=1
VOLUME /models
EXPOSE 8080
HEALTHCHECK --start-period=10m --interval=10s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
# the process is the container's first: it gets SIGTERM itself
ENTRYPOINT ["bge-rerank", "serve", "--host", "0.0.0.0"]
CMD ["demo"]
