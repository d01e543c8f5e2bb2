package admin_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/gateway/internal/admin"
)

// operation is what the tests look at in the description of a method.
type operation struct {
	Scope      string `json:"x-scope"`
	Parameters []struct {
		Name, In string
	}
	RequestBody struct {
		Content map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
	}
	Responses map[string]any
}

type schema struct {
	Properties map[string]any
	Required   []string
	Enum       []string
}

type openAPI struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

func describe(t *testing.T, r *rig) (d openAPI) {
	t.Helper()
	a := r.ask(t, "GET", "/admin/openapi.json", r.reader, "")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	if err := json.Unmarshal([]byte(a.body), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var inBraces = regexp.MustCompile(`\{[^}]*\}`)

// TestDescriptionHasEveryRoute, with its scope, and none that is not there.
func TestDescriptionHasEveryRoute(t *testing.T) {
	d := describe(t, start(t, nil))
	described := map[admin.Route]bool{}
	for path, methods := range d.Paths {
		for method, op := range methods {
			described[admin.Route{Path: inBraces.ReplaceAllString(path, "*"), Method: strings.ToUpper(method), Scope: op.Scope}] = true
			for _, name := range inBraces.FindAllString(path, -1) {
				if !slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return "{"+p.Name+"}" == name && p.In == "path" }) {
					t.Errorf("%s %s does not describe %s", method, path, name)
				}
			}
		}
	}
	real := map[admin.Route]bool{}
	for _, route := range admin.Routes() {
		real[route] = true
	}
	if diff := cmp.Diff(real, described); diff != "" {
		t.Errorf("routes (-real +described):\n%s", diff)
	}
}

// TestDescriptionHasEveryField of every answer, and says which are always there.
func TestDescriptionHasEveryField(t *testing.T) {
	d := describe(t, start(t, nil))
	for name, typ := range admin.Schemas {
		var all, required []string
		for i := range typ.NumField() {
			field, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			all = append(all, field)
			if options != "omitempty" {
				required = append(required, field)
			}
		}
		got := slices.Sorted(maps.Keys(d.Components.Schemas[name].Properties))
		must := slices.Clone(d.Components.Schemas[name].Required)
		for _, list := range [][]string{all, required, must} {
			slices.Sort(list)
		}
		if !slices.Equal(all, got) || !slices.Equal(required, must) {
			t.Errorf("%s: fields %v, described %v; always %v, described %v", name, all, got, required, must)
		}
	}
	if words := d.Components.Schemas["Reason"].Enum; !reflect.DeepEqual(words, slices.Sorted(maps.Keys(admin.Reasons))) {
		t.Errorf("reasons %v", words)
	}
}

// TestDescriptionHasEveryParameter: each that is described is taken, and so is each field of a
// body; one more is refused.
func TestDescriptionHasEveryParameter(t *testing.T) {
	r := start(t, nil)
	d := describe(t, r)
	values := map[string]string{"status": "valid", "expires_before": "2030-01-31T00:00:00Z", "limit": "7"}
	fields := map[string]string{
		"max_uses": "1", "expires_at": `"2031-01-31T00:00:00Z"`, "names": `["dns:a.test"]`,
		"required_spki_sha256": `"` + strings.Repeat("a", 64) + `"`, "reason": `"superseded"`,
	}
	for path, methods := range d.Paths {
		path = strings.NewReplacer("{id}", tokenID, "{serial}", "1").Replace(path)
		for method, op := range methods {
			query := url.Values{}
			for _, p := range op.Parameters {
				if p.In == "query" {
					query.Set(p.Name, values[p.Name])
					if values[p.Name] == "" {
						query.Set(p.Name, "x")
					}
				}
			}
			body := ""
			if ref := op.RequestBody.Content["application/json"].Schema.Ref; ref != "" {
				var parts []string
				for name := range d.Components.Schemas[ref[strings.LastIndexByte(ref, '/')+1:]].Properties {
					value := fields[name]
					if value == "" {
						value = `"x"`
					}
					parts = append(parts, `"`+name+`": `+value)
				}
				body = "{" + strings.Join(parts, ", ") + "}"
			}
			// The fakes answer with an error: anything but 400 says that the request was good.
			ask := func(query url.Values, body string) int {
				return r.ask(t, strings.ToUpper(method), path+"?"+query.Encode(), r.full, body).status
			}
			if status := ask(query, body); status == http.StatusBadRequest {
				t.Errorf("%s %s?%s %s is refused", method, path, query.Encode(), body)
			}
			query.Set("another", "x")
			if status := ask(query, body); status != http.StatusBadRequest {
				t.Errorf("%s %s takes another parameter: %d", method, path, status)
			}
		}
	}
}
