#!/usr/bin/env bash
# Install Slackwater from its tree on a Debian machine and run it as a service, as root: provision.sh [TREE]
#
# Done again it brings the machine up to date. Where a `make bundle` of another machine is in the tree that is
# installed; where not, or where it does not fit, it is built here, for which there must be a network.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
cd "${1:-/vagrant}"

bundled() {
	command -v make >/dev/null && make --silent --question dist/.bundle 2>/dev/null && make --silent install
}

build() {
	echo 'no bundle of this tree that fits is in dist/: it is built here'
	# Without any mirror `update` succeeds, and no package is known.
	apt-get -qq -o APT::Update::Error-Mode=any -o Acquire::http::Timeout=10 -o Acquire::Retries=0 update &&
		apt-cache show clang >/dev/null || {
		echo 'there is no way to the Debian mirrors: run `make bundle` on the host, then provision again' >&2
		exit 1
	}
	apt-get -qq install --yes --no-install-recommends make
	make --silent install DIST=build/dist
}

bundled || build
systemctl --quiet enable slackwater
systemctl restart slackwater || {
	journalctl --unit slackwater --lines 20 --no-pager
	exit 1
}
systemctl --no-pager --lines 0 status slackwater
