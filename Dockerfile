# Serves a bundle over HTTP, without PyTorch.
#
#     docker build -t unheard .
#     docker run -p 8000:8000 -v "$PWD/bundles/first:/bundle:ro" unheard
#
# What follows the image's name replaces the last line here: /bundle --host 0.0.0.0 --backend onnxruntime ...
# With OpenVINO, gRPC and OpenTelemetry as well: docker build --build-arg EXTRAS=serve,openvino,grpc,otel -t unheard .

FROM python:3.11-slim AS packages
ARG EXTRAS=serve
WORKDIR /build
RUN python -m venv --without-pip /venv
COPY pyproject.toml requirements.lock ./
# What the extras ask for, in the versions of the lock, which is for the whole project and names much more. Some ask for
# unheard[serve]: for the extra `serve`, which is always taken, and not for a package of some index.
RUN python -c "import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [project['optional-dependencies'][name] for name in {'serve', *sys.argv[1].split(',')}]; \
wanted = [*project['dependencies'], *sum(extras, [])]; \
print(*[line for line in wanted if not line.startswith('unheard[')], sep='\n')" "$EXTRAS" > wanted.txt
RUN python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check --only-binary :all: \
    --constraint requirements.lock --requirement wanted.txt
# 284 MB that need CUDA and cuDNN, which are not in this image.
RUN rm /venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so \
    /venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_tensorrt.so

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home unheard
COPY --from=packages /venv /venv
WORKDIR /app
COPY serving serving
RUN /venv/bin/python -m compileall -q serving
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
VOLUME /bundle
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["python", "-m", "serving"]
CMD ["/bundle", "--host", "0.0.0.0", "--port", "8000"]
