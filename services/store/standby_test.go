package store_test

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// A client that is frozen within a transaction stops the others no longer than they wait.
func TestFrozenClient(t *testing.T) {
	db := postgres(t)
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Fatal(err)
	}
	touch := func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE item SET n = n + 1 WHERE id = 1`)
		return err
	}
	locked, thaw, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { // ends with thaw
		ended <- db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if err := touch(ctx, tx); err != nil {
				return err
			}
			close(locked)
			<-thaw
			return touch(ctx, tx)
		})
	}()
	<-locked
	if err := db.Write(t.Context(), touch); err != nil {
		t.Errorf("another client: %v", err)
	}
	close(thaw)
	if err := <-ended; fault.KindOf(err) != fault.Unavailable {
		t.Errorf("the frozen client: %v, want Unavailable", err)
	}
}

// standby is a server that lets everybody in and says that it cannot be written.
func standby(t *testing.T) (address string, asked *atomic.Int64) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	asked = new(atomic.Int64)
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn, asked) // ends with the client
		}
	}()
	return l.Addr().String(), asked
}

func answer(conn net.Conn, asked *atomic.Int64) {
	defer func() { _ = conn.Close() }()
	server := pgproto3.NewBackend(conn, conn)
	if _, err := server.ReceiveStartupMessage(); err != nil {
		return
	}
	server.Send(&pgproto3.AuthenticationOk{})
	for {
		server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := server.Flush(); err != nil {
			return
		}
		message, err := server.Receive()
		if err != nil {
			return
		}
		if q, ok := message.(*pgproto3.Query); !ok || !strings.EqualFold(q.String, "show transaction_read_only") {
			return
		}
		asked.Add(1)
		server.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("transaction_read_only")}}})
		server.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("on")}})
		server.Send(&pgproto3.CommandComplete{CommandTag: []byte("SHOW")})
	}
}

// Of several servers the one that can be written is taken, at every connection.
func TestStandbyIsPassedOver(t *testing.T) {
	address, asked := standby(t)
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal("the server's URL is none") // the error would show the password
	}
	u.Host = address + "," + u.Host
	db := items(t, func() *store.DB { return storetest.Open(t, u.String()+"&sslmode=disable") })
	if err := db.Write(t.Context(), insert(1)); err != nil || asked.Load() == 0 {
		t.Errorf("written: %v, the standby was asked %d times", err, asked.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	alone := store.Config{URL: "postgres://u:hush@" + address + "/x?sslmode=disable", Holder: "x", Log: slog.New(slog.DiscardHandler)}
	if _, err := store.Open(ctx, alone); fault.KindOf(err) != fault.Unavailable || strings.Contains(err.Error(), "hush") {
		t.Errorf("a standby alone: %v, want Unavailable", err)
	}
}

// Who reads alone takes any server, as does who says so in the URL.
func TestReadOnlyServer(t *testing.T) {
	base := storetest.Postgres(t) + "&default_transaction_read_only=on"
	for name, c := range map[string]struct {
		more     string
		readOnly bool
		refused  bool
	}{
		"writing":               {refused: true},
		"reading":               {readOnly: true},
		"any":                   {more: "&target_session_attrs=any"},
		"read-only":             {more: "&target_session_attrs=read-only"},
		"read-write":            {more: "&target_session_attrs=read-write", refused: true},
		"reading of read-write": {more: "&target_session_attrs=read-write", readOnly: true, refused: true},
	} {
		db, err := store.Open(t.Context(), store.Config{URL: base + c.more, Holder: "x", ReadOnly: c.readOnly, Log: slog.New(slog.DiscardHandler)})
		if c.refused != (err != nil) || c.refused && fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			t.Cleanup(func() { _ = db.Close() })
		}
	}
}
