package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// decode reads the body of r, a JSON object (RFC 8259), into fields: pointers by name, each
// to be found at most once. It is stricter than encoding/json, which takes names in any
// case, the last of two, null for anything, and repairs what is not UTF-8.
func decode(r *http.Request, fields map[string]any) error {
	if err := wantJSON(r.Header); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &problem{status: http.StatusRequestEntityTooLarge, detail: "The body is larger than 16 KiB."}
	}
	if err != nil {
		return &problem{status: http.StatusBadRequest, detail: "The body ended early.", reason: err.Error()}
	}
	if !utf8.Valid(body) {
		return badRequest("The body is not UTF-8.")
	}
	return decodeObject(body, fields)
}

// decodeObject reads the one object that body is.
func decodeObject(body []byte, fields map[string]any) error {
	in := json.NewDecoder(bytes.NewReader(body))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return badRequest("The body is not a JSON object.")
	}
	seen := map[string]bool{}
	for in.More() {
		token, err := in.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return badRequest("The body is not a JSON object.")
		}
		field, known := fields[name]
		switch {
		case !known:
			return badRequest("There is no field %q.", name)
		case seen[name]:
			return badRequest("The field %q stands twice.", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return badRequest("The body is not a JSON object.")
		}
		if hasNull(value) || json.Unmarshal(value, field) != nil {
			return badRequest("The field %q has a value of a wrong type.", name)
		}
	}
	if _, err := in.Token(); err != nil {
		return badRequest("The body is not a JSON object.")
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return badRequest("There is something behind the JSON object.")
	}
	return nil
}

// hasNull tells that a value is null or contains one.
func hasNull(value json.RawMessage) bool {
	in := json.NewDecoder(bytes.NewReader(value))
	for {
		token, err := in.Token()
		if err != nil {
			return false
		}
		if token == nil {
			return true
		}
	}
}

// wantJSON refuses every Content-Type but application/json in UTF-8.
func wantJSON(h http.Header) error {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, named := params["charset"]
	if named {
		delete(params, "charset")
	}
	if err != nil || len(h.Values("Content-Type")) != 1 || kind != "application/json" || len(params) > 0 ||
		named && !strings.EqualFold(charset, "utf-8") || h.Get("Content-Encoding") != "" {
		return &problem{status: http.StatusUnsupportedMediaType, detail: "The body has to be application/json."}
	}
	return nil
}
