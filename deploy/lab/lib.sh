# shellcheck shell=bash
# What the lab's servers share. Sourced, not run; the script that sources it sets
#
#   name      of the server; its state lies in $ESTUARY_LAB/$name
#   files     (array) what its state is made from, besides the script: changed, it is made anew
#
# and has the functions install, create (its state in $data), start (writes $pid_file and,
# by settings, $env_file; an error when it does not come up, to be tried with other ports)
# and may have refresh and clean (see below).
#
# A server listens on 127.0.0.1. In a container it may listen where others reach it as well:
# $ESTUARY_LAB_LISTEN (0.0.0.0, so that 127.0.0.1 is part of it), and $ESTUARY_LAB_NAME is a
# further name in its certificate.

lab=${ESTUARY_LAB:-/tmp/estuary-lab-$(id -u)}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${name:?}
home=$lab/$name
data=$home/data
# shellcheck disable=SC2034 # for the scripts that source this
log=$home/server.log
env_file=$home/env
pid_file=$home/pid
# shellcheck disable=SC2034 # for the scripts that source this
listen=${ESTUARY_LAB_LISTEN:-127.0.0.1}

say() { printf '%s: %s\n' "$name" "$*" >&2; }
die() {
	say "$@"
	exit 1
}

# have COMMAND...: all of them are there.
have() {
	local c
	PATH=$PATH:/usr/sbin:/sbin
	for c in "$@"; do command -v "$c" >/dev/null || return 1; done
}

# prepare makes the folders, refusing those that somebody else has put there.
prepare() {
	local dir
	for dir in "$lab" "$home"; do
		(umask 022 && mkdir -p "$dir")
		if [ -L "$dir" ] || [ ! -O "$dir" ]; then
			die "$dir does not belong to $(id -un): remove it, or set ESTUARY_LAB to a folder of your own"
		fi
	done
}

# lock keeps others out until this script ends. What it starts must close 9.
lock() {
	exec 9>"$home/lock"
	flock 9
}

# running: the process of the pid file is there and was started from this folder. Another
# program may have its number by now.
running() {
	local pid
	pid=$(cat "$pid_file" 2>/dev/null) && [ -n "$pid" ] || return 1
	tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$home/"
}

# stop ends the process of the pid file and no other.
stop() {
	local pid i
	if running; then
		pid=$(cat "$pid_file")
		kill "$pid" 2>/dev/null || true
		for ((i = 0; i < 200; i++)); do
			running || break
			sleep 0.1
		done
		if running; then kill -KILL "$pid" 2>/dev/null || true; fi
	fi
	rm -f "$pid_file" "$env_file"
}

# own USER FILE...: gives files to the user that the server runs as when root starts it.
own() {
	[ "$(id -u)" -ne 0 ] || chown -R "$1": "${@:2}"
}

free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# port NAME: prints the port of last time when it is free, else any. Another program may
# take it before the server does: start is tried again then, with other ports.
port() {
	local p
	p=$(cat "$home/port.$1" 2>/dev/null) || p=
	until [ -n "$p" ] && free "$p"; do p=$((20000 + RANDOM % 12000)); done
	printf '%s\n' "$p" | tee "$home/port.$1"
}

# within SECONDS COMMAND...: tries until it succeeds; an error when the server is gone.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] && running || return 1
		sleep 0.1
	done
}

# launch COMMAND...: starts a server in the background, its output in $log, its number in
# the pid file.
launch() {
	local i
	setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
	printf '%s\n' "$!" >"$pid_file"
	# Until then it is still this script, which running takes for another program.
	for ((i = 0; i < 100; i++)); do
		if running || ! kill -0 "$!" 2>/dev/null; then return; fi
		sleep 0.02
	done
}

# random BYTES: prints them in hexadecimal.
random() { od -An -v "-N$1" -tx1 /dev/urandom | tr -d ' \n'; }

# secret FILE [BYTES]: prints what is in the file, made at first.
secret() {
	[ -s "$1" ] || (umask 077 && random "${2:-16}" >"$1")
	cat "$1"
}

# authority DIR: a test CA in DIR/ca.crt, its key in DIR/ca.key.
authority() {
	(umask 022 && mkdir -p "$1")
	(umask 077 && openssl genrsa -out "$1/ca.key" 2048)
	openssl req -x509 -new -key "$1/ca.key" -sha256 -days 3650 -subj "/O=Estuary lab/CN=$name CA" \
		-addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign' -out "$1/ca.crt"
}

# certificate DIR NAME SUBJECT: DIR/NAME.crt and DIR/NAME.key, signed by DIR's CA, with the
# extensions (openssl's x509v3_config) that standard input has.
certificate() {
	cat >"$1/$2.ext"
	(umask 077 && openssl genrsa -out "$1/$2.key" 2048)
	openssl req -new -key "$1/$2.key" -sha256 -utf8 -subj "$3" -out "$1/$2.csr"
	openssl x509 -req -sha256 -days 3650 -in "$1/$2.csr" -CA "$1/ca.crt" -CAkey "$1/ca.key" \
		-set_serial "0x$(random 8)" -extfile "$1/$2.ext" -out "$1/$2.crt"
	rm -f "$1/$2.csr" "$1/$2.ext"
}

# server_certificate DIR: DIR/server.crt and .key for localhost.
server_certificate() {
	certificate "$1" server /CN=localhost <<-END
		basicConstraints = critical,CA:FALSE
		keyUsage = critical,digitalSignature,keyEncipherment
		extendedKeyUsage = serverAuth
		subjectAltName = DNS:localhost,IP:127.0.0.1${ESTUARY_LAB_NAME:+,DNS:$ESTUARY_LAB_NAME}
	END
}

# client_certificate DIR SUBJECT: DIR/client.crt and .key.
client_certificate() {
	certificate "$1" client "$2" <<-'END'
		basicConstraints = critical,CA:FALSE
		keyUsage = critical,digitalSignature,keyEncipherment
		extendedKeyUsage = clientAuth
	END
}

# settings [KEY VALUE]...: writes the env file: KEY=VALUE lines that a shell may source,
# values in single quotes where it would not take them as they are.
settings() {
	(
		umask 077
		while [ $# -gt 0 ]; do
			case $2 in
			*\'*) die "a setting must not hold a quote: $1" ;;
			*[!A-Za-z0-9._:/=,@%+-]* | '') printf "%s='%s'\n" "$1" "$2" ;;
			*) printf '%s=%s\n' "$1" "$2" ;;
			esac
			shift 2
		done >"$env_file.new"
	)
	mv "$env_file.new" "$env_file"
}

# setting SERVER KEY: prints what another server's env file says, while that server is up.
setting() {
	[ -s "$lab/$1/env" ] || return 1
	(
		# shellcheck disable=SC1090 # written by settings
		. "$lab/$1/env"
		printf '%s\n' "${!2}"
	)
}

# fill FILE [KEY VALUE]...: prints a template with every @KEY@ replaced.
fill() {
	local text
	text=$(cat "$1")
	shift
	while [ $# -gt 0 ]; do
		text=${text//"@$1@"/"$2"}
		shift 2
	done
	printf '%s\n' "$text"
}

# refresh: what every `up` looks after, the server running; most have nothing.
refresh() { :; }

# clean: what comes before the state is thrown away; most have nothing.
clean() { :; }

up() {
	local made tries=5
	install
	prepare
	lock
	# shellcheck disable=SC2154 # set by the script
	made=$(cat "$0" "$here/lib.sh" "${files[@]}" | sha256sum)
	if [ "$(cat "$home/made" 2>/dev/null)" != "$made" ]; then
		stop
		clean
		rm -rf "$data" "$home/made"
		: >"$log"
		# Not `create || die`, within which bash does not end at the first error.
		create &
		wait "$!" || die "creating it did not succeed, see $log"
		printf '%s\n' "$made" >"$home/made"
	fi
	until running && [ -s "$env_file" ]; do
		stop
		[ $((tries--)) -gt 0 ] || die "the server does not start, see $log"
		start || rm -f "$home"/port.*
	done
	refresh
	printf '%s\n' "$env_file"
}

# main is what the command line asks for.
main() {
	case ${1:-} in
	up) up ;;
	env)
		if ! running || [ ! -s "$env_file" ]; then die "the server does not run: start it with: $0 up"; fi
		printf '%s\n' "$env_file"
		;;
	down)
		[ -d "$home" ] || exit 0
		lock
		stop
		;;
	*)
		say "usage: $0 up | env | down"
		exit 2
		;;
	esac
}
