package systest_test

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// TestReliabilityKDC: a MIT KDC has its users' one-time passwords checked by the validator,
// over the socket on which it would ask ipa-otpd. One login is one bind, however often the
// KDC's clients, or the KDC, ask.
func TestReliabilityKDC(t *testing.T) {
	t.Parallel()
	kdc := lab(t, "kdc")
	socket := kdc["OTP_SOCKET"]
	c := planAccounts(t, shape{gateways: 1, validators: 1, signers: 1}, fmt.Sprintf("\n[otpd]\nlisten = \"unix:%s\"\ntimeout = \"4s\"\n", socket))
	c.ipa.AddUser(ipatest.User{UID: kdc["OTP_USER"], Password: accountPassword, AuthTypes: []string{"otp"}})
	c.ipa.AddToken(ipatest.Token{ID: kdc["OTP_USER"], Owner: kdc["OTP_USER"], HOTP: true})
	c.start()
	user, dn := kdc["OTP_USER"], c.ipa.UserDN(kdc["OTP_USER"])
	k := kinit{t: t, kdc: kdc, dir: t.TempDir()}
	k.armor()

	code := accountPassword + c.ipa.Code(user)
	if out, err := k.login(user, code); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, tail(mustRead(t, kdc["LOG"])))
	}
	if n := c.ipa.Binds(dn); n != 1 {
		t.Errorf("%d binds for one ticket", n)
	}
	if out, err := k.login(user, code); err == nil {
		t.Errorf("the same code gave another ticket\n%s", out)
	}
	if out, err := k.login(user, accountPassword); err == nil {
		t.Errorf("the password alone gave a ticket\n%s", out)
	}

	// Slower than the second that kinit waits before it asks again.
	c.ipa.SetBindDelay(1500*time.Millisecond, 0)
	before := c.ipa.Binds(dn)
	if out, err := k.login(user, accountPassword+c.ipa.Code(user)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := c.ipa.Binds(dn) - before; n != 1 {
		t.Errorf("%d binds for one slow ticket", n)
	}

	// The KDC's own retransmissions, by hand, on one connection and on several.
	c.ipa.SetBindDelay(200*time.Millisecond, 0)
	before = c.ipa.Binds(dn)
	packet := otpQuery(7, user+"@IPA.TEST", accountPassword+c.ipa.Code(user))
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for _, got := range otpAsk(t, socket, packet, packet) {
				if got != 2 {
					t.Errorf("a request that was sent again: code %d", got)
				}
			}
		})
	}
	asking.Wait()
	if n := c.ipa.Binds(dn) - before; n != 1 {
		t.Errorf("%d binds for one request that was sent eight times", n)
	}
	tell(t, "tickets by password and code, one bind each, also when kinit asked again and when a request was sent eight times")
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// kinit gets tickets.
type kinit struct {
	t   *testing.T
	kdc map[string]string
	dir string
}

func (k kinit) run(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kinit", args...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+k.kdc["KRB5_CONFIG"])
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// armor gets the anonymous ticket under which FAST hides the code.
func (k kinit) armor() {
	k.t.Helper()
	if out, err := k.run("", "-n", "-c", "FILE:"+filepath.Join(k.dir, "armor")); err != nil {
		k.t.Fatalf("anonymous: %v\n%s", err, out)
	}
}

func (k kinit) login(user, password string) (string, error) {
	return k.run(password+"\n", "-T", "FILE:"+filepath.Join(k.dir, "armor"), "-c", "FILE:"+filepath.Join(k.dir, "ticket"), user)
}

// otpQuery is an Access-Request under the empty secret (RFC 2865).
func otpQuery(id byte, user, password string) []byte {
	b := append([]byte{1, id, 0, 0}, random32()[:16]...)
	b = append(append(b, 1, byte(2+len(user))), user...)
	hidden := make([]byte, (len(password)+15)/16*16)
	copy(hidden, password)
	previous := b[4:20]
	for at := 0; at < len(hidden); at += 16 {
		mask := md5.Sum(previous)
		for i := range mask {
			hidden[at+i] ^= mask[i]
		}
		previous = hidden[at : at+16]
	}
	b = append(append(b, 2, byte(2+len(hidden))), hidden...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// otpAsk sends packets on a connection of their own and returns the codes of the answers.
func otpAsk(t *testing.T, socket string, packets ...[]byte) (codes []byte) {
	conn, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "unix", socket)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for _, p := range packets {
		if _, err := conn.Write(p); err != nil {
			t.Error(err)
		}
	}
	for range packets {
		answer := make([]byte, 20)
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Error(err)
			return codes
		}
		codes = append(codes, answer[0])
	}
	return codes
}
