#!/usr/bin/env bash
# Makes what the last level of tests runs, in a folder, from Debian's packages:
#   kube-apiserver, kube-controller-manager   of Debian 12's source package (1.20), with its etcd
#   policies                                  Kubernetes' admission plugin for policies (1.36 or newer),
#                                             from the libraries in Debian unstable
#
#   tests/live_cluster/build.sh FOLDER
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)

main() {
	have_server && have_policies && exit 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo 'Building Kubernetes needs root on Debian 12. Elsewhere, name the programs in' >&2
		echo 'KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, ETCD and KUBE_POLICIES.' >&2
		exit 1
	fi
	work=$(mktemp -d "$folder/build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	have_server || build_server
	have_policies || build_policies
}

have_server() {
	[ -x "$folder/kube-apiserver" ] && [ -x "$folder/kube-controller-manager" ] &&
		command -v etcd >/dev/null
}

have_policies() {
	[ -x "$folder/policies" ] && ! [ "$here/policies/main.go" -nt "$folder/policies" ]
}

# Makes apt look at the machine's own mirror for another type of package (deb, deb-src) or another
# suite, in lists of its own; a status file of its own says that nothing is installed.
look_elsewhere() { # TYPE SUITE
	local file
	place="$work/$1-${2:-own}"
	mkdir -p "$place/parts" "$place/lists/partial" "$place/cache/archives/partial"
	touch "$place/status"
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -e "$file" ] || continue
		sed -e "s/^Types:.*/Types: $1/" ${2:+-e "s/^Suites:.*/Suites: $2/"} "$file" |
			awk -v suite="${2:-}" 'BEGIN { RS = ""; ORS = "\n\n" } suite == "" || !/security/' \
				>"$place/parts/$(basename "$file")"
	done
	apt=(-qq -o "Dir::Etc::sourceparts=$place/parts" -o Dir::Etc::sourcelist=/dev/null
		-o "Dir::State::lists=$place/lists" -o "Dir::State::status=$place/status"
		-o "Dir::Cache=$place/cache" -o APT::Sandbox::User=root)
	apt-get "${apt[@]}" update
}

build_server() {
	local version='1.20.5+really1.20.2' found
	echo 'Installing what builds Kubernetes …'
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
		golang-1.19-go etcd-server rsync dpkg-dev >/dev/null
	look_elsewhere deb-src ''
	found=$(apt-cache "${apt[@]}" showsrc kubernetes | sed -n 's/^Version: //p' |
		grep -F "$version" | sort -V | tail -n 1 || true)
	if [ -z "$found" ]; then
		echo "This machine's package sources have no source of Kubernetes $version." >&2
		exit 1
	fi
	echo "Fetching the source of Kubernetes $found …"
	(cd "$work" && apt-get "${apt[@]}" source "kubernetes=$found" >/dev/null)
	echo 'Building kube-apiserver and kube-controller-manager (5 to 15 minutes) …'
	(
		cd "$work"/kubernetes-*/
		export PATH="/usr/lib/go-1.19/bin:$PATH" GOFLAGS=-mod=vendor CGO_ENABLED=0
		export KUBE_GIT_VERSION=v1.20.2 GOCACHE="$work/go-cache"
		logged make WHAT='cmd/kube-apiserver cmd/kube-controller-manager'
		mv _output/bin/kube-apiserver _output/bin/kube-controller-manager "$folder"
	)
}

build_policies() {
	local root="$work/root" package go
	look_elsewhere deb sid
	echo "Fetching the libraries of Kubernetes' API server …"
	apt-get "${apt[@]}" install --yes --no-install-recommends --download-only \
		golang-k8s-apiserver-dev golang-any >/dev/null
	for package in "$place"/cache/archives/golang-*.deb; do
		dpkg-deb --extract "$package" "$root"
	done
	go=$(ls -d "$root"/usr/lib/go-* | sort -V | tail -n 1)
	mkdir -p "$work/own/src/bulkhead"
	cp -r "$here/policies" "$work/own/src/bulkhead"
	echo "Building the admission plugin of $(version_of golang-k8s-apiserver-dev) …"
	GOROOT="$go" GOPATH="$work/own:$root/usr/share/gocode" GO111MODULE=off GOTOOLCHAIN=local \
		GOFLAGS='' CGO_ENABLED=0 GOCACHE="$work/go-cache" \
		logged "$go/bin/go" build -o "$folder/policies" bulkhead/policies
	version_of golang-k8s-apiserver-dev >"$folder/policies.version"
}

version_of() { # PACKAGE
	basename "$place"/cache/archives/"$1"_*.deb | cut -d _ -f 2
}

logged() {
	"$@" >"$folder/build.log" 2>&1 || {
		tail -n 20 "$folder/build.log" >&2
		exit 1
	}
}

main
