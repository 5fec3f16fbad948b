#!/usr/bin/env bash
# Builds kube-apiserver and kube-controller-manager from Debian's source package into a folder, and
# installs etcd. Debian 12 only: the source of later releases holds kubectl alone.
#
#   tests/kubernetes/build.sh FOLDER
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
version='1.20.5+really1.20.2'
packages='golang-1.19-go etcd-server rsync dpkg-dev'

if [ -x "$folder/kube-apiserver" ] && [ -x "$folder/kube-controller-manager" ] &&
	command -v etcd >/dev/null; then
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "Building Kubernetes needs root on Debian 12. Elsewhere, name the programs in" >&2
	echo "KUBE_APISERVER, KUBE_CONTROLLER_MANAGER and ETCD." >&2
	exit 1
fi
echo 'Installing what builds Kubernetes …'
apt-get -qq update
# shellcheck disable=SC2086  # several packages
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $packages >/dev/null

work=$(mktemp -d "$folder/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The machine's own sources, as sources of source packages; its own lists stay as they are.
mkdir -p "$work/parts" "$work/lists/partial"
for file in /etc/apt/sources.list.d/*.sources; do
	[ -e "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/$(basename "$file")"
done
if [ -e /etc/apt/sources.list ]; then
	sed 's/^deb /deb-src /' /etc/apt/sources.list >"$work/parts/machine.list"
fi
apt=(-qq -o "Dir::Etc::sourceparts=$work/parts" -o Dir::Etc::sourcelist=/dev/null
	-o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update
found=$(apt-cache "${apt[@]}" showsrc kubernetes 2>/dev/null | sed -n 's/^Version: //p' |
	grep -F "$version" | sort -V | tail -n 1 || true)
if [ -z "$found" ]; then
	echo "This machine's package sources have no source of Kubernetes $version (Debian 12)." >&2
	exit 1
fi
echo "Fetching the source of Kubernetes $found …"
(cd "$work" && apt-get "${apt[@]}" source "kubernetes=$found" >/dev/null)
cd "$work"/kubernetes-*/
echo 'Building kube-apiserver and kube-controller-manager (5 to 15 minutes) …'
export PATH="/usr/lib/go-1.19/bin:$PATH" GOFLAGS=-mod=vendor CGO_ENABLED=0
export KUBE_GIT_VERSION=v1.20.2 GOCACHE="$work/go-cache"
make WHAT='cmd/kube-apiserver cmd/kube-controller-manager' >"$folder/build.log" 2>&1 || {
	tail -n 20 "$folder/build.log" >&2
	exit 1
}
mv _output/bin/kube-apiserver _output/bin/kube-controller-manager "$folder"
