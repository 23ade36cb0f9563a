# Try-on as a service, on a CPU:
#   docker build -t styletryon . && docker run --rm -p 127.0.0.1:8000:8000 styletryon
FROM python:3.12-slim AS build
WORKDIR /source
RUN python -m venv /opt/styletryon
ENV PATH=/opt/styletryon/bin:$PATH
# First, so that a change of the library does not bring PyTorch anew. This index has it without 5.7 GB of CUDA.
RUN pip install --no-cache-dir torch==2.14.1 torchvision==0.29.1 --index-url=https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir "styletryon[serve] @ file:///source"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home styletryon
COPY --from=build /opt/styletryon /opt/styletryon
# Fewer arenas of malloc: threads that take turns leave less memory unused.
ENV PATH=/opt/styletryon/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=2
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=9)"]
ENTRYPOINT ["styletryon", "serve", "--host", "0.0.0.0", "--port", "8000"]
