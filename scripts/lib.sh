# shellcheck shell=bash
# What several scripts need. Sourced, not run.

# The repository's folder; every script works from there.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

# Modules in the order in which they need each other.
# shellcheck disable=SC2034 # for the scripts that source this
modules="proto services signer validator gateway deploy/systest"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

die() {
	printf 'estuary: %s\n' "$*" >&2
	exit 1
}

# need TOOL PACKAGE: the tool is there, or a sentence says where it comes from.
need() {
	command -v "$1" >/dev/null || die "$1 is missing: install it with 'apt-get install $2' and try again"
}

# need_go: Go is there and new enough, or a sentence says where it comes from.
need_go() {
	local wanted version
	wanted=$(sed -n 's/^go //p' "$root/go.work")
	command -v go >/dev/null || die "go is missing: Go $wanted or later is needed (https://go.dev/dl)"
	version=$(cd / && go env GOVERSION)
	[ "$(printf '%s\n' "${version#go}" "$wanted" | sort -V | head -n 1)" = "${wanted}" ] ||
		[ "${version#go}.0" = "$wanted" ] ||
		die "Go $wanted or later is needed, this is $version (https://go.dev/dl)"
}

# install PACKAGE...: installs Debian packages that are missing; root on Debian only.
install_packages() {
	local missing=() p
	for p in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
	done
	[ ${#missing[@]} -eq 0 ] && return
	command -v apt-get >/dev/null || die "these Debian packages are needed: ${missing[*]}"
	[ "$(id -u)" = 0 ] || die "these packages are needed: run 'apt-get install ${missing[*]}' as root and try again"
	say "installing ${missing[*]}"
	# A package must not start a server of its own: tests start theirs on loopback.
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# tool VARIABLE: builds the tool of scripts/versions into .tools and prints its path.
tool() {
	local spec name
	spec=$(sed -n "s/^$1=//p" scripts/versions)
	[ -n "$spec" ] || die "scripts/versions names no $1"
	name=$(basename "${spec%@*}")
	if [ "$(cat ".tools/$name.version" 2>/dev/null)" != "$spec" ]; then
		mkdir -p .tools
		GOWORK=off GOFLAGS='' GOBIN="$root/.tools" go install "$spec" >&2
		echo "$spec" >".tools/$name.version"
	fi
	echo "$root/.tools/$name"
}

# start_lab starts servers for this script alone, exports what tests want to know of them,
# and has them stopped at its end.
start_lab() {
	ESTUARY_LAB=$(mktemp -d)
	export ESTUARY_LAB
	chmod 755 "$ESTUARY_LAB" # servers run as other users
	trap '"$root/scripts/lab" down; rm -rf "$ESTUARY_LAB"' EXIT
	scripts/lab up
	set -a
	# shellcheck disable=SC1091 # written by scripts/lab
	. "$ESTUARY_LAB/env"
	set +a
}
