package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// Listen listens on the TCP address, "host:port". The error is a sentence that names the
// address and key, the configuration key that it comes from, and says what to do.
func Listen(ctx context.Context, key, address string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: another process listens on %s already: stop it, or choose another address", key, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this user may not listen on %s: choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE", key, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s: this machine does not have the address of %s", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s: listening on %s: %w", key, address, err)
	}
	return ln, nil
}

// checkAddress returns what is wrong with address as "host:port", or "".
func checkAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	switch {
	case address == "":
		return "names no address"
	case err != nil || host == "" || port == "":
		return fmt.Sprintf("has to be of the form host:port, not %q", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Sprintf("%q is not the number of a port", port)
	}
	return ""
}

// isLoopback tells whether the host of address can be reached from this machine alone.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
