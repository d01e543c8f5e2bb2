package authn_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/authn"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

var basicCases = []struct {
	name, token68  string
	user, password string
	reason         string
}{
	{name: "user and password", token68: b64("pump-7:secret"), user: "pump-7", password: "secret"},
	{name: "RFC 7617 section 2", token68: "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", user: "Aladdin", password: "open sesame"},
	{name: "RFC 7617 section 2.1, UTF-8", token68: "dGVzdDoxMjPCow==", user: "test", password: "123£"},
	{name: "empty user name", token68: b64(":secret"), password: "secret"},
	{name: "colons in the password", token68: b64("u:a:b::c:"), user: "u", password: "a:b::c:"},
	{name: "password is a colon", token68: b64("u::"), user: "u", password: ":"},
	{name: "blanks are kept", token68: b64(" u : p "), user: " u ", password: " p "},
	{name: "no padding", token68: strings.TrimRight(b64("u:pw"), "="), user: "u", password: "pw"},
	{name: "plus and slash", token68: b64("u:\u00ff\u00fe>>>???"), user: "u", password: "\u00ff\u00fe>>>???"},
	{
		name: "longest user name", token68: b64(strings.Repeat("u", 255) + ":p"),
		user: strings.Repeat("u", 255), password: "p",
	},
	{name: "longest password", token68: b64("u:" + strings.Repeat("p", 1024)), user: "u", password: strings.Repeat("p", 1024)},

	{name: "nothing", token68: "", reason: "no credential behind the scheme"},
	{name: "longer than 4 KiB", token68: strings.Repeat("A", 4097), reason: "credential is longer than 4096 octets"},
	{name: "not base64", token68: "u:secret", reason: "credential is not base64"},
	{name: "base64url", token68: strings.NewReplacer("+", "-", "/", "_").Replace(b64("u:\u00ff\u00fe>>>???")), reason: "credential is not base64"},
	{name: "blank within", token68: "dTpz ZWNyZXQ=", reason: "credential is not base64"},
	{name: "line end within", token68: "dTpz\r\nZWNyZXQ", reason: "credential is not base64"},
	{name: "NUL within", token68: "dTpz\x00ZWNyZXQ=", reason: "credential is not base64"},
	{name: "padding alone", token68: "====", reason: "credential is not base64"},
	{name: "too much padding", token68: b64("u:secret") + "====", reason: "credential is not base64"},
	{name: "too little padding", token68: "dTpwdw=", reason: "credential is not base64"},
	{name: "left-over bits", token68: "dTpwdx==", reason: "credential is not base64"},
	{name: "padding within", token68: "dTpwdw==dTpwdw==", reason: "credential is not base64"},
	{name: "not UTF-8", token68: b64("u:\xff\xfe"), reason: "credential is not UTF-8"},
	{name: "Latin-1", token68: b64("test:123\xa3"), reason: "credential is not UTF-8"},
	{name: "overlong UTF-8", token68: b64("u:\xc0\x80"), reason: "credential is not UTF-8"},
	{name: "surrogate", token68: b64("u:\xed\xa0\x80"), reason: "credential is not UTF-8"},
	{name: "NUL in the user name", token68: b64("u\x00:secret"), reason: "credential has a control character"},
	{name: "NUL in the password", token68: b64("u:sec\x00ret"), reason: "credential has a control character"},
	{name: "NUL before the colon and no colon", token68: b64("u\x00"), reason: "credential has a control character"},
	{name: "line end in the password", token68: b64("u:secret\n"), reason: "credential has a control character"},
	{name: "escape", token68: b64("u\x1b[31m:secret"), reason: "credential has a control character"},
	{name: "DEL", token68: b64("u:secret\x7f"), reason: "credential has a control character"},
	{name: "no colon", token68: b64("secret"), reason: "credential has no colon"},
	{name: "empty password", token68: b64("u:"), reason: "password is empty"},
	{name: "colon alone", token68: b64(":"), reason: "password is empty"},
	{name: "user name too long", token68: b64(strings.Repeat("u", 256) + ":p"), reason: "user name is longer than 255 octets"},
	{name: "password too long", token68: b64("u:" + strings.Repeat("p", 1025)), reason: "password is longer than 1024 octets"},
}

func TestParseBasic(t *testing.T) {
	for _, c := range basicCases {
		t.Run(c.name, func(t *testing.T) {
			user, password, reason := authn.ParseBasic(secret.New([]byte(c.token68)))
			if reason != c.reason {
				t.Fatalf("reason %q, not %q", reason, c.reason)
			}
			if user != c.user || string(password.Reveal()) != c.password {
				t.Errorf("%q and %q, not %q and %q", user, password.Reveal(), c.user, c.password)
			}
		})
	}
}

func FuzzParseBasic(f *testing.F) {
	for _, c := range basicCases {
		f.Add([]byte(c.token68))
	}
	f.Fuzz(func(t *testing.T, token68 []byte) {
		before := bytes.Clone(token68)
		user, password, reason := authn.ParseBasic(secret.New(token68))
		if !bytes.Equal(before, token68) {
			t.Error("the input was changed")
		}
		if reason != "" {
			if user != "" || password.Len() != 0 {
				t.Error("refused, and returned all the same")
			}
			return
		}
		content := user + ":" + string(password.Reveal())
		if strings.TrimRight(b64(content), "=") != strings.TrimRight(string(token68), "=") {
			t.Errorf("%q came back as %q", token68, content)
		}
		if strings.Contains(user, ":") || password.Len() == 0 || !utf8.ValidString(content) ||
			strings.ContainsAny(content, "\x00\r\n\t\x1b\x7f") {
			t.Errorf("accepted %q", content)
		}
	})
}
