# LannU-Net in a container. INDEX is the index of wheels that PyTorch's installation page names for a CPU or for a
# version of CUDA; without it, pip's own choice is taken, which on Linux brings CUDA:
#
#   docker build -t lannunet .
#   docker build -t lannunet --build-arg INDEX=https://… .
#   docker run --rm -v "$PWD:/data" --user "$(id -u)" lannunet train my.yaml      # GPU: --gpus all
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheels
WORKDIR /build
COPY . .
RUN set -e; for folder in . plugins/*/; do pip wheel --no-deps --wheel-dir dist "$folder"; done

FROM python:${PYTHON}-slim
ARG INDEX=
WORKDIR /build
RUN pip install --no-cache-dir torch ${INDEX:+--index-url $INDEX}
COPY --from=wheels /build/dist dist
RUN pip install --no-cache-dir --find-links dist "lannunet[observer,xlsx]"
RUN useradd --create-home lannunet
ENV MPLCONFIGDIR=/tmp
USER lannunet
WORKDIR /data
ENTRYPOINT ["lannunet"]
CMD ["--help"]
