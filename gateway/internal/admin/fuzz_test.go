package admin_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
)

// FuzzDecodeObject holds that what is taken is what encoding/json, at its strictest, takes,
// with the same values.
func FuzzDecodeObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"x","count":1,"list":["a","b"]}`, `{"Name":"x"}`, `{"name":"x","name":"y"}`,
		`{"name":null}`, `{"list":[null]}`, `{"count":1e2}`, `{"count":-0}`, `[]`, `{"name":"\u0000\ud800"}`,
		`{} {}`, `{"name":{"a":[`, `{"name":"x"`, "\xef\xbb\xbf{}", `{"list":[],}`,
	} {
		f.Add([]byte(seed))
	}
	type object struct {
		Name  string   `json:"name"`
		Count *uint32  `json:"count"`
		List  []string `json:"list"`
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !utf8.Valid(body) {
			return // refused before
		}
		var got, want object
		if admin.DecodeObject(body, map[string]any{"name": &got.Name, "count": &got.Count, "list": &got.List}) != nil {
			return
		}
		in := json.NewDecoder(bytes.NewReader(body))
		in.DisallowUnknownFields()
		if err := in.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses what was taken: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("another value (-want +got):\n%s", diff)
		}
	})
}
