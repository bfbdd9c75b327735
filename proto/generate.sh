#!/bin/sh
# Regenerates the Go beside the .proto files, or with -check says whether it is up to date. It needs Go and what the Go
# module proxy (or the module cache) holds, nothing else. The versions stand here and nowhere else; each tool is built on
# its own, because together their requirements do not resolve.
#
#   proto/generate.sh          lint, then write the generated files
#   proto/generate.sh -check   lint, then fail with a diff if the generated files are not what would be written
set -eu

buf=github.com/bufbuild/buf/cmd/buf@v1.75.0
gen_go=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
gen_grpc=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

GOBIN=$tmp/bin
BUF_CACHE_DIR=$tmp/cache
GOWORK=off
export GOBIN BUF_CACHE_DIR GOWORK
unset GOOS GOARCH
go install "$gen_go"
go install "$gen_grpc"
PATH=$GOBIN:$PATH
export PATH

go run "$buf" format --diff --exit-code
go run "$buf" lint
case "${1-}" in
"")
	go run "$buf" generate
	;;
-check)
	go run "$buf" generate --output "$tmp/out"
	for f in $(cd "$tmp/out" && find . -name '*.pb.go') $(find . -name '*.pb.go'); do
		diff -u "$f" "$tmp/out/$f" || {
			echo "proto: the generated code is not up to date: run proto/generate.sh and commit what it writes" >&2
			exit 1
		}
	done
	;;
*)
	echo "usage: proto/generate.sh [-check]" >&2
	exit 2
	;;
esac
