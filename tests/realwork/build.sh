#!/usr/bin/env bash
# Real work: configures, makes -j2 and runs a C project with a configure script and a few hundred files, which everybody has who built
# this repository. Usage: build.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need cc build-essential; need make make; need tar tar

from=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/tikv-jemalloc-sys-*/ | tail -n 1)
tar -C "$from" -czf "$tmp/source.tar.gz" jemalloc configure
mkdir "$dir/build"
tar -C "$dir/build" -xzf "$tmp/source.tar.gz"
tar -C "$dir/build" -dzf "$tmp/source.tar.gz"
cp "$dir/build/configure/configure" "$dir/build/jemalloc/configure"
cd "$dir/build/jemalloc"
# Release tarballs carry the version; a checkout would ask git. Without optimisation: it is the files that are tested, not the compiler.
CFLAGS=-O0 ./configure --disable-cxx --disable-doc --with-version=5.3.1-0-g0
make -j2 build_lib_static
cat >use.c <<'END'
#include <stdio.h>
#include <jemalloc/jemalloc.h>
int main(void) {
  void *p = malloc(100);
  free(p);
  const char *v;
  size_t n = sizeof v;
  mallctl("version", &v, &n, 0, 0);
  puts(v);
  return !p;
}
END
cc -Iinclude use.c lib/libjemalloc.a -lpthread -ldl -lm -o use
./use | grep -q '^5.3.1'
note "$(find . -type f | wc -l) files"
cd /
