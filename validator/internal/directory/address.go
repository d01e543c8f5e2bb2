package directory

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// transport is how octets are kept from others on their way.
type transport uint8

const (
	implicit transport = iota + 1 // LDAPS: TLS from the first octet
	startTLS                      // RFC 4511 section 4.14
	local                         // a unix socket
)

// address is a server as the configuration names it.
type address struct {
	url       string
	host      string // for TLS and the audit; "localhost" for a unix socket
	network   string // of net.Dial
	target    string
	transport transport
}

// parseAddress reads an element of [directory] servers. Only what the three forms need may
// stand in it: what is ignored might have been meant.
func parseAddress(text string) (address, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return address{}, errors.New("it does not begin with ldaps://, ldap:// or ldapi://")
	}
	switch scheme {
	case "ldaps":
		return overTCP(text, "636", implicit)
	case "ldap":
		return overTCP(text, "389", startTLS)
	case "ldapi":
		// Not a URL that net/url would take: the path stands, escaped, where the host does.
		socket, err := url.PathUnescape(strings.TrimSuffix(rest, "/"))
		if err != nil || !path.IsAbs(socket) || strings.ContainsRune(socket, 0) || strings.Contains(rest, "?") {
			return address{}, errors.New("it is not of the form ldapi://%2Fpath%2Fof%2Fsocket")
		}
		return address{url: text, host: "localhost", network: "unix", target: socket, transport: local}, nil
	}
	return address{}, fmt.Errorf("scheme %.20q is none of ldaps, ldap and ldapi", scheme)
}

func overTCP(text, port string, t transport) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return address{}, errors.New("it is not of the form ldaps://host:port")
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return address{}, errors.New("it has more than host and port")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return address{}, fmt.Errorf("port %.20q is not between 1 and 65535", port)
	}
	return address{
		url: text, host: u.Hostname(), network: "tcp", target: net.JoinHostPort(u.Hostname(), port), transport: t,
	}, nil
}
