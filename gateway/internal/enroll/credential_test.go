package enroll_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/gateway/internal/enroll"
	"github.com/estuary-pki/estuary/services/fault"
)

func TestCredential(t *testing.T) {
	long, ticket := strings.Repeat("a", enroll.MaxToken68), strings.Repeat("a", enroll.MaxNegotiate)
	cases := []struct {
		name   string
		header []string
		want   string // "" for none
		bad    bool

		negotiate bool
	}{
		{name: "no header"},
		{name: "plain", header: []string{"Basic ZGV2OnRva2Vu"}, want: "ZGV2OnRva2Vu"},
		{name: "lower case scheme", header: []string{"basic Og=="}, want: "Og=="},
		{name: "upper case scheme", header: []string{"BASIC Og=="}, want: "Og=="},
		{name: "several spaces", header: []string{"Basic   Og=="}, want: "Og=="},
		{name: "space around", header: []string{" \tBasic Og== \t"}, want: "Og=="},
		{name: "not decoded, not even checked for padding", header: []string{"Basic Og==="}, want: "Og==="},
		{name: "longest", header: []string{"Basic " + long}, want: long},
		{name: "too long", header: []string{"Basic " + long + "a"}, bad: true},
		{name: "other scheme", header: []string{"Bearer abc"}},
		{name: "Negotiate", header: []string{"Negotiate YII="}, want: "YII=", negotiate: true},
		{name: "negotiate in lower case", header: []string{"negotiate YII="}, want: "YII=", negotiate: true},
		{name: "longest ticket", header: []string{"Negotiate " + ticket}, want: ticket, negotiate: true},
		{name: "too long a ticket", header: []string{"Negotiate " + ticket + "a"}, bad: true},
		{name: "NEGOTIATE in upper case, several spaces", header: []string{"NEGOTIATE   YII="}, want: "YII=", negotiate: true},
		{name: "Negotiate alone", header: []string{"Negotiate"}, bad: true},
		{name: "Negotiate and a space", header: []string{"Negotiate "}, bad: true},
		{name: "Negotiate before a comma", header: []string{"Negotiate YII=, Basic Og=="}, bad: true},
		{name: "Negotiate and Basic", header: []string{"Negotiate YII=", "Basic Og=="}, bad: true},
		{name: "Negotiate twice", header: []string{"Negotiate YII=", "Negotiate YII="}, bad: true},
		{name: "scheme that begins like Negotiate", header: []string{"Negotiate2 YII="}},
		{name: "Negotiate with a parameter", header: []string{`Negotiate realm="x"`}, bad: true},
		{name: "scheme that begins alike", header: []string{"Basics Og=="}},
		{name: "two headers", header: []string{"Basic Og==", "Basic Og=="}, bad: true},
		{name: "two schemes", header: []string{"Basic Og==", "Bearer x"}, bad: true},
		{name: "empty header", header: []string{""}, bad: true},
		{name: "only the scheme", header: []string{"Basic"}, bad: true},
		{name: "only the scheme and a space", header: []string{"Basic "}, bad: true},
		{name: "only padding", header: []string{"Basic =="}, bad: true},
		{name: "padding inside", header: []string{"Basic a=b"}, bad: true},
		{name: "two words", header: []string{"Basic Og== Og=="}, bad: true},
		{name: "comma", header: []string{"Basic Og==, Basic Og=="}, bad: true},
		{name: "tab instead of space", header: []string{"Basic\tOg=="}},
		{name: "not ASCII", header: []string{"Basic Ögä="}, bad: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.header != nil {
				h["Authorization"] = c.header
			}
			got, err := enroll.Credential(h)
			if bad := errors.Is(err, fault.Malformed); bad != c.bad || (err != nil) != c.bad {
				t.Fatalf("error %v", err)
			}
			token := string(got.GetBasic().GetToken68())
			if c.negotiate {
				token = string(got.GetNegotiate().GetToken68())
			}
			if token != c.want || (got == nil) != (c.want == "") {
				t.Errorf("got %.80q, want %.80q", token, c.want)
			}
			if _, there := h["Authorization"]; there {
				t.Error("the header is still there")
			}
			for _, value := range c.header {
				if _, token, _ := strings.Cut(value, " "); err != nil && token != "" && strings.Contains(err.Error(), token) {
					t.Errorf("the error repeats the credential: %v", err)
				}
			}
		})
	}
}

// Whatever comes in, what goes out is a token68 of bounded length or nothing.
func FuzzCredential(f *testing.F) {
	for _, s := range []string{"", "Basic", "Basic Og==", "basic  a", "Bearer x", "Basic a=b", "Basic \x00", " Basic ä", "Negotiate YII=", "negotiate a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		c, err := enroll.Credential(http.Header{"Authorization": {value}})
		if err != nil {
			if c != nil || !errors.Is(err, fault.Malformed) {
				t.Fatalf("%v with %v", c, err)
			}
			return
		}
		if c == nil {
			return
		}
		token, limit := string(c.GetBasic().GetToken68()), enroll.MaxToken68
		if c.GetNegotiate() != nil {
			token, limit = string(c.GetNegotiate().GetToken68()), enroll.MaxNegotiate
		}
		if token == "" || len(token) > limit || strings.ContainsAny(token, " \t\r\n\x00,:\"") {
			t.Fatalf("passed on %q", token)
		}
		if !strings.HasSuffix(strings.TrimRight(value, " \t"), token) {
			t.Fatalf("%q is not the end of %q", token, value)
		}
	})
}
