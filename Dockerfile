# A static binary and the certificate authorities, and nothing else; run as nobody.
# The same sources give the same bytes. For both architectures, with an SPDX SBOM:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true \
#     --build-arg VERSION=$(git describe --tags --always) -t registry.example/slipway:1 --push .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -tags nethttpomithttp2 -ldflags "-s -w -X main.version=$VERSION" -o /slipway ./cmd/slipway

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title=slipway org.opencontainers.image.version=$VERSION
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /slipway /slipway
USER 65532:65532
ENTRYPOINT ["/slipway"]
CMD ["serve"]
