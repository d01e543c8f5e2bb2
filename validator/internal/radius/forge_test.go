package radius_test

import (
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/radius"
)

var full = flag.Bool("full", false, "ten times as many forged answers")

// forgeries are answers to a request that say code and must not count. Whoever makes some of
// them knows the secret: they are about one check each.
func forgeries(request []byte, code byte) map[string][]byte {
	chance := unsigned(request, testSecret, code)
	_, _ = rand.Read(chance[4:20])
	other := slices.Clone(request)
	other[1]++
	stale := slices.Clone(request)
	stale[4] ^= 1
	right := signed(request, testSecret, code)
	// The authenticator covers what stands behind the packet's end.
	padded := seal(slices.Concat(unsigned(request, testSecret, code), []byte("padding")), request, testSecret)
	long := slices.Clone(right)
	binary.BigEndian.PutUint16(long[2:], uint16(len(long)+1))
	small := slices.Clone(right)
	binary.BigEndian.PutUint16(small[2:], 19)
	zero := make([]byte, 16)
	return map[string][]byte{
		"authenticator of chance":     chance,
		"under another secret":        signed(request, "another secret", code),
		"without a signature":         unsigned(request, testSecret, code),
		"other identifier":            signed(other, testSecret, code),
		"to another request":          signed(stale, testSecret, code),
		"CoA-ACK":                     signed(request, testSecret, 44),
		"Accounting-Response":         signed(request, testSecret, 5),
		"Access-Request":              signed(request, testSecret, accessRequest),
		"code 0":                      signed(request, testSecret, 0),
		"padding sealed in":           padded,
		"signature of chance":         unsigned(request, testSecret, code, attribute(80, "0123456789abcdef")),
		"signature of zeros":          unsigned(request, testSecret, code, attribute(80, string(zero))),
		"short signature":             unsigned(request, testSecret, code, attribute(80, "0123456789abcde")),
		"long signature":              unsigned(request, testSecret, code, attribute(80, "0123456789abcdef0")),
		"empty signature":             unsigned(request, testSecret, code, attribute(80, "")),
		"two signatures":              signed(request, testSecret, code, attribute(80, string(zero))),
		"attribute cut":               unsigned(request, testSecret, code, []byte{18}),
		"attribute beyond the end":    signed(request, testSecret, code, []byte{18, 200}),
		"attribute of length 0":       unsigned(request, testSecret, code, attribute(80, string(zero)), []byte{18, 0}),
		"attribute of length 1":       unsigned(request, testSecret, code, []byte{18, 1, 18}),
		"longer than it is":           seal(long, request, testSecret),
		"shorter than a header":       seal(small, request, testSecret),
		"the request":                 request,
		"a piece":                     right[:19],
		"nothing":                     {},
		"signature over the response": overResponse(request, code),
	}
}

// overResponse is signed over the Response Authenticator instead of the request's.
func overResponse(request []byte, code byte) []byte {
	p := unsigned(request, testSecret, code, attribute(80, string(make([]byte, 16))))
	copy(p[22:38], mac(p, testSecret))
	return seal(p, request, testSecret)
}

func TestForgedAnswers(t *testing.T) {
	logins := 1000
	if *full {
		logins *= 10
	}
	w := newWorld(t)
	var forged atomic.Int64
	seen := map[[20]byte]bool{}
	s := newServer(t, func(s *server, d datagram) {
		user, password := d.read(t, s.secret)
		truth, lie := byte(accessReject), byte(accessAccept)
		if number(user)%2 == 0 && password == "password of "+user {
			truth, lie = lie, truth
		}
		if k := [20]byte(d.octets); !seen[k] { // a copy says that the port overflows
			seen[k] = true
			for _, f := range forgeries(d.octets, lie) {
				s.send(d.from, f)
				forged.Add(1)
			}
		}
		s.answer(d, truth)
	})
	target := s.target(8*time.Second, 10)
	var next, wrong, lost atomic.Int64
	begin := time.Now()
	each(6, func(int) {
		for i := int(next.Add(1)); i <= logins; i = int(next.Add(1)) {
			user := fmt.Sprint("user-", i)
			answer, unknown := w.login(t, target, user, "password of "+user)
			switch {
			case unknown != nil:
				lost.Add(1)
			case answer.Result != radius.Result(1-i%2):
				wrong.Add(1)
			}
		}
	})
	took := time.Since(begin)
	junk := w.metric(t, "estuary_validator_radius_junk_total")
	t.Logf("reliability: %d forged answers, %.0f a second, %d of them refused (a full port lost the others): %d of %d logins with a wrong result, %d aborted",
		forged.Load(), float64(forged.Load())/took.Seconds(), junk, wrong.Load(), logins, lost.Load())
	if wrong.Load() != 0 || lost.Load() != 0 {
		t.Errorf("%d wrong, %d lost", wrong.Load(), lost.Load())
	}
	if least := int64(logins * 20); forged.Load() < least || int64(junk) < least/2 {
		t.Errorf("%d forged, %d refused: at least %d are due", forged.Load(), junk, least)
	}
	if n := w.log.count("what is no answer came"); n != 1 {
		t.Errorf("the log tells of forged answers %d times in a minute", n)
	}
}

// Each forgery alone, for the reason to be seen; then answers that look odd and are right.
func TestForgeriesOneByOne(t *testing.T) {
	p := radius.NewPacket(7, [16]byte{1, 2, 3}, []byte(testSecret), false)
	for name, f := range forgeries(p.Octets(), accessAccept) {
		if code, _, _, err := p.Check(slices.Clone(f)); err == nil {
			t.Errorf("%s: accepted with code %d", name, code)
		}
	}
	lax := radius.NewPacket(7, [16]byte{1, 2, 3}, []byte(testSecret), true)
	for name, f := range forgeries(p.Octets(), accessAccept) {
		if _, _, _, err := lax.Check(slices.Clone(f)); err == nil && name != "without a signature" {
			t.Errorf("%s: accepted where answers need not be signed", name)
		}
	}
	for name, a := range map[string][]byte{
		"plain":          signed(p.Octets(), testSecret, accessAccept),
		"padded":         slices.Concat(signed(p.Octets(), testSecret, accessAccept), []byte("padding")),
		"more in it":     signed(p.Octets(), testSecret, accessAccept, attribute(18, "Welcome"), attribute(26, "vendor"), attribute(0, "")),
		"empty at last":  signed(p.Octets(), testSecret, accessAccept, attribute(18, "")),
		"4096 octets":    signed(p.Octets(), testSecret, accessAccept, largest()...),
		"with two State": signed(p.Octets(), testSecret, accessAccept, attribute(24, "a"), attribute(24, "b")),
	} {
		if code, signed, _, err := p.Check(slices.Clone(a)); err != nil || code != accessAccept || !signed {
			t.Errorf("%s: code %d, signed %t, %v", name, code, signed, err)
		}
	}
}

// largest fills a packet with a signature up to 4096 octets.
func largest() [][]byte {
	var all [][]byte
	for range 15 {
		all = append(all, attribute(18, string(make([]byte, 253))))
	}
	return append(all, attribute(18, string(make([]byte, 4096-20-18-15*255-2))))
}

func TestLegacyServer(t *testing.T) {
	w := newWorld(t)
	s := newServer(t, func(s *server, d datagram) { s.send(d.from, unsigned(d.octets, s.secret, accessAccept)) })
	strict := s.target(100*time.Millisecond, 1)
	if answer, unknown := w.login(t, strict, "olga", "x"); unknown == nil || !unknown.Sent {
		t.Errorf("%+v without a signature", answer)
	}
	if n := w.metric(t, "estuary_validator_radius_junk_total", `reason="unsigned"`); n != 2 {
		t.Errorf("%d answers are counted as unsigned", n)
	}
	lax := s.target(5*time.Second, 1)
	lax.Servers[0].AllowUnsigned = true
	for range 10 {
		w.want(t, radius.Accepted, lax, radius.Request{User: "olga", Password: text("x")})
	}
	if n := w.metric(t, "estuary_validator_radius_unsigned_total"); n != 10 {
		t.Errorf("%d logins are counted as unsigned", n)
	}
	if n := w.log.count("answers without Message-Authenticator"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	// What is signed must be signed well even there.
	wrong := newServer(t, func(s *server, d datagram) {
		s.send(d.from, unsigned(d.octets, s.secret, accessAccept, attribute(80, "0123456789abcdef")))
	})
	lax = wrong.target(100*time.Millisecond, 0)
	lax.Servers[0].AllowUnsigned = true
	if _, unknown := w.login(t, lax, "olga", "x"); unknown == nil {
		t.Error("a wrong signature is accepted")
	}
}
