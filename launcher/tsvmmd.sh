#!/bin/sh
# bin/tsvmmd: the supervisor, by the tsvmm beside it.
exec "$(dirname "$(readlink -f "$0")")/tsvmm" supervisor "$@"
