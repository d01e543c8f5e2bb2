package ipatest_test

import (
	"encoding/hex"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/ipatest"
)

// RFC 4226 appendix D.
func TestHOTPVectors(t *testing.T) {
	for i, want := range []string{
		"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
	} {
		if got := ipatest.HOTP([]byte("12345678901234567890"), "sha1", 6, int64(i)); got != want {
			t.Errorf("counter %d: %s, want %s", i, got, want)
		}
	}
}

// rfc6238 are the keys of RFC 6238 appendix B: its text has one, its code one per algorithm.
func rfc6238(algorithm string) []byte {
	return []byte(strings.Repeat("1234567890", 7)[:map[string]int{"sha1": 20, "sha256": 32, "sha512": 64}[algorithm]])
}

// RFC 6238 appendix B, through the server's clock.
func TestTOTPVectors(t *testing.T) {
	for at, want := range map[int64]map[string]string{
		59:          {"sha1": "94287082", "sha256": "46119246", "sha512": "90693936"},
		1111111109:  {"sha1": "07081804", "sha256": "68084774", "sha512": "25091201"},
		1111111111:  {"sha1": "14050471", "sha256": "67062674", "sha512": "99943326"},
		1234567890:  {"sha1": "89005924", "sha256": "91819424", "sha512": "93441116"},
		2000000000:  {"sha1": "69279037", "sha256": "90698825", "sha512": "38618901"},
		20000000000: {"sha1": "65353130", "sha256": "77737706", "sha512": "47863826"},
	} {
		s := start(t, ipatest.Config{Now: func() time.Time { return time.Unix(at, 0) }})
		for algorithm, code := range want {
			s.AddToken(ipatest.Token{ID: algorithm, Owner: "alice", Algorithm: algorithm, Digits: 8, Key: rfc6238(algorithm)})
			if got := s.Code(algorithm); got != code {
				t.Errorf("%d %s: %s, want %s", at, algorithm, got, code)
			}
		}
	}
}

// oathtool(1) computes the same codes.
func TestOathtool(t *testing.T) {
	now := newClock()
	s := start(t, ipatest.Config{Now: now.Now})
	for _, algorithm := range []string{"sha1", "sha256", "sha512"} {
		key := rfc6238(algorithm)
		s.AddToken(ipatest.Token{ID: algorithm, Owner: "alice", Algorithm: algorithm, Key: key, Step: 60})
		tool(t, s.Code(algorithm), "--totp="+algorithm, "-s", "60", "--now", "@"+strconv.FormatInt(now.Now().Unix(), 10), hex.EncodeToString(key))
	}
	s.AddToken(ipatest.Token{ID: "h", Owner: "alice", HOTP: true, Counter: 4711, Digits: 8, Key: []byte("a key of our own....")})
	tool(t, s.Code("h"), "--hotp", "-d", "8", "-c", "4711", hex.EncodeToString([]byte("a key of our own....")))
}

func tool(t *testing.T, want string, arguments ...string) {
	t.Helper()
	out, err := exec.Command("oathtool", arguments...).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("oathtool %s: %s, %v; want %s", arguments, got, err, want)
	}
}

// withTokens returns a server with a user whose tokens are given.
func withTokens(t *testing.T, now *clock, tokens ...ipatest.Token) (*ipatest.Server, string) {
	t.Helper()
	s := start(t, ipatest.Config{Now: now.Now})
	s.SetPolicy(ipatest.Policy{})
	dn := s.AddUser(ipatest.User{UID: "alice", Password: "pw", AuthTypes: []string{"otp"}})
	for _, token := range tokens {
		token.Owner = "alice"
		s.AddToken(token)
	}
	return s, dn
}

func TestTOTPWindow(t *testing.T) {
	now := newClock()
	s, dn := withTokens(t, now, ipatest.Token{ID: "t"})
	c := dial(t, s)
	for _, step := range []struct{ offset, want int }{
		{-10, 49}, {10, 49}, {-9, 0}, {-9, 49}, {-10, 49}, {-8, 0}, {0, 0}, {0, 49}, {-1, 49}, {9, 0}, {8, 49}, {9, 49},
	} {
		// The code of the clock, whatever is spent.
		code := ipatest.HOTP([]byte("12345678901234567890"), "sha1", 6, now.Now().Unix()/30+int64(step.offset))
		if got, _ := bindOn(t, c, dn, "pw"+code, true); got != step.want {
			t.Errorf("step %+d: result %d, want %d", step.offset, got, step.want)
		}
	}
	if got, _ := bindOn(t, c, dn, "pw"+s.Code("t"), true); got != 49 {
		t.Errorf("a code ten steps ahead: result %d", got)
	}
	now.Add(30 * time.Second)
	if got, _ := bindOn(t, c, dn, "pw"+s.Code("t"), true); got != 0 {
		t.Errorf("a code nine steps ahead: result %d", got)
	}
}

func TestHOTPWindow(t *testing.T) {
	s, dn := withTokens(t, newClock(), ipatest.Token{ID: "h", HOTP: true, Counter: 100})
	c := dial(t, s)
	for _, step := range []struct{ offset, want int }{
		{10, 49}, {-1, 49}, {9, 0}, {-1, 49}, {0, 0}, {0, 0}, {-2, 49},
	} {
		if got, _ := bindOn(t, c, dn, "pw"+s.CodeAt("h", step.offset), true); got != step.want {
			t.Errorf("counter %+d: result %d, want %d", step.offset, got, step.want)
		}
	}
	if got := s.Get(s.TokenDN("h"), "ipatokenHOTPcounter"); len(got) != 1 || got[0] != "112" {
		t.Errorf("counter is %q, want 112", got)
	}
}

// A code is spent before the password is looked at.
func TestWrongPasswordSpends(t *testing.T) {
	s, dn := withTokens(t, newClock(), ipatest.Token{ID: "h", HOTP: true})
	code := s.Code("h")
	for _, password := range []string{"no", "pw"} {
		if got, _ := bind(t, s, dn, password+code, true); got != 49 {
			t.Errorf("%s: result %d", password, got)
		}
	}
	if got, _ := bind(t, s, dn, s.Code("h"), true); got != 49 {
		t.Errorf("a code without a password: result %d", got)
	}
}

func TestSeveralTokens(t *testing.T) {
	s, dn := withTokens(t, newClock(),
		ipatest.Token{ID: "a", Key: []byte("first key ..........")},
		ipatest.Token{ID: "b", HOTP: true, Digits: 8, Algorithm: "sha512", Key: []byte("second key .........")},
		ipatest.Token{ID: "c", Disabled: true, Key: []byte("third key ..........")})
	for id, want := range map[string]int{"a": 0, "b": 0, "c": 49} {
		if got, _ := bind(t, s, dn, "pw"+s.Code(id), true); got != want {
			t.Errorf("token %s: result %d, want %d", id, got, want)
		}
	}
}

// Back ends that share nothing accept one code each, or twice.
func TestReplays(t *testing.T) {
	s, dn := withTokens(t, newClock(), ipatest.Token{ID: "t"}, ipatest.Token{ID: "h", HOTP: true, Key: []byte("another key ........")})
	s.Replays(true)
	for _, id := range []string{"t", "h", "t", "h"} {
		if got, _ := bind(t, s, dn, "pw"+s.Code(id), true); got != 0 {
			t.Errorf("token %s: result %d", id, got)
		}
	}
	s.Replays(false)
	code := s.Code("t")
	for _, want := range []int{0, 49} {
		if got, _ := bind(t, s, dn, "pw"+code, true); got != want {
			t.Errorf("result %d, want %d", got, want)
		}
	}
}
