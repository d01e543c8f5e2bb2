package csr_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
)

// bodies are the ways in which clients send a request.
func bodies(der []byte) map[string][]byte {
	b64 := base64.StdEncoding.EncodeToString(der)
	var spread strings.Builder
	for _, c := range b64 {
		spread.WriteString(string(c) + " \t\r\n")
	}
	armour := func(label string) []byte { return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}) }
	return map[string][]byte{
		"one line":                 []byte(b64),
		"one line, LF":             []byte(b64 + "\n"),
		"64 columns, CR LF":        []byte(strings.ReplaceAll(wrap(b64, 64), "\n", "\r\n")),
		"76 columns, LF":           []byte(wrap(b64, 76)),
		"white space in front":     []byte(" \r\n\t" + b64),
		"white space all over":     []byte(spread.String()),
		"DER":                      der,
		"PEM":                      armour("CERTIFICATE REQUEST"),
		"PEM of older tools":       armour("NEW CERTIFICATE REQUEST"),
		"PEM with CR LF":           bytes.ReplaceAll(armour("CERTIFICATE REQUEST"), []byte("\n"), []byte("\r\n")),
		"PEM without its last LF":  bytes.TrimSpace(armour("CERTIFICATE REQUEST")),
		"PEM behind white space":   append([]byte("\n\n"), armour("CERTIFICATE REQUEST")...),
		"PEM on a single line":     []byte("-----BEGIN CERTIFICATE REQUEST-----" + b64 + "-----END CERTIFICATE REQUEST-----"),
		"PEM with unbroken base64": []byte("-----BEGIN CERTIFICATE REQUEST-----\n" + b64 + "\n-----END CERTIFICATE REQUEST-----\n"),
	}
}

func wrap(s string, columns int) string {
	var out strings.Builder
	for ; len(s) > columns; s = s[columns:] {
		out.WriteString(s[:columns] + "\n")
	}
	return out.String() + s + "\n"
}

func TestDecodeReadsWhatClientsSend(t *testing.T) {
	for kind, der := range sound(t) {
		for name, body := range bodies(der) {
			got, err := csr.Decode(body)
			if err != nil || !bytes.Equal(got, der) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

func TestDecodeReturnsItsOwnCopy(t *testing.T) {
	der := request{}.der(t)
	got, err := csr.Decode(der)
	if err != nil {
		t.Fatal(err)
	}
	clear(der)
	if got[0] != 0x30 {
		t.Error("the result is the body itself")
	}
}

func TestDecodeRefuses(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString(request{}.der(t))
	armour := "-----BEGIN CERTIFICATE REQUEST-----\n" + b64 + "\n-----END CERTIFICATE REQUEST-----\n"
	for name, c := range map[string]struct{ body, says string }{
		"empty":                 {"", "body is empty"},
		"white space":           {" \r\n\t", "body is empty"},
		"JSON":                  {`{"csr":""}`, "not base64"},
		"XML":                   {"<pkcs10/>", "not base64"},
		"an odd end":            {b64[:len(b64)-3], "not base64"},
		"without padding":       {"MA", "not base64"},
		"too much padding":      {"MAA==", "not base64"},
		"padding inside":        {"MA==MA==", "not base64"},
		"padding alone":         {"====", "not base64"},
		"padding bits set":      {"MB==", "not base64"},
		"base64url":             {"MA-_", "not base64"},
		"NUL behind":            {b64 + "\x00", "not base64"},
		"vertical tab":          {b64[:4] + "\v" + b64[4:], "not base64"},
		"no-break space":        {b64[:4] + "\u00a0" + b64[4:], "not base64"},
		"byte order mark":       {"\ufeff" + b64, "not base64"},
		"a form field":          {"csr=" + b64, "not base64"},
		"PEM of a certificate":  {strings.ReplaceAll(armour, " REQUEST", ""), "type CERTIFICATE REQUEST"},
		"PEM of a private key":  {"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n", "type CERTIFICATE REQUEST"},
		"PEM without END":       {strings.Split(armour, "-----END")[0], "exactly one block"},
		"PEM with another END":  {strings.ReplaceAll(armour, "END CERTIFICATE REQUEST", "END NEW CERTIFICATE REQUEST"), "exactly one block"},
		"PEM twice":             {armour + armour, "exactly one block"},
		"PEM with text behind":  {armour + "x", "exactly one block"},
		"PEM with text before":  {"Certificate Request:\n" + armour, "not base64"},
		"PEM with headers":      {strings.Replace(armour, "\n", "\nProc-Type: 4,ENCRYPTED\n\n", 1), "not base64"},
		"PEM empty":             {"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n", "body is empty"},
		"PEM of one line only":  {"-----BEGIN CERTIFICATE REQUEST-----", "exactly one block"},
		"hyphens":               {"-----", "type CERTIFICATE REQUEST"},
		"body above the size":   {strings.Repeat("A", csr.MaxBody+1), "65537 octets"},
		"spaces above the size": {strings.Repeat(" ", csr.MaxBody+1), "65537 octets"},
		"DER above the size":    {"0" + strings.Repeat("A", csr.MaxDER), "49153 octets"},
	} {
		der, err := csr.Decode([]byte(c.body))
		if der != nil || !errors.Is(err, fault.Malformed) || !strings.Contains(fault.Public(err), c.says) {
			t.Errorf("%s: %d octets, %v", name, len(der), err)
		}
		if large := strings.Contains(name, "above"); errors.Is(err, csr.ErrTooLarge) != large {
			t.Errorf("%s: ErrTooLarge is in the chain: %v", name, !large)
		}
	}
	if _, err := csr.Parse(make([]byte, csr.MaxDER+1)); !errors.Is(err, csr.ErrTooLarge) {
		t.Errorf("Parse above its size: %v", err)
	}
}

func TestDecodeTakesTheLargestBody(t *testing.T) {
	der := append([]byte{0x30}, make([]byte, csr.MaxDER-1)...)
	body := base64.StdEncoding.EncodeToString(der)
	if len(body) != csr.MaxBody {
		t.Fatalf("%d octets of base64 for %d", len(body), csr.MaxDER)
	}
	if got, err := csr.Decode([]byte(body)); err != nil || len(got) != csr.MaxDER {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// TestLargestInputsAreCheap gives both functions the inputs that would cost most if anything
// grew faster than they do: 1 MiB each. Their time is BenchmarkParseRefusal's.
func TestLargestInputsAreCheap(t *testing.T) {
	full := func(unit string) []byte { return []byte(strings.Repeat(unit, csr.MaxBody/len(unit))) }
	nested := null
	for len(nested) < csr.MaxDER-8 {
		nested = seq(nested)
	}
	inputs := map[string][]byte{
		"hyphens": full("-"), "BEGIN lines": full("-----BEGIN CERTIFICATE REQUEST-----\n"), "END lines": full("-----END CERTIFICATE REQUEST-----"),
		"spaced base64": full("A \n\t"), "nested": nested, "NULLs": seq(seq(full("\x05\x00")[:csr.MaxDER-16])),
		"RDNs": seq(seq([]byte{2, 1, 0}, seq(full("\x31\x00")[:csr.MaxDER-32]))),
	}
	for name, in := range inputs {
		allocated := uint64(1 << 62)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = csr.Decode(in)
			_, _ = csr.Parse(in)
			runtime.ReadMemStats(&after)
			allocated = min(allocated, after.TotalAlloc-before.TotalAlloc)
		}
		if allocated > 1<<20 {
			t.Errorf("%s: %d octets", name, allocated)
		}
	}
}
