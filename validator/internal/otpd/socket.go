package otpd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// socketMode lets root and our own user connect: whoever can may try passwords.
const socketMode = 0o600

// listen makes the socket at path, which is removed when the listener is closed. One that
// nobody listens on any more is replaced, any other file is not.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := makeWay(ctx, path); err != nil {
		return nil, err
	}
	// Before it has its name: Linux gives the file the mode of the socket, less the umask, so
	// that there is no moment at which others can connect.
	private := func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), socketMode) })
		return errors.Join(err, failed)
	}
	return (&net.ListenConfig{Control: private}).Listen(ctx, "unix", path)
}

// makeWay removes a socket that a server has left behind when it was killed.
func makeWay(ctx context.Context, path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and no socket: it stays", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case !errors.Is(err, syscall.EAGAIN): // which says that too many wait already
		return fmt.Errorf("finding out whether somebody listens: %w", err)
	}
	return fmt.Errorf("somebody listens on %s already: is ipa-otpd.socket still enabled?", path)
}
