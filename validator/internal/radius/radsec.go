package radius

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// maxConnections bounds the connections to one server, perConnection the logins on each
	// of them when all are full: one identifier is left for Status-Server.
	maxConnections = 4
	perConnection  = 255
	// connectTime is what connecting may take, writeTime a write.
	connectTime = 5 * time.Second
	writeTime   = 5 * time.Second
	// watchAfter is how long a connection is silent before the server is asked whether it is
	// still there (RFC 3539 section 3.4), idleFor how long an unused one is kept.
	watchAfter = 15 * time.Second
	idleFor    = 5 * time.Minute
)

var (
	errLost = errors.New("the connection was lost")
	errFull = fmt.Errorf("%d connections are full", maxConnections)
)

// stream is a server of RadSec: a few connections on which requests follow one another
// without waiting.
type stream struct {
	peer *peer
	// dialling is held by who connects: others wait for that connection.
	dialling chan struct{}

	mu     sync.Mutex
	conns  []*link // guarded by mu
	closed bool    // guarded by mu
}

func newTLS(p *peer) *stream { return &stream{peer: p, dialling: make(chan struct{}, 1)} }

// link is one connection.
type link struct {
	conn    *tls.Conn
	writing sync.Mutex
	ended   chan struct{} // closed when nothing comes any more

	// Of stream.mu:
	waiting map[byte]*waiting
	dead    bool
	heard   time.Time
	used    time.Time
	watched bool // Status-Server is on its way
}

// exchange sends the question once: the connection loses nothing (RFC 6613 section 2.6.1).
func (s *stream) exchange(ctx context.Context, q question, _ schedule) (reply, error) {
	l, id, err := s.take(ctx)
	if err != nil {
		return reply{}, s.peer.unknown(false, err)
	}
	defer s.give(l, id)
	return s.on(ctx, l, id, q)
}

func (s *stream) on(ctx context.Context, l *link, id byte, q question) (reply, error) {
	packet, err := q.encode(s.peer.client.c.NASIdentifier, radsec(), id)
	if err != nil {
		return reply{}, s.peer.unknown(false, err)
	}
	// TLS has proved whose answer it is; FreeRADIUS before 3.2.5 signs none by itself.
	packet.unsigned = true
	w := &waiting{packet: packet, answer: make(chan reply, 1)}
	s.mu.Lock()
	l.waiting[id] = w
	dead := l.dead
	s.mu.Unlock()
	switch {
	case dead:
		return reply{}, s.peer.unknown(false, errLost)
	case ctx.Err() != nil:
		return reply{}, s.peer.unknown(false, ctx.Err())
	}
	if err := l.write(packet.octets); err != nil {
		s.drop(l)
		return reply{}, s.peer.unknown(true, fmt.Errorf("writing: %w", err))
	}
	select {
	case answer := <-w.answer:
		return answer, nil
	case <-ctx.Done():
		err = errNoAnswer
	case <-l.ended:
		err = errLost
	}
	if answer, ok := w.justNow(); ok {
		return answer, nil
	}
	return reply{}, s.peer.unknown(true, err)
}

// write sends one packet in one TLS record: FreeRADIUS 3.2.1 reads no second one in it.
func (l *link) write(octets []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := l.conn.Write(octets); err != nil {
		return err
	}
	return l.conn.SetWriteDeadline(time.Time{}) // reading writes too: an update of keys
}

// take returns a connection with an identifier on it; it connects where there is none.
func (s *stream) take(ctx context.Context) (*link, byte, error) {
	for {
		if l, id, ok, err := s.free(); ok || err != nil {
			return l, id, err
		}
		select {
		case s.dialling <- struct{}{}:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("waiting for a connection: %w", ctx.Err())
		}
		err := s.grow(ctx)
		<-s.dialling
		if err != nil {
			return nil, 0, err
		}
	}
}

// free returns a connection with room.
func (s *stream) free() (*link, byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, false, errClosed
	}
	for _, l := range s.conns {
		if id, ok := freeID(l.waiting); ok && !l.dead {
			l.waiting[id] = nil
			l.used = s.peer.client.c.Now()
			return l, id, true, nil
		}
	}
	return nil, 0, false, nil
}

// grow adds a connection, unless somebody has just done that.
func (s *stream) grow(ctx context.Context) error {
	s.mu.Lock()
	room := slices.ContainsFunc(s.conns, func(l *link) bool { return !l.dead && len(l.waiting) < 256 })
	full := len(s.conns) >= maxConnections
	s.mu.Unlock()
	switch {
	case room:
		return nil
	case full:
		return errFull
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	now := s.peer.client.c.Now()
	l := &link{conn: conn, ended: make(chan struct{}), waiting: map[byte]*waiting{}, heard: now, used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(errClosed, conn.Close())
	}
	s.conns = append(s.conns, l)
	s.peer.client.running.Go(func() { s.read(l) })
	return nil
}

func (s *stream) dial(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	server := s.peer.server
	config := server.TLS.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(server.Address)
		if err != nil {
			return nil, err
		}
		config.ServerName = host
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", server.Address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil //nolint:forcetypeassert // what tls.Dialer returns
}

// read hands answers to who waits for them, until the connection ends. What is no packet
// ends it.
func (s *stream) read(l *link) {
	defer close(l.ended)
	defer s.drop(l)
	buffer := make([]byte, maxPacket)
	for {
		if _, err := io.ReadFull(l.conn, buffer[:4]); err != nil {
			return
		}
		length := int(binary.BigEndian.Uint16(buffer[2:4]))
		if length < headerSize || length > maxPacket {
			s.peer.junk(errShort)
			return
		}
		if _, err := io.ReadFull(l.conn, buffer[4:length]); err != nil {
			return
		}
		s.mu.Lock()
		l.heard = s.peer.client.c.Now()
		w := l.waiting[buffer[1]]
		s.mu.Unlock()
		if w == nil {
			s.peer.junk(errIdentifier) // too late
			continue
		}
		answer, err := w.packet.check(buffer[:length])
		if err != nil {
			s.peer.junk(err) // too late, and its identifier in use again
			continue
		}
		select {
		case w.answer <- answer:
		default:
		}
	}
}

// give frees an identifier. An answer that comes too late fits no other request: it is
// made with the authenticator of its own.
func (s *stream) give(l *link, id byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(l.waiting, id)
}

// drop closes a connection; who waits on it learns of that by its end.
func (s *stream) drop(l *link) {
	s.mu.Lock()
	l.dead = true
	s.conns = slices.DeleteFunc(s.conns, func(o *link) bool { return o == l })
	s.mu.Unlock()
	_ = l.conn.NetConn().Close() // no close_notify: it could wait for who does not read
}

// sweep closes connections that are unused, and asks servers that are silent.
func (s *stream) sweep(ctx context.Context) {
	now := s.peer.client.c.Now()
	s.mu.Lock()
	var unused, silent []*link
	for _, l := range s.conns {
		switch {
		case len(l.waiting) == 0 && now.Sub(l.used) > idleFor:
			unused = append(unused, l)
		case now.Sub(l.heard) > watchAfter && !l.watched:
			l.watched = true
			silent = append(silent, l)
		}
	}
	s.mu.Unlock()
	for _, l := range unused {
		s.drop(l)
	}
	for _, l := range silent {
		s.peer.client.running.Go(func() { s.watch(ctx, l) })
	}
}

// watch asks on a connection whether the server is there, and ends it when it is not.
func (s *stream) watch(ctx context.Context, l *link) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	s.mu.Lock()
	id, ok := freeID(l.waiting)
	if ok {
		l.waiting[id] = nil
	}
	s.mu.Unlock()
	if !ok {
		s.drop(l)
		return
	}
	defer s.give(l, id)
	if _, err := s.on(ctx, l, id, question{}); err != nil {
		s.drop(l)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.watched = false
}

func (s *stream) close() {
	s.mu.Lock()
	s.closed = true
	conns := slices.Clone(s.conns)
	s.mu.Unlock()
	for _, l := range conns {
		s.drop(l)
	}
}
