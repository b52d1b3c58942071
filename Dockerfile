# LannU-Net in a container, for the CPU or, with the CUDA of PyTorch's wheels, for a GPU:
#
#   docker build -t lannunet .
#   docker build -t lannunet --build-arg TORCH=cu128 .
#   docker run --rm -v "$PWD:/data" --user "$(id -u)" lannunet train my.yaml      # GPU: --gpus all
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheels
WORKDIR /build
COPY . .
RUN set -e; for folder in . plugins/*/; do pip wheel --no-deps --wheel-dir dist "$folder"; done

FROM python:${PYTHON}-slim
ARG TORCH=cpu
WORKDIR /build
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/${TORCH}
COPY --from=wheels /build/dist dist
RUN pip install --no-cache-dir --find-links dist "lannunet[observer,xlsx]"
RUN useradd --create-home lannunet
ENV MPLCONFIGDIR=/tmp
USER lannunet
WORKDIR /data
ENTRYPOINT ["lannunet"]
CMD ["--help"]
