# The same app as `python app.py`, for a machine of one's own or a Docker Space:
#   docker build -t bivdiff-studio .
#   docker run --rm -p 127.0.0.1:7860:7860 -v bivdiff:/data bivdiff-studio
# With a card: add `--gpus all`. Without one, `--build-arg PIP_EXTRA_INDEX_URL=...` may name an index with torch's
# smaller builds for CPUs alone.
FROM python:3.12-slim

ARG PIP_EXTRA_INDEX_URL=""

# 1000 is the user that a Docker Space runs as.
RUN useradd --create-home --uid 1000 studio && install --directory --owner=studio /data

WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt --constraint constraints.txt

COPY app.py .
COPY bivdiff bivdiff
COPY tabs tabs
COPY assets assets

ENV PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HOME=/data/hub \
    BIVDIFF_MODELS_FOLDER=/data/models \
    BIVDIFF_CACHE_FOLDER=/data/cache \
    BIVDIFF_HISTORY_FOLDER=/data/history

USER studio
VOLUME /data
EXPOSE 7860
# As Ctrl-C: the first process of a container does not end at any other signal.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/', timeout=8)"]
CMD ["python", "app.py"]
