#!/bin/sh
# Builds dist/trough_VERSION_ARCH.deb: Trough with its pinned packages in /opt/trough, the units,
# the user, the settings, manual pages and completion. `make deb` runs it, after `make man`, on the
# Debian release that the package is for.
set -eu
cd "$(dirname "$0")/.."
umask 022
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
# Debian's own: another one on PATH is not there where the package is installed.
system=/usr/bin/python3
"$system" -c 'import ensurepip' || { echo "make deb: apt install python3-venv" >&2; exit 1; }
"$system" -m venv "$stage/opt/trough"
pip="$stage/opt/trough/bin/pip install --quiet --no-cache-dir"
$pip --require-hashes --requirement requirements/run.txt
# From a copy, for a build leaves files in its tree.
cp -r . "$stage/source"
rm -rf "$stage/source/build" "$stage/source/.venv" "$stage/source/dist" "$stage/source/var"
$pip --no-deps --no-build-isolation "$stage/source"
rm -rf "$stage/source"
version=$("$stage/opt/trough/bin/python" -c 'import trough; print(trough.__version__)')
bash="$stage/usr/share/bash-completion/completions"
zsh="$stage/usr/share/zsh/vendor-completions"
mkdir -p "$bash" "$zsh" "$stage/usr/share/man/man1"
for tool in trough-shell trough-load trough-admin; do
    "$stage/opt/trough/bin/$tool" --print-completion bash > "$bash/$tool"
    "$stage/opt/trough/bin/$tool" --print-completion zsh > "$zsh/_$tool"
done
for page in build/man/*.1; do
    gzip -9n < "$page" > "$stage/usr/share/man/man1/$(basename "$page").gz"
done
# Scripts name the interpreter by its path, and so do the files that activate the environment.
grep -rlI "$stage" "$stage/opt/trough" | xargs sed -i "s|$stage/opt|/opt|g"
find "$stage/opt/trough" -name __pycache__ -prune -exec rm -rf {} +
mkdir -p "$stage/usr/bin" "$stage/etc/trough" "$stage/lib/systemd/system" "$stage/DEBIAN"
for tool in trough trough-shell trough-load trough-admin; do
    ln -s "/opt/trough/bin/$tool" "$stage/usr/bin/$tool"
done
cp etc/trough.yml "$stage/etc/trough/settings.yml"
cp etc/trough-sync.service etc/trough-worker.service "$stage/lib/systemd/system/"
cp packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$stage/DEBIAN/"
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm" "$stage/DEBIAN/postrm"
echo /etc/trough/settings.yml > "$stage/DEBIAN/conffiles"
python=$("$system" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
cat > "$stage/DEBIAN/control" <<EOF
Package: trough
Version: $(echo "$version" | sed 's/\.dev/~dev/')
Architecture: $(dpkg --print-architecture)
Maintainer: The Trough developers
Section: database
Priority: optional
Depends: python3 (>= $python), python3 (<< $(echo "$python" | awk -F. '{print $1 "." $2 + 1}')), adduser
Description: Millions of small SQLite databases, served as one database
 A sync server, a worker, a shell, a loader and a tool for operators. The units trough-sync and
 trough-worker are installed and not enabled: write /etc/trough/settings.yml first.
EOF
mkdir -p dist
dpkg-deb --root-owner-group -Zgzip --build "$stage" dist
