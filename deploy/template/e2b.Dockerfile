# The image of a sandbox: for an E2B template, and as it is for a Daytona snapshot.
# Built from the top of the project, see README.md:
#   docker build -f deploy/template/e2b.Dockerfile -t agents-sandbox .
#
# One stage, Debian: E2B takes nothing else. Versions are pinned here and nowhere else; what comes from
# outside Debian is checked against its publisher's checksums.
FROM python:3.12.12-bookworm

ARG NODE_VERSION=24.21.0
ARG CODE_SERVER_VERSION=4.139.1
ARG PLAYWRIGHT_VERSION=1.65.1
ARG PLAYWRIGHT_PYTHON_VERSION=1.65.1
ARG VERSION=unknown

ENV DEBIAN_FRONTEND=noninteractive \
    LANG=C.UTF-8 \
    PIP_NO_CACHE_DIR=1 \
    PLAYWRIGHT_BROWSERS_PATH=/opt/playwright

# tools, and the libraries the tool server links
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      bash build-essential ca-certificates curl git jq less make procps ripgrep sudo unzip util-linux xz-utils zip \
      libcivetweb-dev libcjson-dev libsodium-dev \
 && rm -rf /var/lib/apt/lists/*

RUN arch=$(dpkg --print-architecture | sed 's/amd64/x64/') \
 && cd /tmp \
 && curl -fsSLO "https://nodejs.org/dist/v${NODE_VERSION}/node-v${NODE_VERSION}-linux-${arch}.tar.xz" \
 && curl -fsSL "https://nodejs.org/dist/v${NODE_VERSION}/SHASUMS256.txt" | grep " node-v${NODE_VERSION}-linux-${arch}.tar.xz$" | sha256sum -c - \
 && tar -xJf "node-v${NODE_VERSION}-linux-${arch}.tar.xz" -C /usr/local --strip-components=1 --no-same-owner \
 && rm -f "node-v${NODE_VERSION}-linux-${arch}.tar.xz"

RUN arch=$(dpkg --print-architecture) \
 && cd /tmp \
 && curl -fsSLO "https://github.com/coder/code-server/releases/download/v${CODE_SERVER_VERSION}/code-server_${CODE_SERVER_VERSION}_${arch}.deb" \
 && dpkg -i "code-server_${CODE_SERVER_VERSION}_${arch}.deb" \
 && rm -f "code-server_${CODE_SERVER_VERSION}_${arch}.deb"

# Playwright for Python and for Node.js, with one browser that both find
RUN pip install "playwright==${PLAYWRIGHT_PYTHON_VERSION}" \
 && npm install -g "playwright@${PLAYWRIGHT_VERSION}" \
 && npx playwright install --with-deps chromium \
 && chmod -R a+rX /opt/playwright \
 && npm cache clean --force \
 && rm -rf /var/lib/apt/lists/*

# the tool server, from this source
COPY Makefile /tmp/src/Makefile
COPY common /tmp/src/common
COPY deploy/template /tmp/src/deploy/template
RUN make -C /tmp/src VERSION="${VERSION}" BUILD=build build/sandbox-tool-server \
 && strip /tmp/src/build/sandbox-tool-server \
 && install -D -m 0755 /tmp/src/build/sandbox-tool-server /opt/sandbox/bin/sandbox-tool-server \
 && install -m 0755 /tmp/src/deploy/template/sandbox-services /opt/sandbox/bin/sandbox-services \
 && ln -s /opt/sandbox/bin/sandbox-services /opt/sandbox/bin/sandbox-tool-server /usr/local/bin/ \
 && rm -rf /tmp/src

RUN useradd --create-home --uid 1000 --shell /bin/bash user \
 && echo 'user ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/user \
 && chmod 0440 /etc/sudoers.d/user \
 && install -d -o user -g user /workspace

USER user
WORKDIR /workspace
CMD ["/opt/sandbox/bin/sandbox-services", "run"]
