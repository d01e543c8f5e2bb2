package run

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// State is what a process tells the service manager (sd_notify(3)).
type State string

// The states of a service.
const (
	// Ready: it serves, also again after a reload.
	Ready State = "READY=1"
	// Stopping: it is on its way out. Main says so by itself.
	Stopping State = "STOPPING=1"
	// Reloading: it reads its files again; Ready follows.
	Reloading State = "RELOADING=1"
)

// Notify tells systemd the state. Without a service manager, that is without NOTIFY_SOCKET
// in the environment, it does nothing.
func Notify(s State) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if name, abstract := strings.CutPrefix(path, "@"); abstract {
		path = "\x00" + name
	}
	message := string(s)
	if s == Reloading {
		// systemd tells by it which reload a Ready belongs to (Type=notify-reload).
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return fmt.Errorf("notifying the service manager: %w", err)
		}
		message += fmt.Sprintf("\nMONOTONIC_USEC=%d", now.Nano()/1000)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	defer func() { _ = conn.Close() }() // a datagram is sent or it is not
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	return nil
}
