#!/bin/sh
# Fill /opt/resonance, an empty virtual environment of an image, with one lock and our own wheel: install.sh agent|operator.
# pip works on it from outside, so that it is never in it.  Afterwards, what a server does not read goes, and the rest is
# compiled once and for good.
set -eu
lock=requirements/$1.lock
target=/opt/resonance
install="/build/bin/pip --python $target/bin/python install -q --no-compile --no-deps --only-binary :all:"

$install --require-hashes -r "$lock"
$install /build/wheel/*.whl
find $target/lib -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete
find $target/lib -depth -type d \( -name test -o -name tests \) -exec rm -rf {} +
find $target/lib -type f -name '*.so' -exec strip --strip-unneeded {} +
rm -rf $target/include $target/bin/[Aa]ctivate* $target/lib64
$target/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash $target/lib
