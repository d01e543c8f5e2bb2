package serve_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	validatorv1 "github.com/estuary-pki/estuary/proto/estuary/validator/v1"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

const password = "canary-8f2e1c-password"

// What a client or an administrator was given as a secret is found nowhere: not in the log
// at debug level, not in audit or database, not in an error.
func TestSecretsStayInside(t *testing.T) {
	for _, algorithm := range token.Algorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			w := newWorld(t, options{algorithm: algorithm, match: token.MatchRequired})
			good := string(w.create(t, &validatorv1.CreateTokenRequest{}).GetSecret())
			never := string(must(token.Make(20))(t).Reveal())
			var errs strings.Builder
			for _, content := range []string{
				"pump-7:" + good, "pump-8:" + good, ":" + good, "pump-7:" + never, "pump-7:" + good + "x",
				"pump-7:" + password, password + ":x", password + ":" + good, password, good, never + ":" + never,
				good + ":", "u:\x00" + good, "u:\xff" + password, good + "\x1b:" + password,
			} {
				for _, req := range []*validatorv1.AuthenticateRequest{
					request(t, content, newCSR(t)), bare(t, content), foreign(t, content), broken(t, content),
				} {
					_, err := w.authn.Authenticate(t.Context(), req)
					fmt.Fprintf(&errs, "%v %+v %#v\n", err, err, err)
				}
			}
			if got := w.records(t, "credential.accepted"); len(got) != 1 {
				t.Errorf("%d accepted", len(got))
			}
			places := map[string]string{"log and audit stream": w.told(t), "errors": errs.String(), "database": w.dump(t)}
			for place, text := range w.files(t) {
				places[place] = text
			}
			for place, text := range places {
				if len(text) == 0 {
					t.Errorf("%s: nothing to look at", place)
				}
				for name, canary := range map[string]string{"token": good, "unknown token": never, "password": password} {
					for _, leak := range spellings(canary) {
						if strings.Contains(text, leak) {
							t.Errorf("%s: the %s is there as %.12q…", place, name, leak)
						}
					}
				}
			}
		})
	}
}

// bare puts the content behind the scheme as it is.
func bare(t *testing.T, content string) *validatorv1.AuthenticateRequest {
	req := request(t, "", newCSR(t))
	req.GetCredential().GetBasic().Token68 = []byte(content)
	return req
}

// foreign asks under a label that is not configured.
func foreign(t *testing.T, content string) *validatorv1.AuthenticateRequest {
	req := request(t, content, newCSR(t))
	req.Label = "users"
	return req
}

// broken has a certificate request that cannot be read.
func broken(t *testing.T, content string) *validatorv1.AuthenticateRequest {
	req := request(t, content, newCSR(t))
	req.CsrDer = req.GetCsrDer()[1:]
	return req
}

// spellings are the ways in which a secret may be written, and the parts by which it would
// be known.
func spellings(s string) []string {
	middle := s[6:18]
	encoded := base64.StdEncoding.EncodeToString([]byte("u:" + s))
	return []string{
		s, middle, hex.EncodeToString([]byte(middle)), strings.ToUpper(hex.EncodeToString([]byte(middle))),
		encoded[8:32], base64.StdEncoding.EncodeToString([]byte(s))[4:24],
		strings.Trim(fmt.Sprintf("%d", []byte(middle)), "[]"),
	}
}

// dump returns every row of every table, octets in hexadecimal and as they are.
func (w *world) dump(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		all.Reset()
		for _, table := range []string{"enrolment_token", "credential_check", "audit_record", "audit_head"} {
			rows, err := tx.Query(ctx, "SELECT * FROM "+table)
			if err != nil {
				return err
			}
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			for rows.Next() {
				if err := rows.Scan(into...); err != nil {
					return err
				}
				fmt.Fprintf(&all, "%s %x %v\n", values, values, values)
			}
			if err := rows.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// files returns the contents of the database's files.
func (w *world) files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(w.path), "*.db*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) > 0 {
			found[filepath.Base(name)] = string(content)
		}
	}
	return found
}
