package systest_test

import (
	"context"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// ticketLabel is the EST label of Kerberos tickets.
const ticketLabel = "ticket"

// ticketSettings is what the validators are told of Kerberos.
type ticketSettings struct {
	keytab, service, realm string
	kinds                  string // of identity; empty for all
	more                   string // lines of [gssapi]
	profile                string // lines of the signer's profile
	label                  string // lines of the validator's label
}

// configure returns the configuration of a service that takes tickets.
func (s ticketSettings) configure(service, text string) string {
	switch service {
	case "signer":
		text = strings.Replace(text, `methods = ["token"`, `methods = ["negotiate", "token"`, 1)
		text = strings.Replace(text, `realms = ["DEVICES"`, fmt.Sprintf(`realms = [%q, "DEVICES"`, s.realm), 1)
		kinds := s.kinds
		if kinds == "" {
			kinds = `"user", "host", "service"`
		}
		return text + fmt.Sprintf(signerTickets, ticketLabel, kinds, s.realm, s.profile)
	case "gateway":
		return text + fmt.Sprintf("\n[[label]]\nname = %q\n", ticketLabel)
	case "validator":
		if !strings.Contains(text, "[throttle]") {
			// The network of the tests is one address, which refuses are many of.
			text += "\n[throttle]\nnetwork_max_failures = 1000000\nglobal_max_failures = 1000000\n"
		}
		return text + fmt.Sprintf(validatorTickets, s.keytab, s.service, s.more, ticketLabel, s.label)
	}
	return text
}

const signerTickets = `
[[profile]]
label = %q
identity_kinds = [%s]
methods = ["negotiate"]
realms = [%q]
%s
`

const validatorTickets = `
[gssapi]
enabled = true
keytab = %q
service_principal = %q
%s
[[label]]
name = %q
basic = "none"
negotiate = true
%s
`

// useTickets has everybody take tickets under a label of theirs.
func (c *cluster) useTickets(s ticketSettings) {
	c.t.Helper()
	for _, n := range c.nodes {
		c.rewrite(n, func(text string) string { return s.configure(n.service, text) })
	}
}

// labTickets are the settings for the KDC of the lab, with a copy of its keytab.
func labTickets(t testing.TB, kdc map[string]string, dir string) ticketSettings {
	t.Helper()
	text, err := os.ReadFile(kdc["KEYTAB"])
	if err != nil {
		t.Fatal(err)
	}
	keytab := filepath.Join(dir, "http.keytab")
	if err := os.WriteFile(keytab, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return ticketSettings{keytab: keytab, service: "HTTP/localhost@" + kdc["REALM"], realm: kdc["REALM"]}
}

// ticket is a service ticket with its session key, as a client has it.
type ticket struct {
	ticket messages.Ticket
	key    types.EncryptionKey
	realm  string
	name   types.PrincipalName
}

// ticketOf logs a user in by password and gets a ticket for HTTP/localhost.
func ticketOf(t testing.TB, kdc map[string]string, user, password string) ticket {
	t.Helper()
	k, err := newTicket(t, kdc, user, password)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newTicket is ticketOf for other goroutines than the test's.
func newTicket(t testing.TB, kdc map[string]string, user, password string) (ticket, error) {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		return ticket{}, err
	}
	cache := filepath.Join(dir, "cache")
	if _, err := runKrb5(t, kdc, password+"\n", "kinit", "-c", "FILE:"+cache, user); err != nil {
		return ticket{}, err
	}
	return serviceTicket(t, kdc, cache, "HTTP/localhost")
}

// serviceTicket gets a ticket for a service of IPA.TEST into the cache, and reads it.
func serviceTicket(t testing.TB, kdc map[string]string, cache, service string) (ticket, error) {
	if _, err := runKrb5(t, kdc, "", "kvno", "-c", "FILE:"+cache, service+"@"+kdc["REALM"]); err != nil {
		return ticket{}, err
	}
	cc, err := credentials.LoadCCache(cache)
	if err != nil {
		return ticket{}, err
	}
	entry, found := cc.GetEntry(types.NewPrincipalName(2, service))
	if !found {
		return ticket{}, fmt.Errorf("no ticket for %s in %s", service, cache)
	}
	got := ticket{key: entry.Key, realm: entry.Client.Realm, name: entry.Client.PrincipalName}
	return got, got.ticket.Unmarshal(entry.Ticket)
}

// krb5 runs a program of MIT Kerberos.
func krb5(t testing.TB, kdc map[string]string, stdin string, words ...string) string {
	t.Helper()
	out, err := runKrb5(t, kdc, stdin, words...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func runKrb5(t testing.TB, kdc map[string]string, stdin string, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+kdc["KRB5_CONFIG"], "KRB5_KDC_PROFILE="+kdc["KRB5_KDC_PROFILE"])
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return string(out), err
}

// header makes a new authenticator, at this time, and returns what stands in Authorization.
func (k ticket) header(at time.Time) (string, error) {
	auth, err := types.NewAuthenticator(k.realm, k.name)
	if err != nil {
		return "", err
	}
	at = at.UTC()
	auth.CTime, auth.Cusec = at.Truncate(time.Second), at.Nanosecond()/1000
	sum := binary.LittleEndian.AppendUint32(nil, 16)
	sum = binary.LittleEndian.AppendUint32(append(sum, make([]byte, 16)...), 2) // mutual authentication
	auth.Cksum = types.Checksum{CksumType: 0x8003, Checksum: sum}
	req, err := messages.NewAPReq(k.ticket, k.key, auth)
	if err != nil {
		return "", err
	}
	types.SetFlag(&req.APOptions, 2)
	inner, err := req.Marshal()
	if err != nil {
		return "", err
	}
	kerberos := asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	token, err := gssToken(kerberos, append([]byte{1, 0}, inner...))
	if err != nil {
		return "", err
	}
	init, err := asn1.MarshalWithParams(struct {
		Mechanisms []asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
		Token      []byte                  `asn1:"explicit,tag:2"`
	}{[]asn1.ObjectIdentifier{kerberos}, token}, "explicit,tag:0")
	if err != nil {
		return "", err
	}
	all, err := gssToken(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}, init)
	return "Negotiate " + base64.StdEncoding.EncodeToString(all), err
}

// gssToken wraps a token of a mechanism (RFC 2743 section 3.1).
func gssToken(mechanism asn1.ObjectIdentifier, inner []byte) ([]byte, error) {
	id, err := asn1.Marshal(mechanism)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, IsCompound: true, Bytes: append(id, inner...)})
}

// enrolByTicket sends one request with that header under the label of tickets.
func (c *cluster) enrolByTicket(ctx context.Context, url, header string, a applicant) answer {
	e, err := a.enrolment()
	if err != nil {
		return answer{err: err}
	}
	e.authorization = header
	resp, text, err := e.post(ctx, c.client, url+"/"+ticketLabel)
	if resp == nil {
		return answer{err: err}
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		return answer{status: resp.StatusCode, text: string(text), err: err}
	}
	leaf, err := certificateOf(text)
	if err == nil && !a.key.PublicKey.Equal(leaf.PublicKey) {
		err = fmt.Errorf("the certificate is for another key, of %q", leaf.Subject.CommonName)
	}
	if err != nil {
		return answer{status: http.StatusTeapot, text: err.Error()}
	}
	return answer{status: resp.StatusCode, der: leaf.Raw}
}
